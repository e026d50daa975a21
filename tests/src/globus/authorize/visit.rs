//! One browser at the authorization endpoint: its session, its consent, its answer.

use axum::http::header::{CACHE_CONTROL, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::decide::{Done, Standing, Step, decide};
use super::request::{AuthorizationRequest, Prompt};
use crate::globus::Realm;
use crate::globus::accounts::{Account, Identity};
use crate::globus::consents::Consenting;
use crate::globus::failure::OAuthError;
use crate::globus::faults::{ActiveFault, Fault};
use crate::globus::pages;
use crate::globus::session::Session;
use crate::globus::store::Code;

/// An authorization request in the hands of a browser.
#[derive(Debug)]
pub(super) struct Visit {
    realm: Realm,
    request: AuthorizationRequest,
    /// Of the emulator's own cookie.
    cookie: Option<String>,
    user: Option<(Account, Session)>,
    logged_in_now: bool,
    consented_now: bool,
    /// 302 after a GET, 303 after a form.
    redirect: StatusCode,
    policy_fault: bool,
}

impl Visit {
    pub(super) fn of(
        realm: &Realm,
        request: AuthorizationRequest,
        headers: &HeaderMap,
        redirect: StatusCode,
        fault: &ActiveFault,
    ) -> Self {
        let cookie = session_cookie(headers);
        let session = cookie
            .as_ref()
            .and_then(|cookie| realm.store().session(cookie, realm.now()).cloned());
        let user = session.and_then(|session| Some((realm.account(&session.account)?, session)));
        Self {
            realm: realm.clone(),
            request,
            cookie,
            user,
            logged_in_now: false,
            consented_now: false,
            redirect,
            policy_fault: fault.is(&Fault::SessionPolicyNotMet),
        }
    }

    /// Does what the configured user would do on the pages, unless no page may be shown.
    pub(super) fn log_in_automatically(&mut self) {
        let realm = self.realm.clone();
        let Some(name) = realm.config().auto_login.as_deref() else {
            return;
        };
        if self.request.prompt == Some(Prompt::None) || self.step() == Step::Issue {
            return;
        }
        let Some(account) = realm.account(name) else {
            return;
        };
        // The first identity, then the others until the request is satisfied.
        for identity in account.identities() {
            if !self.logged_in_now || self.unmet().is_some() {
                self.log_in(&account, identity);
            }
        }
        self.consent();
    }

    /// Authenticates an identity, beside those of the same account.
    pub(super) fn log_in(&mut self, account: &Account, identity: &Identity) {
        let now = self.realm.now();
        let own = self.user.take().map(|(_, session)| session);
        let session = match own.filter(|session| session.account == account.primary.sub) {
            Some(mut session) => {
                session.authenticate(account, identity, now);
                session
            }
            None => Session::start(account, identity, now),
        };
        let lifetime = self.realm.config().session_lifetime_seconds;
        let mut store = self.realm.store();
        if let Some(old) = self.cookie.take() {
            store.forget_browser(&old);
        }
        self.cookie = Some(store.add_browser(session.clone(), lifetime, now));
        drop(store);
        self.user = Some((account.clone(), session));
        self.logged_in_now = true;
    }

    /// Records that the user allows what is asked for.
    pub(super) fn consent(&mut self) {
        if self.unmet().is_some() {
            return;
        }
        if let Some((account, _)) = &self.user {
            let who = Consenting {
                account: &account.primary.sub,
                client_id: &self.request.client.client_id,
                offline: self.request.offline,
                now: self.realm.now(),
            };
            self.realm
                .consents()
                .record(who, &self.request.scopes, self.realm.catalog());
            self.consented_now = true;
        }
    }

    /// The page or the redirect that comes next.
    pub(super) fn answer(&self) -> Response {
        let mut response = match (self.step(), &self.user) {
            (Step::Issue, Some((_, session))) => self.issue(session),
            (Step::AskConsent, Some((account, _))) => {
                pages::consent(&self.realm, &self.request, account)
            }
            (Step::RefuseConsent, _) => self.refuse(&OAuthError::consent_required()),
            (Step::RefuseLogin, _) => self.refuse(&OAuthError::login_required()),
            (Step::AskLogin(lacking), _) => pages::login(&self.realm, &self.request, lacking),
            (Step::Issue | Step::AskConsent, None) => {
                pages::login(&self.realm, &self.request, None)
            }
        };
        if self.logged_in_now
            && let Some(cookie) = self
                .cookie
                .as_deref()
                .and_then(|cookie| self.set_cookie(cookie))
        {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        response
    }

    /// Sends the browser back with an error.
    pub(super) fn refuse(&self, error: &OAuthError) -> Response {
        redirect(self.redirect, &self.request.back.with_error(error))
    }

    fn step(&self) -> Step {
        let consented_before = || {
            let (account, _) = self.user.as_ref()?;
            let client_id = &self.request.client.client_id;
            let consents = self.realm.consents();
            Some(consents.cover(&account.primary.sub, client_id, &self.request.scopes))
        };
        let standing = Standing {
            login: match (&self.user, self.logged_in_now) {
                (None, _) => Done::Never,
                (Some(_), true) => Done::Now,
                (Some(_), false) => Done::Before,
            },
            unmet: self.unmet(),
            consent: match consented_before() {
                _ if self.consented_now => Done::Now,
                Some(true) => Done::Before,
                Some(false) | None => Done::Never,
            },
        };
        decide(self.request.prompt, &standing)
    }

    fn unmet(&self) -> Option<String> {
        let (account, session) = self.user.as_ref()?;
        if self.policy_fault {
            return Some("You must authenticate again, as a policy demands.".to_owned());
        }
        let (policies, now) = (&self.realm.config().policies, self.realm.now());
        self.request
            .requirements
            .unmet(session, account, policies, now)
    }

    fn issue(&self, session: &Session) -> Response {
        let (request, now) = (&self.request, self.realm.now());
        let lifetime = self.realm.config().authorization_code_lifetime_seconds;
        let code = Code {
            client_id: request.client.client_id.clone(),
            redirect_uri: request.back.redirect_uri.clone(),
            challenge: request.challenge.clone(),
            scopes: request.scope_names(),
            offline: request.offline,
            session: session.clone(),
            nonce: request.nonce.clone(),
            state: request.back.state.clone(),
            expires_at: now + i64::from(lifetime),
            redeemed: false,
        };
        let code = self.realm.store().add_code(code, now);
        redirect(self.redirect, &request.back.with_code(&code))
    }

    fn set_cookie(&self, cookie: &str) -> Option<HeaderValue> {
        let secure = if self.realm.browser_url().starts_with("https:") {
            "; Secure"
        } else {
            ""
        };
        let lifetime = self.realm.config().session_lifetime_seconds;
        let text = format!(
            "{COOKIE_NAME}={cookie}; Path=/; Max-Age={lifetime}; HttpOnly; SameSite=Lax{secure}"
        );
        HeaderValue::from_str(&text).ok()
    }
}

/// The value of the emulator's cookie.
pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let fields = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = fields
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| name.trim() == COOKIE_NAME)
        .map(|(_, value)| value.trim().to_owned())
}

/// A redirect that no cache keeps.
pub(super) fn redirect(status: StatusCode, uri: &str) -> Response {
    match HeaderValue::from_str(uri) {
        Ok(location) => {
            let no_store = HeaderValue::from_static("no-store");
            (status, [(LOCATION, location), (CACHE_CONTROL, no_store)]).into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Cookies know no ports, so the name must not collide with that of an application on the same host.
pub(crate) const COOKIE_NAME: &str = "globus_emulator_session";

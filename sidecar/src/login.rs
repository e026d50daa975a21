//! A login: the redirect that starts it and the callback that ends it.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use globus_auth_core::identity::{BadIdentity, Groups, Identity};
use globus_auth_core::oauth::authorization_code::Prompt;
use globus_auth_core::oauth::callback::{AuthorizationError, AuthorizationResponse};
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::session::Session;
use globus_auth_core::transaction::{self, LoginTransaction};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use url::form_urlencoded;

use crate::answers;
use crate::app::App;
use crate::authenticate::{session, session_cookie};
use crate::consent;
use crate::cookie;
use crate::live::Live;
use crate::pages::{Format, Page, protect};
use crate::provider::{LoggedIn, LoginError};
use crate::redirect::ReturnTo;
use crate::step_up;
use crate::vault::{Kept, end_at_vault};
use globus_auth_core::runtime::telemetry::Chain;

/// Sends a browser that asked for a page to log in first.
///
/// The attempt's cookie must be set under the external name, or the callback would not find it. A
/// browser that came by another name is sent there first. That address never sends it on again, so an
/// ingress that rewrites `Host` cannot cause a loop.
pub(crate) async fn interrupt(app: &App, live: &Live, request: &Parts) -> Response<Body> {
    let return_to = ReturnTo::from_request(&request.uri, &live.external);
    if has_external_name(request, live) {
        let prompt = match session(&request.headers, live, &app.ended, app.clock.now()) {
            Some(_) => Prompt::Renew,
            None => Prompt::Default,
        };
        let wanted = Wanted {
            return_to,
            prompt,
            ..Wanted::default()
        };
        begin(app, live, &request.headers, wanted).await
    } else {
        redirect(
            &live
                .external
                .join(&answers::start_address(&return_to.into_path())),
        )
    }
}

fn has_external_name(request: &Parts, live: &Live) -> bool {
    let host = request
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
    let default_port = if live.external.scheme() == "https" {
        ":443"
    } else {
        ":80"
    };
    host.is_some_and(|host| {
        host.strip_suffix(default_port)
            .unwrap_or(host)
            .eq_ignore_ascii_case(live.external.authority())
    })
}

/// What a login is to be like.
struct Wanted {
    return_to: ReturnTo,
    prompt: Prompt,
    /// What the login session must have beyond what is always required.
    requirements: SessionRequirements,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            return_to: ReturnTo::start_page(),
            prompt: Prompt::Default,
            requirements: SessionRequirements::default(),
        }
    }
}

/// Sends a person to log in as a workload demands, and back to the page that it would not show.
pub(crate) async fn again(
    app: &App,
    live: &Live,
    headers: &HeaderMap,
    return_to: ReturnTo,
    requirements: SessionRequirements,
) -> Response<Body> {
    let wanted = Wanted {
        return_to,
        prompt: Prompt::Default,
        requirements,
    };
    begin(app, live, headers, wanted).await
}

/// `GET /oauth2/start?rd=…[&prompt=login][&step_up=…]`.
pub(crate) async fn start(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let parameter = |name| query_parameter(&request, name);
    let return_to = parameter("rd").map_or_else(ReturnTo::start_page, |rd| {
        ReturnTo::parse(&rd, &live.external)
    });
    let prompt = match parameter("prompt").as_deref() {
        Some("login") => Prompt::Login,
        Some(_) | None => Prompt::Default,
    };
    let requirements = parameter(step_up::PARAMETER)
        .and_then(|value| step_up::open(&value, &live.step_ups, app.clock.now()));
    let wanted = Wanted {
        return_to,
        prompt,
        requirements: requirements.unwrap_or_default(),
    };
    begin(&app, &live, &request.headers, wanted).await
}

/// The first parameter of this name in the query.
pub(crate) fn query_parameter(request: &Parts, name: &str) -> Option<String> {
    let query = request.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

async fn begin(app: &App, live: &Live, headers: &HeaderMap, wanted: Wanted) -> Response<Body> {
    let host = live.external.authority();
    let now = app.clock.now();
    let Wanted {
        return_to,
        prompt,
        requirements,
    } = wanted;
    let return_to = return_to.into_path();
    let Ok(transaction) = LoginTransaction::start(return_to.clone(), now) else {
        return answers::internal_error().respond(Format::of(headers), host);
    };
    let address = match live
        .provider
        .authorization_url(&transaction, prompt, &requirements)
        .await
    {
        Ok(address) => address,
        Err(error) => {
            return failed(app, live, &error, &return_to).respond(Format::of(headers), host);
        }
    };
    let Some(cookie) = transaction_cookie(&transaction, live) else {
        return answers::internal_error().respond(Format::of(headers), host);
    };
    let mut response = redirect(address.as_str());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    for name in surplus_attempts(headers, live, app) {
        forget(&mut response, &name);
    }
    response
}

fn transaction_cookie(transaction: &LoginTransaction, live: &Live) -> Option<HeaderValue> {
    let name = transaction_cookie_name(&transaction.state())?;
    let value = transaction.seal(&live.transactions).ok()?;
    cookie::set(&name, &value, transaction::LIFETIME).ok()
}

fn transaction_cookie_name(state: &str) -> Option<String> {
    LoginTransaction::cookie_suffix(state).map(|suffix| format!("{}{suffix}", cookie::LOGIN_PREFIX))
}

/// Attempts to forget, so that a browser with many tabs does not grow its cookies for ever: those that
/// are no longer good, and the oldest beyond [`MAX_ATTEMPTS`].
fn surplus_attempts(headers: &HeaderMap, live: &Live, app: &App) -> Vec<String> {
    let now = app.clock.now();
    let mut attempts: Vec<_> = cookie::all(headers)
        .filter_map(|(name, value)| {
            let name = std::str::from_utf8(name).ok()?;
            name.starts_with(cookie::LOGIN_PREFIX).then(|| {
                let opened = LoginTransaction::open(&live.transactions, value, now);
                (
                    opened.ok().map(|attempt| attempt.started_at),
                    name.to_owned(),
                )
            })
        })
        .collect();
    attempts.sort_by_key(|(started_at, _)| Reverse(*started_at));
    let is_good = |(position, (started_at, _)): &(usize, (Option<_>, String))| {
        started_at.is_some() && *position < MAX_ATTEMPTS - 1
    };
    let surplus = attempts
        .into_iter()
        .enumerate()
        .filter(|attempt| !is_good(attempt));
    surplus.map(|(_, (_, name))| name).collect()
}

/// `GET /oauth2/callback`: where the provider sends the browser back to (RFC 6749 §4.1.2).
pub(crate) async fn callback(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let headers = &request.headers;
    let host = live.external.authority();
    match AuthorizationResponse::parse(request.uri.query().unwrap_or_default()) {
        Ok(AuthorizationResponse::Code {
            state,
            code,
            issuer,
        }) => {
            let Some(transaction) = take_transaction(&app, &live, headers, &state) else {
                return without_transaction(&app, &live, headers);
            };
            let mut response =
                complete(&app, &live, headers, &transaction, code, issuer.as_deref()).await;
            forget_transaction(&mut response, &state);
            response
        }
        Ok(AuthorizationResponse::Error { state, error }) => {
            let mut response = refused(&app, &live, error).respond(Format::of(headers), host);
            if let Some(state) = state {
                forget_transaction(&mut response, &state);
            }
            response
        }
        Err(reason) => {
            tracing::debug!(%reason, "refused a callback");
            match session(headers, &live, &app.ended, app.clock.now()) {
                Some(_) => redirect(&ReturnTo::start_page().location(&live.external)),
                None => answers::bad_callback().respond(Format::of(headers), host),
            }
        }
    }
}

/// The attempt to which `state` belongs, at most once. The state is compared, and spent, before
/// anything is asked of the provider.
fn take_transaction(
    app: &App,
    live: &Live,
    headers: &HeaderMap,
    state: &str,
) -> Option<LoginTransaction> {
    let cookie = cookie::find(headers, &transaction_cookie_name(state)?)?;
    let transaction = LoginTransaction::open(&live.transactions, cookie, app.clock.now()).ok()?;
    (transaction.has_state(state) && app.spent.spend(state)).then_some(transaction)
}

/// Somebody went back in the browser, or used a link twice. With a session, there is nothing left to do.
fn without_transaction(app: &App, live: &Live, headers: &HeaderMap) -> Response<Body> {
    if session(headers, live, &app.ended, app.clock.now()).is_some() {
        return redirect(&ReturnTo::start_page().location(&live.external));
    }
    app.metrics.login("no_transaction");
    answers::no_such_login().respond(Format::of(headers), live.external.authority())
}

async fn complete(
    app: &App,
    live: &Live,
    headers: &HeaderMap,
    transaction: &LoginTransaction,
    code: String,
    issuer: Option<&str>,
) -> Response<Body> {
    let host = live.external.authority();
    let now = app.clock.now();
    let LoggedIn {
        mut identity,
        groups_are_unknown,
        provider_session,
        kept,
    } = match live
        .provider
        .redeem(code, issuer, transaction, live, now)
        .await
    {
        Ok(logged_in) => logged_in,
        Err(error) => {
            return failed(app, live, &error, &transaction.return_to)
                .respond(Format::of(headers), host);
        }
    };
    if groups_are_unknown {
        keep_groups_of_session(app, live, headers, &mut identity);
        if !live.rules.allow(&identity, now) {
            app.metrics.login("groups_unknown");
            forget_kept(live, kept).await;
            return answers::groups_unknown(live, &transaction.return_to)
                .respond(Format::of(headers), host);
        }
    }
    if !live.rules.allow(&identity, now) {
        app.metrics.login("not_allowed");
        tracing::info!(user = %identity.subject, "refused a login: not on the list");
        forget_kept(live, kept).await;
        return answers::not_allowed(live, &identity).respond(Format::of(headers), host);
    }
    let before = session(headers, live, &app.ended, now);
    let session = Session::start(identity, live.limits, now).map(|session| Session {
        // The vault has made it just now, at random.
        id: kept.map_or(session.id, |kept| kept.session),
        provider_session,
        ..session
    });
    let cookie = session.ok().and_then(|session| {
        tracing::info!(user = %session.identity.subject, "a user logged in");
        session_cookie(&session, live, now)
    });
    let Some(cookie) = cookie else {
        return answers::internal_error().respond(Format::of(headers), host);
    };
    app.metrics.login("success");
    if let (Some(vault), Some(before)) = (live.provider.vault(), before) {
        // Nobody holds its cookie any more.
        tokio::spawn(end_at_vault(Arc::clone(vault), before.id));
    }
    let return_to = ReturnTo::parse(&transaction.return_to, &live.external);
    let location = match kept {
        Some(kept) if kept.needs_consent => consent::address(return_to),
        Some(_) | None => return_to.location(&live.external),
    };
    let mut response = redirect(&location);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// The vault keeps nothing of a login that was refused.
async fn forget_kept(live: &Live, kept: Option<Kept>) {
    let (Some(vault), Some(kept)) = (&live.vault, kept) else {
        return;
    };
    vault.forget(kept).await;
}

/// While the provider does not tell about groups, what it told for the session before counts, as long as
/// it would have counted there.
fn keep_groups_of_session(app: &App, live: &Live, headers: &HeaderMap, identity: &mut Identity) {
    let now = app.clock.now();
    let before = session(headers, live, &app.ended, now).map(|session| session.identity);
    if let Some(before) = before.filter(|before| before.subject == identity.subject) {
        identity.groups = Groups {
            asked_at: now,
            ..before.groups
        };
    }
}

fn refused(app: &App, live: &Live, error: AuthorizationError) -> Page {
    app.metrics.login("refused_by_provider");
    tracing::info!(oauth.error = error.as_str(), "the provider refused a login");
    answers::refused_by_provider(live, error.as_str())
}

/// What somebody reads whose login did not work, with a way to try again to where they wanted, and what
/// the log says about it.
fn failed(app: &App, live: &Live, error: &LoginError, return_to: &str) -> Page {
    let reference = answers::reference();
    app.metrics.login(error.category());
    tracing::warn!(error = %Chain(error), category = error.category(), request_id = %reference, "a login failed");
    let page = if let LoginError::Identity(BadIdentity::EmailNotVerified) = error {
        answers::email_not_verified(live, return_to)
    } else if let LoginError::SessionRequirements = error {
        answers::session_requirements(return_to)
    } else if error.is_outage() {
        answers::provider_down(live, return_to)
    } else {
        answers::login_failed(return_to)
    };
    page.reference(reference)
}

fn forget_transaction(response: &mut Response<Body>, state: &str) {
    if let Some(name) = transaction_cookie_name(state) {
        forget(response, &name);
    }
}

fn forget(response: &mut Response<Body>, name: &str) {
    // A state of the request that is no cookie name makes no header, and needs none.
    response.headers_mut().extend(cookie::clear(name));
}

/// 302, never cached.
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    protect(response.headers_mut());
    match HeaderValue::from_str(location) {
        Ok(location) => drop(response.headers_mut().insert(header::LOCATION, location)),
        Err(_not_ascii) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// Attempts that one browser may have open at a time; about 400 bytes of cookie each.
const MAX_ATTEMPTS: usize = 8;

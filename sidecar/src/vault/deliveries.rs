//! The tokens that the workload gets: in headers, at routes, in files.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::jwt;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::{Session, SessionId};
use globus_auth_core::sidecar_config::{DeliveredToken, GrantType};
use globus_auth_core::vault_api::{
    DELEGATED_TOKENS, DelegatedTokenRequest, OWN_TOKENS, OwnTokenRequest, TOKENS, Token,
    TokenAnswer, TokenRequest, fingerprint,
};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{BadVault, Vault, VaultError};
use crate::bearer;
use crate::decide::Permit;
use crate::origin::Origin;
use crate::outbound::PASS;
use crate::workload::Workload;

/// Whose a token is: of the user of a session, or of nobody but the vault's client.
pub(crate) type Holder = Option<SessionId>;

/// One token that the workload gets, and how.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) token: DeliveredToken,
    pub(crate) header: Option<HeaderName>,
    pub(crate) origin: Option<Workload>,
}

impl Delivery {
    /// Whose the token is, with a request of the user of `session`.
    fn holder(&self, session: SessionId) -> Holder {
        match self.token.grant_type {
            GrantType::AuthorizationCode => Some(session),
            GrantType::ClientCredentials => None,
        }
    }
}

/// A token, ready to be sent.
pub(crate) struct Delivered {
    /// The token alone.
    pub(crate) bare: HeaderValue,
    /// `Bearer` and the token.
    pub(crate) bearer: HeaderValue,
    fingerprint: String,
    good_until: Instant,
    /// If the user must soon log in again: in how many seconds.
    pub(crate) session_ends_in: Option<u64>,
}

impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivered").finish_non_exhaustive()
    }
}

impl Vault {
    /// The token for a file: of the user who is away, or of the vault's client itself.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn token_for_file(
        &self,
        wanted: &DeliveredToken,
        user: Option<(&str, &str)>,
    ) -> Result<Token, VaultError> {
        let answer = match (wanted.grant_type, user) {
            (GrantType::ClientCredentials, _) => {
                let request = OwnTokenRequest {
                    resource_server: wanted.resource_server.clone(),
                    scopes: wanted.scopes.clone(),
                    rejected: None,
                };
                self.ask(OWN_TOKENS, &request).await?
            }
            (GrantType::AuthorizationCode, Some((issuer, subject))) => {
                let request = DelegatedTokenRequest {
                    issuer: issuer.to_owned(),
                    subject: subject.to_owned(),
                    resource_server: wanted.resource_server.clone(),
                    scopes: wanted.scopes.clone(),
                };
                self.ask(DELEGATED_TOKENS, &request).await?
            }
            (GrantType::AuthorizationCode, None) => return Err(VaultError::NoUser),
        };
        token_of(answer)
    }

    /// The token of the delivery at `index`, of `holder`; another one than `rejected`.
    /// However many wait for it, the vault is asked once.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn token(
        &self,
        holder: Holder,
        index: usize,
        rejected: Option<&Delivered>,
    ) -> Result<Arc<Delivered>, VaultError> {
        let key = (holder, index);
        let is_useless = |token: &Arc<Delivered>| {
            token.good_until <= Instant::now()
                || rejected.is_some_and(|rejected| rejected.fingerprint == token.fingerprint)
        };
        self.tokens.remove_if(&key, is_useless);
        let refused = self.refusals.get(&key);
        if refused.is_some_and(|until| Instant::now() < until) {
            return Err(VaultError::Refused(StatusCode::FORBIDDEN));
        }
        let rejected = rejected.map(|token| token.fingerprint.clone());
        let token = self
            .tokens
            .get_or_insert_async(&key, self.fetch(holder, index, rejected))
            .await;
        if let Err(VaultError::Refused(StatusCode::FORBIDDEN)) = token {
            // It would say the same to each request.
            self.refusals.insert(key, Instant::now() + REFUSED_FOR);
        }
        token
    }

    async fn fetch(
        &self,
        holder: Holder,
        index: usize,
        rejected: Option<String>,
    ) -> Result<Arc<Delivered>, VaultError> {
        let wanted = &self.deliveries.get(index).ok_or(VaultError::Answer)?.token;
        let answer = if let Some(session) = holder {
            self.ask_for_user(session, wanted, rejected).await?
        } else {
            let request = OwnTokenRequest {
                resource_server: wanted.resource_server.clone(),
                scopes: wanted.scopes.clone(),
                rejected,
            };
            self.ask(OWN_TOKENS, &request).await?
        };
        let token = token_of(answer)?;
        delivered(&token)
    }

    async fn ask_for_user(
        &self,
        session: SessionId,
        wanted: &DeliveredToken,
        rejected: Option<String>,
    ) -> Result<TokenAnswer, VaultError> {
        let mut request = TokenRequest {
            handle: self.handle(session).await?,
            resource_server: wanted.resource_server.clone(),
            scopes: wanted.scopes.clone(),
            rejected,
            subject_token: self.bearers.get(&session),
        };
        match self.ask(TOKENS, &request).await {
            // The vault was restored, or the session was ended there: a new handle tells.
            Err(VaultError::Refused(StatusCode::FORBIDDEN)) => {
                self.handles.remove(&session);
                request.handle = self.handle(session).await?;
                self.ask(TOKENS, &request).await
            }
            answer => answer,
        }
    }

    /// What the workload shows, in `X-Globus-Auth-Session`, to act for the user of `session`.
    fn pass(&self, session: &Session) -> Option<HeaderValue> {
        let made = self.passes_of.get_or_insert_with(&session.id, || {
            let bytes = globus_auth_core::random::bytes::<32>()?;
            let text = URL_SAFE_NO_PAD.encode(bytes);
            self.passes.insert(text.clone(), Arc::new(session.clone()));
            let mut value = HeaderValue::try_from(text)
                .map_err(|_never| globus_auth_core::random::Unavailable)?;
            value.set_sensitive(true);
            Ok::<_, globus_auth_core::random::Unavailable>(value)
        });
        made.ok()
    }

    /// The session for which the bearer token of a request stands that was admitted by it, if the vault takes it.
    pub(crate) fn bearer_session(
        &self,
        permit: &Permit,
        headers: &HeaderMap,
        now: UnixSeconds,
    ) -> Option<Session> {
        let client = self.config.bearer_tokens.as_ref()?;
        let (identity, until) = permit.bearer()?;
        let token = bearer::token(headers)?;
        let is_of_issuer = !token.contains('.') || jwt::claims_issuer(token, &client.issuer);
        if identity.service_account.is_some() || !is_of_issuer {
            return None;
        }
        let id = session_id(token);
        if self.bearers.peek(&id).is_none() {
            self.bearers.insert(id, token.into());
        }
        Some(Session {
            id,
            identity: identity.clone(),
            logged_in_at: now,
            seen_at: now,
            provider_session: None,
            last_end: until,
        })
    }

    /// Gives the workload what it gets with a request of the user of `session`. A token that cannot be had
    /// is left out: the request is the user's, and its workload knows what it needs.
    pub(crate) async fn attach(&self, session: &Session, headers: &mut HeaderMap) {
        if self.has_routes()
            && let Some(pass) = self.pass(session)
        {
            headers.insert(PASS, pass);
        }
        let mut ends_in = None;
        for (index, delivery) in self.deliveries.iter().enumerate() {
            let Some(name) = &delivery.header else {
                continue;
            };
            match self.token(delivery.holder(session.id), index, None).await {
                Ok(token) => {
                    headers.insert(name.clone(), token.bare.clone());
                    ends_in = ends_in.into_iter().chain(token.session_ends_in).min();
                }
                Err(error) => {
                    let token = &delivery.token.name;
                    tracing::warn!(error = %Chain(&error), token, "a request goes on without a token");
                }
            }
        }
        warn(headers, ends_in);
    }

    /// Whose pass this is.
    pub(crate) fn holder(&self, pass: &str) -> Option<Arc<Session>> {
        self.passes.get(pass)
    }

    /// Whether any token is attached to requests of the workload.
    fn has_routes(&self) -> bool {
        self.deliveries.iter().any(|one| one.origin.is_some())
    }
}

pub(super) fn delivery(token: &DeliveredToken) -> Result<Delivery, BadVault> {
    let is_file = |name: &String| !name.starts_with('.') && !name.contains(['/', '\0']);
    if !token.file.as_ref().is_none_or(is_file) {
        return Err(BadVault::File);
    }
    let header = token.header.as_ref().map(|name| name.parse()).transpose();
    let route = token.route.as_ref();
    let origin = route.map(|route| Origin::remote(&route.upstream));
    Ok(Delivery {
        header: header.map_err(|_syntax| BadVault::Header)?,
        origin: origin
            .transpose()
            .map_err(BadVault::Origin)?
            .map(Workload::new),
        token: token.clone(),
    })
}

/// Says that a user must soon log in again.
pub(crate) fn warn(headers: &mut HeaderMap, session_ends_in: Option<u64>) {
    if let Some(seconds) = session_ends_in {
        headers.insert(SESSION_ENDS_IN, seconds.into());
    }
}

fn token_of(answer: TokenAnswer) -> Result<Token, VaultError> {
    match answer {
        TokenAnswer::Token(token) => Ok(token),
        TokenAnswer::ConsentRequired { .. } => Err(VaultError::Consent),
        TokenAnswer::ReauthenticationRequired {
            scopes,
            requirements,
        } => Err(VaultError::Reauthenticate(SessionRequirements {
            required_scopes: scopes,
            ..requirements
        })),
    }
}

fn delivered(token: &Token) -> Result<Arc<Delivered>, VaultError> {
    let value = |text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_bytes| VaultError::Answer)?;
        value.set_sensitive(true);
        Ok(value)
    };
    // The vault knows when a token is near its end; it is asked again soon.
    let kept = token.lifetime().min(LONGEST_KEPT);
    let secret = &token.access_token;
    Ok(Arc::new(Delivered {
        bare: value(secret.expose_secret())?,
        bearer: value(&format!("Bearer {}", secret.expose_secret()))?,
        fingerprint: fingerprint(secret),
        good_until: Instant::now() + kept,
        session_ends_in: token.session_ends_in,
    }))
}

/// The session for which a bearer token stands. The vault's are random, so it is none of theirs.
fn session_id(token: &str) -> SessionId {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut id = [0; 16];
    for (byte, hashed) in id.iter_mut().zip(digest.as_ref()) {
        *byte = *hashed;
    }
    SessionId::from_bytes(id)
}

/// In how many seconds the issuer wants the user to log in again.
const SESSION_ENDS_IN: HeaderName = HeaderName::from_static("x-globus-auth-session-ends-in");

/// A policy that is changed counts after so long.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// After so long, a token that was revoked is not sent any more.
const LONGEST_KEPT: Duration = Duration::from_secs(30);

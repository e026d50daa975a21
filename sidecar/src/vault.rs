//! The vault, as a sidecar asks it: hands over codes, and gets access tokens for the users who are logged
//! in here. No refresh token ever comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::authorization_code::{OtherToken, Tokens};
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::jwt;
use globus_auth_core::runtime::http_client::{BadTrust, HttpClient, SendError};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::{Session, SessionId};
use globus_auth_core::sidecar_config::{DeliveredToken, GrantType, Vault as Config};
use globus_auth_core::transaction::LoginTransaction;
use globus_auth_core::vault_api::{
    BEARER_SESSIONS, BearerRequest, CONNECT, CONNECTED, CONNECTIONS, CONSENT, ConnectAnswer,
    ConnectRequest, ConnectedRequest, ConnectionsRequest, ConnectionsResponse, ConsentRequest,
    ConsentedService, DELEGATE, DELEGATED_TOKENS, DISCONNECT, DelegateRequest,
    DelegatedTokenRequest, Delegation, DisconnectRequest, END_DELEGATION, EndDelegationRequest,
    LOGINS, LoginRequest, LoginResponse, OWN_TOKENS, OwnTokenRequest, SESSIONS, SESSIONS_END,
    SessionRequest, SessionResponse, TOKENS, Token, TokenAnswer, TokenRequest, fingerprint,
};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::bearer;
use crate::decide::Permit;
use crate::origin::{BadOrigin, Origin};
use crate::outbound::PASS;
use crate::workload::Workload;

/// Our vault.
pub(crate) struct Vault {
    config: Config,
    http: HttpClient,
    identity_token: PathBuf,
    /// In the order of the configuration.
    pub(crate) deliveries: Vec<Delivery>,
    handles: Cache<SessionId, SecretString>,
    /// The bearer tokens that stand for sessions.
    bearers: Cache<SessionId, SecretString>,
    tokens: Cache<(Holder, usize), Arc<Delivered>>,
    /// What the workload shows for a user whose request it serves: works in this pod only.
    passes: Cache<String, Arc<Session>>,
    passes_of: Cache<SessionId, HeaderValue>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("url", &self.config.url)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}

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

/// What the vault keeps of a login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// How it calls the session.
    pub(crate) session: SessionId,
    /// Whether the user must still let the workload use what came.
    pub(crate) needs_consent: bool,
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
    /// # Errors
    /// [`BadVault`].
    pub(crate) fn new(config: Config, identity_token: PathBuf) -> Result<Self, BadVault> {
        let deliveries = config.tokens.iter().map(delivery);
        Ok(Self {
            http: HttpClient::with_authorities(&config.certificate_authorities)
                .map_err(BadVault::Trust)?,
            deliveries: deliveries.collect::<Result<_, _>>()?,
            config,
            identity_token,
            handles: Cache::new(MAX_SESSIONS),
            bearers: Cache::new(MAX_SESSIONS),
            tokens: Cache::new(MAX_SESSIONS),
            passes: Cache::new(MAX_SESSIONS),
            passes_of: Cache::new(MAX_SESSIONS),
        })
    }

    /// What users are asked for.
    pub(crate) fn deliveries_for_users(&self) -> impl Iterator<Item = &DeliveredToken> + Clone {
        let tokens = self.deliveries.iter().map(|delivery| &delivery.token);
        tokens.filter(|token| token.is_for_users())
    }

    /// Whether this was made of the same configuration.
    pub(crate) fn is(&self, config: &Config) -> bool {
        self.config == *config
    }

    /// Has the code of a login redeemed. The session is named by the vault, which knows it by that name.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn login(
        &self,
        (issuer, client_id, redirect_uri): (&str, &str, &str),
        code: String,
        transaction: &LoginTransaction,
    ) -> Result<(Tokens, Kept), VaultError> {
        let request = LoginRequest {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            code: code.into(),
            code_verifier: transaction.code_verifier().into_secret().into(),
            nonce: transaction.nonce().into(),
        };
        let response: LoginResponse = self.ask(LOGINS, &request).await?;
        let session = URL_SAFE_NO_PAD.decode(response.session.expose_secret());
        let session: [u8; 16] = session
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(VaultError::Answer)?;
        let other_tokens = response.other_tokens.into_iter().map(|token| OtherToken {
            resource_server: token.resource_server,
            access_token: token.access_token,
        });
        let tokens = Tokens {
            access_token: response.access_token,
            id_token: response.id_token,
            other_tokens: other_tokens.collect(),
        };
        let kept = Kept {
            session: SessionId::from_bytes(session),
            needs_consent: response.needs_consent,
        };
        Ok((tokens, kept))
    }

    /// Tells the vault that a session has ended.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn end(&self, session: SessionId) -> Result<(), VaultError> {
        self.handles.remove(&session);
        for index in 0..self.deliveries.len() {
            self.tokens.remove(&(Some(session), index));
        }
        if let Some((_, pass)) = self.passes_of.remove(&session)
            && let Ok(pass) = pass.to_str()
        {
            self.passes.remove(pass);
        }
        let request = SessionRequest {
            session: name(session),
        };
        self.tell(SESSIONS_END, &request).await
    }

    /// What the user of `session` has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connections(
        &self,
        session: SessionId,
    ) -> Result<ConnectionsResponse, VaultError> {
        let handle = self.handle(session).await?;
        self.ask(CONNECTIONS, &ConnectionsRequest { handle }).await
    }

    /// Begins to connect the service of `token` for the user of `session`, at the issuer that it names; a browser that
    /// goes there comes back to `redirect_uri`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connect(
        &self,
        session: SessionId,
        token: &DeliveredToken,
        redirect_uri: String,
    ) -> Result<ConnectAnswer, VaultError> {
        let request = ConnectRequest {
            handle: self.handle(session).await?,
            issuer: token.issuer.clone().ok_or(VaultError::Answer)?,
            resource_server: token.resource_server.clone(),
            scopes: token.scopes.clone(),
            redirect_uri,
        };
        self.ask(CONNECT, &request).await
    }

    /// Hands over the code that the browser of `session` brought back from `issuer`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connected(
        &self,
        session: SessionId,
        issuer: String,
        (state, code): (String, String),
        response_issuer: Option<String>,
    ) -> Result<(), VaultError> {
        let request = ConnectedRequest {
            handle: self.handle(session).await?,
            issuer,
            state: state.into(),
            code: code.into(),
            response_issuer,
        };
        self.tell(CONNECTED, &request).await
    }

    /// Takes back what the user of `session` has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn disconnect(
        &self,
        session: SessionId,
        resource_server: &str,
    ) -> Result<(), VaultError> {
        for (index, delivery) in self.deliveries.iter().enumerate() {
            if delivery.token.resource_server == resource_server {
                self.tokens.remove(&(Some(session), index));
            }
        }
        let request = DisconnectRequest {
            handle: self.handle(session).await?,
            resource_server: resource_server.to_owned(),
        };
        self.tell(DISCONNECT, &request).await
    }

    /// Tells that the user of `session` lets the workload use `services`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn consent(
        &self,
        session: SessionId,
        services: Vec<ConsentedService>,
    ) -> Result<(), VaultError> {
        let handle = self.handle(session).await?;
        let request = ConsentRequest { handle, services };
        self.tell(CONSENT, &request).await
    }

    /// Lets pods act for the user of `session` while they are away, as the delivery of a token says.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn delegate(
        &self,
        session: SessionId,
        token: &DeliveredToken,
    ) -> Result<(), VaultError> {
        let delegation = token.delegation.as_ref().ok_or(VaultError::Answer)?;
        let request = DelegateRequest {
            handle: self.handle(session).await?,
            resource_server: token.resource_server.clone(),
            service_account: delegation.service_account.clone(),
            days: delegation.days,
        };
        self.ask(DELEGATE, &request)
            .await
            .map(|_given: Delegation| ())
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn end_delegation(
        &self,
        session: SessionId,
        resource_server: &str,
        service_account: &str,
    ) -> Result<(), VaultError> {
        let request = EndDelegationRequest {
            handle: self.handle(session).await?,
            resource_server: resource_server.to_owned(),
            service_account: service_account.to_owned(),
        };
        self.tell(END_DELEGATION, &request).await
    }

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
        let rejected = rejected.map(|token| token.fingerprint.clone());
        self.tokens
            .get_or_insert_async(&key, self.fetch(holder, index, rejected))
            .await
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

    async fn handle(&self, session: SessionId) -> Result<SecretString, VaultError> {
        let open = async {
            let bearer = self.bearers.get(&session);
            let opened: Result<SessionResponse, _> =
                if let (Some(token), Some(client)) = (bearer, &self.config.bearer_tokens) {
                    let request = BearerRequest {
                        issuer: client.issuer.as_str().to_owned(),
                        client_id: client.client_id.clone(),
                        token,
                    };
                    self.ask(BEARER_SESSIONS, &request).await
                } else {
                    let session = name(session);
                    self.ask(SESSIONS, &SessionRequest { session }).await
                };
            opened.map(|opened| opened.handle)
        };
        self.handles.get_or_insert_async(&session, open).await
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

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<T, VaultError> {
        let body = serde_json::to_vec(request).map_err(VaultError::Encode)?;
        let answer = self.send(path, body).await?;
        serde_json::from_slice(&answer).map_err(|_quotes_values| VaultError::Answer)
    }

    async fn tell(&self, path: &str, request: &(impl Serialize + Sync)) -> Result<(), VaultError> {
        let body = serde_json::to_vec(request).map_err(VaultError::Encode)?;
        self.send(path, body).await.map(drop)
    }

    async fn send(&self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        // Read each time: the kubelet rotates it.
        let token = tokio::fs::read_to_string(&self.identity_token)
            .await
            .map_err(VaultError::IdentityToken)?;
        let request = Request::post(format!("{}{path}", self.config.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(body)
            .map_err(VaultError::Request)?;
        let response = self.http.send(request).await.map_err(VaultError::Send)?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(response.into_body()),
            status => Err(VaultError::Refused(status)),
        }
    }
}

fn delivery(token: &DeliveredToken) -> Result<Delivery, BadVault> {
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

/// In how many seconds the issuer wants the user to log in again.
const SESSION_ENDS_IN: HeaderName = HeaderName::from_static("x-globus-auth-session-ends-in");

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

fn name(session: SessionId) -> SecretString {
    URL_SAFE_NO_PAD.encode(session.as_bytes()).into()
}

/// So many users at a time are served without asking the vault again.
const MAX_SESSIONS: usize = 4096;
/// After so long, a token that was revoked is not sent any more.
const LONGEST_KEPT: Duration = Duration::from_secs(30);

/// Why a vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadVault {
    #[error("a token's file is not a name")]
    File,
    #[error("a token's header is not a name")]
    Header,
    #[error("a token's route cannot be asked")]
    Origin(#[source] BadOrigin),
    #[error("the sidecar has no identity for the vault; restart the pod")]
    NoIdentity,
    #[error("vault.certificateAuthorities cannot be used")]
    Trust(#[source] BadTrust),
}

/// Why the vault gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("the vault's answer is not what it must be")]
    Answer,
    #[error("the user has not let this workload use the service")]
    Consent,
    #[error("failed to write a request")]
    Encode(#[source] serde_json::Error),
    #[error("failed to read the identity token")]
    IdentityToken(#[source] std::io::Error),
    #[error("the pod names no user to act for")]
    NoUser,
    #[error("only the user can help, by another login")]
    Reauthenticate(SessionRequirements),
    #[error("the vault answered with status {0}")]
    Refused(StatusCode),
    #[error("failed to make a request")]
    Request(#[source] http::Error),
    #[error("failed to reach the vault")]
    Send(#[source] SendError),
}

//! The vault, as a sidecar asks it: hands over codes, and gets access tokens for the users who are logged
//! in here. No refresh token ever comes back.

mod connections;
mod deliveries;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::oauth::authorization_code::{OtherToken, Tokens};
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::runtime::http_client::{BadTrust, HttpClient, SendError};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::{Session, SessionId};
use globus_auth_core::sidecar_config::{DeliveredToken, Vault as Config};
use globus_auth_core::transaction::LoginTransaction;
use globus_auth_core::vault_api::{
    BEARER_SESSIONS, BearerRequest, LOGINS, LoginRequest, LoginResponse, SESSIONS, SESSIONS_END,
    SessionRequest, SessionResponse,
};
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub(crate) use self::deliveries::{Delivered, warn};
use self::deliveries::{Delivery, Holder, delivery};
use crate::origin::BadOrigin;

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
    /// Until when the vault is not asked again, because it refused.
    refusals: Cache<(Holder, usize), Instant>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("url", &self.config.url)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
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
            refusals: Cache::new(MAX_SESSIONS),
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
        longest: Duration,
    ) -> Result<(Tokens, Kept), VaultError> {
        let request = LoginRequest {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            code: code.into(),
            code_verifier: transaction.code_verifier().into_secret().into(),
            nonce: transaction.nonce().into(),
            session_seconds: Some(longest.as_secs()),
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

    /// Ends what the vault keeps of a login that was refused.
    pub(crate) async fn forget(&self, kept: Kept) {
        if let Err(error) = self.end(kept.session).await {
            tracing::warn!(error = %Chain(&error), "the vault keeps tokens of a login that was refused");
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

/// Tells the vault of a session that ended until it has heard: what the user consented to is taken back there.
pub(crate) async fn end_at_vault(vault: Arc<Vault>, session: SessionId) {
    for wait in END_AT_VAULT {
        match vault.end(session).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to tell the vault of a session that ended");
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn name(session: SessionId) -> SecretString {
    URL_SAFE_NO_PAD.encode(session.as_bytes()).into()
}

/// How long to wait after each failure; ten minutes in all.
const END_AT_VAULT: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(3),
    Duration::from_mins(5),
];

/// So many users at a time are served without asking the vault again.
const MAX_SESSIONS: usize = 4096;

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

//! The API that sidecars use.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::vault_api::{
    BEARER_SESSIONS, BearerRequest, CONNECT, CONNECTED, CONNECTIONS, CONSENT, ConnectAnswer,
    ConnectRequest, ConnectedRequest, ConnectionsRequest, ConnectionsResponse, ConsentRequest,
    DELEGATE, DELEGATED_TOKENS, DISCONNECT, DelegateRequest, DelegatedTokenRequest, Delegation,
    DisconnectRequest, END_DELEGATION, EndDelegationRequest, LOGINS, LoginRequest, LoginResponse,
    OWN_TOKENS, OwnTokenRequest, Refusal, SESSIONS, SESSIONS_END, SessionRequest, SessionResponse,
    TOKENS, TokenAnswer, TokenRequest,
};
use http::{HeaderMap, StatusCode};

use crate::caller::{Caller, NotACaller, Reviewer};
use crate::vault::{Vault, VaultError};

/// What a request needs.
#[derive(Debug)]
pub struct App {
    /// What is done.
    pub vault: Arc<Vault>,
    /// Who asks.
    pub reviewer: Reviewer,
}

/// The routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(LOGINS, post(login))
        .route(SESSIONS, post(open_session))
        .route(BEARER_SESSIONS, post(open_bearer_session))
        .route(SESSIONS_END, post(end_session))
        .route(TOKENS, post(token))
        .route(OWN_TOKENS, post(own_token))
        .route(CONNECTIONS, post(connections))
        .route(CONNECT, post(connect))
        .route(CONNECTED, post(connected))
        .route(DISCONNECT, post(disconnect))
        .route(CONSENT, post(consent))
        .route(DELEGATE, post(delegate))
        .route(END_DELEGATION, post(end_delegation))
        .route(DELEGATED_TOKENS, post(delegated_token))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

async fn login(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.login(&caller, &request).await?))
}

async fn open_session(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<SessionRequest>,
) -> Result<Json<SessionResponse>, ApiError> {
    let caller = app.caller(&headers).await?;
    let handle = app.vault.open_session(&caller, &request.session).await?;
    Ok(Json(SessionResponse { handle }))
}

async fn open_bearer_session(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<BearerRequest>,
) -> Result<Json<SessionResponse>, ApiError> {
    let caller = app.caller(&headers).await?;
    let handle = app.vault.open_bearer_session(&caller, &request).await?;
    Ok(Json(SessionResponse { handle }))
}

async fn end_session(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<SessionRequest>,
) -> Result<StatusCode, ApiError> {
    let caller = app.caller(&headers).await?;
    // It goes on when the sidecar does not wait for it.
    let ended = async move { app.vault.end_session(&caller, &request.session).await };
    let ended = tokio::spawn(ended).await;
    ended.unwrap_or(Err(VaultError::Unavailable("failed")))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenAnswer>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.token(&caller, &request).await?))
}

async fn own_token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<OwnTokenRequest>,
) -> Result<Json<TokenAnswer>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.own_token(&caller, &request).await?))
}

async fn connections(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<ConnectionsRequest>,
) -> Result<Json<ConnectionsResponse>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.connections(&caller, &request.handle).await?))
}

async fn connect(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<ConnectRequest>,
) -> Result<Json<ConnectAnswer>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.connect(&caller, &request).await?))
}

async fn connected(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<ConnectedRequest>,
) -> Result<StatusCode, ApiError> {
    let caller = app.caller(&headers).await?;
    app.vault.connected(&caller, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn disconnect(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<DisconnectRequest>,
) -> Result<StatusCode, ApiError> {
    let caller = app.caller(&headers).await?;
    app.vault
        .disconnect(&caller, &request.handle, &request.resource_server)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn consent(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<ConsentRequest>,
) -> Result<StatusCode, ApiError> {
    let caller = app.caller(&headers).await?;
    app.vault
        .consent(&caller, &request.handle, &request.services)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delegate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<DelegateRequest>,
) -> Result<Json<Delegation>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.delegate(&caller, &request).await?))
}

async fn end_delegation(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<EndDelegationRequest>,
) -> Result<StatusCode, ApiError> {
    let caller = app.caller(&headers).await?;
    app.vault.end_delegation(&caller, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delegated_token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<DelegatedTokenRequest>,
) -> Result<Json<TokenAnswer>, ApiError> {
    let caller = app.caller(&headers).await?;
    Ok(Json(app.vault.delegated_token(&caller, &request).await?))
}

impl App {
    async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
        if self.vault.is_closing() {
            let closing = VaultError::Unavailable("the vault is being deleted");
            return Err(ApiError::Vault(closing));
        }
        Ok(self.reviewer.caller(headers).await?)
    }
}

/// What a caller hears who does not get what it asks for.
enum ApiError {
    Caller(NotACaller),
    Vault(VaultError),
}

impl From<NotACaller> for ApiError {
    fn from(error: NotACaller) -> Self {
        Self::Caller(error)
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = match &self {
            Self::Caller(NotACaller::Unauthenticated) => {
                (StatusCode::UNAUTHORIZED, "unauthenticated")
            }
            Self::Vault(VaultError::Forbidden) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Vault(VaultError::Invalid(_)) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Caller(NotACaller::Unavailable)
            | Self::Vault(VaultError::Unavailable(_) | VaultError::Store(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        if let Self::Vault(error) = &self {
            tracing::info!(error = %Chain(error), status = status.as_u16(), "answered with an error");
        }
        let refusal = Refusal {
            error: error.to_owned(),
        };
        (status, Json(refusal)).into_response()
    }
}

/// A code and its verifier are below 2 KiB.
const MAX_BODY: usize = 16 * 1024;

//! The control API under `/_emulator/`, for tests and demos. It asks nobody for credentials, so it is
//! off unless [`Config::control`](super::Config::control) is set; only `health` always answers.
//!
//! | request | effect |
//! |---|---|
//! | `GET health` | `{"status": "ok"}` |
//! | `GET tokens` | every token that there is, with whose it is: [`Issued`] |
//! | `POST tokens` [`MintRequest`] | a token answer, as of the token endpoint |
//! | `GET`, `POST`, `DELETE faults` [`FaultOrder`] | lists, adds, clears orders |
//! | `GET`, `DELETE requests` | shows a [`RequestLog`](super::RequestLog), clears it |
//! | `GET`, `POST users` [`User`] | lists user names and ids; adds a user or replaces the one with the same identity |
//! | `POST revoke` [`Revocation`] | `{"revoked": N}` tokens |
//! | `POST clock` `{"advance_seconds": N}` | moves the emulator's time on: `{"now": …}` |
//! | `POST keys` | replaces the signing key: the new key set |

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accounts::Account;
use super::catalog::OFFLINE_ACCESS;
use super::config::User;
use super::consents::Consenting;
use super::failure::ApiError;
use super::faults::FaultOrder;
use super::scope;
use super::session::Session;
use super::signing::SigningKey;
use super::store::Principal;
use super::token::{Issuance, TokenAnswer};
use super::{Emulator, Realm};

/// An order for tokens without a login.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MintRequest {
    /// Whose tokens.
    pub username: String,
    /// The client that they are issued to, and that may introspect them.
    pub client_id: String,
    /// As at the authorization endpoint; with `offline_access`, refresh tokens come with them.
    #[serde(default = "login_scopes")]
    pub scope: String,
    /// Default: the configured lifetime.
    #[serde(default)]
    pub lifetime_seconds: Option<u32>,
    /// Whether the user shall have consented, which dependent tokens need.
    #[serde(default)]
    pub consent: bool,
}

impl MintRequest {
    /// Tokens of the three login scopes.
    pub fn new(username: &str, client_id: &str) -> Self {
        Self {
            username: username.to_owned(),
            client_id: client_id.to_owned(),
            scope: login_scopes(),
            lifetime_seconds: None,
            consent: false,
        }
    }

    /// Tokens of these scopes.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            ..self
        }
    }
}

/// What was minted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Minted {
    /// The access token for the first resource server.
    pub access_token: String,
    /// The refresh token, if `offline_access` was asked for.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// The resource server.
    pub resource_server: String,
    /// Its scopes, with spaces between them.
    pub scope: String,
    /// In seconds.
    pub expires_in: i64,
    /// The tokens for the other resource servers.
    #[serde(default)]
    pub other_tokens: Vec<Self>,
}

/// A token that there is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Issued {
    /// Its value.
    pub token: String,
    /// Whether it is a refresh token, and not an access token.
    pub is_refresh_token: bool,
    /// The client that has it.
    pub client_id: String,
    /// Whose it is; none, the client's own.
    pub username: Option<String>,
    /// Whom it is for.
    pub resource_server: String,
}

/// What is to be made invalid.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// One access or refresh token.
    pub token: Option<String>,
    /// All tokens of a user.
    pub username: Option<String>,
    /// All tokens of a client; with a user, only what is of both.
    pub client_id: Option<String>,
    /// The user's consents (to the client, if one is named), too.
    pub consents: bool,
    /// The user's sessions at the emulator, too.
    pub sessions: bool,
}

/// Why an order cannot be carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct BadOrder(String);

/// The routes.
pub(super) fn routes(realm: &Realm) -> Router<Realm> {
    let health = Router::new().route("/_emulator/health", get(health));
    if !realm.config().control {
        return health;
    }
    health
        .route("/_emulator/tokens", get(issued).post(mint))
        .route(
            "/_emulator/faults",
            get(faults).post(order_fault).delete(clear_faults),
        )
        .route("/_emulator/requests", get(requests).delete(clear_requests))
        .route("/_emulator/users", get(users).post(put_user))
        .route("/_emulator/revoke", post(revoke))
        .route("/_emulator/clock", post(advance))
        .route("/_emulator/keys", post(rotate_key))
}

impl Emulator {
    /// Issues tokens without a login.
    ///
    /// # Errors
    /// [`BadOrder`] when the user, the client or a scope is not known.
    pub fn mint(&self, order: &MintRequest) -> Result<Minted, BadOrder> {
        let answer = json!(issue(self.realm(), order)?);
        serde_json::from_value(answer).map_err(|error| BadOrder(error.to_string()))
    }

    /// Every token that there is.
    pub fn issued(&self) -> Vec<Issued> {
        let realm = self.realm();
        let directory = realm.directory();
        let username = |principal: &Principal| match principal {
            Principal::Client(_) => None,
            Principal::User(sub) => {
                let mut accounts = directory.all().iter();
                let account = accounts.find(|account| account.primary.sub == *sub);
                account.map(|account| account.primary.username.clone())
            }
        };
        let store = realm.store();
        let issued = store
            .tokens()
            .map(|(token, is_refresh_token, grant)| Issued {
                token: token.clone(),
                is_refresh_token,
                client_id: grant.client_id.clone(),
                username: username(&grant.principal),
                resource_server: grant.resource_server.clone(),
            });
        issued.collect()
    }

    /// Orders a fault.
    pub fn order_fault(&self, order: FaultOrder) {
        self.realm().faults().order(order);
    }

    /// Clears all orders.
    pub fn clear_faults(&self) {
        self.realm().faults().clear();
    }

    /// Adds a user, or replaces the one with the same identity.
    ///
    /// # Errors
    /// [`BadOrder`] when a user name is empty.
    pub fn put_user(&self, user: User) -> Result<(), BadOrder> {
        if let Some(problem) = user.problems().into_iter().next() {
            return Err(BadOrder(problem));
        }
        self.realm().directory_mut().put(user);
        Ok(())
    }

    /// The id of the primary identity of a user.
    pub fn sub(&self, username: &str) -> Option<String> {
        self.realm()
            .account(username)
            .map(|account| account.primary.sub)
    }

    /// Makes tokens, consents or sessions invalid; how many tokens there were.
    ///
    /// # Errors
    /// [`BadOrder`] when it names nothing, or an unknown user.
    pub fn revoke(&self, order: &Revocation) -> Result<usize, BadOrder> {
        let realm = self.realm();
        if let Some(token) = &order.token {
            return Ok(usize::from(realm.store().revoke(token)));
        }
        let account = match &order.username {
            Some(username) => Some(known_account(realm, username)?.primary.sub),
            None if order.client_id.is_some() => None,
            None => {
                return Err(BadOrder(
                    "token, username or client_id is needed".to_owned(),
                ));
            }
        };
        let client_id = order.client_id.as_deref();
        if let Some(account) = &account {
            if order.consents {
                realm.consents().withdraw(account, client_id);
            }
            if order.sessions {
                realm.store().forget_browsers_of(account);
            }
        }
        let principal = account.map(Principal::User);
        Ok(realm.store().revoke_where(|grant| {
            principal
                .as_ref()
                .is_none_or(|principal| &grant.principal == principal)
                && client_id.is_none_or(|client_id| grant.client_id == client_id)
        }))
    }

    /// Moves the emulator's time on.
    pub fn advance(&self, seconds: u32) {
        self.realm().clock().advance(seconds);
    }

    /// Replaces the signing key; whether there is a new one.
    pub fn rotate_signing_key(&self) -> bool {
        let key = SigningKey::generate();
        key.map(|key| self.realm().replace_signing_key(key)).is_ok()
    }

    /// Empties the log of requests, and sets its counters to zero.
    pub fn clear_requests(&self) {
        self.realm().requests().clear();
    }
}

/// A JSON body, whatever it says it is.
struct Order<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Order<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| ApiError::bad_request("the body cannot be read"))?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| ApiError::bad_request(error.to_string()))
    }
}

impl IntoResponse for BadOrder {
    fn into_response(self) -> Response {
        ApiError::bad_request(self.0).into_response()
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn mint(
    State(realm): State<Realm>,
    Order(order): Order<MintRequest>,
) -> Result<TokenAnswer, BadOrder> {
    issue(&realm, &order)
}

async fn issued(State(realm): State<Realm>) -> Json<Vec<Issued>> {
    Json(Emulator::of(realm).issued())
}

async fn faults(State(realm): State<Realm>) -> Json<Value> {
    Json(json!(realm.faults().orders()))
}

async fn order_fault(State(realm): State<Realm>, Order(order): Order<FaultOrder>) -> StatusCode {
    realm.faults().order(order);
    StatusCode::NO_CONTENT
}

async fn clear_faults(State(realm): State<Realm>) -> StatusCode {
    realm.faults().clear();
    StatusCode::NO_CONTENT
}

async fn requests(State(realm): State<Realm>) -> Response {
    let log = realm.requests().log();
    Json(log).into_response()
}

async fn clear_requests(State(realm): State<Realm>) -> StatusCode {
    realm.requests().clear();
    StatusCode::NO_CONTENT
}

async fn users(State(realm): State<Realm>) -> Json<Value> {
    let directory = realm.directory();
    let users = directory.all().iter().map(|account| {
        let primary = &account.primary;
        json!({ "username": primary.username, "sub": primary.sub, "email": primary.email })
    });
    Json(users.collect())
}

async fn put_user(
    State(realm): State<Realm>,
    Order(user): Order<User>,
) -> Result<StatusCode, BadOrder> {
    Emulator::of(realm)
        .put_user(user)
        .map(|()| StatusCode::NO_CONTENT)
}

async fn revoke(
    State(realm): State<Realm>,
    Order(order): Order<Revocation>,
) -> Result<Json<Value>, BadOrder> {
    let revoked = Emulator::of(realm).revoke(&order)?;
    Ok(Json(json!({ "revoked": revoked })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u32,
}

async fn advance(State(realm): State<Realm>, Order(order): Order<Advance>) -> Json<Value> {
    realm.clock().advance(order.advance_seconds);
    Json(json!({ "now": realm.now() }))
}

async fn rotate_key(State(realm): State<Realm>) -> Response {
    if Emulator::of(realm.clone()).rotate_signing_key() {
        Json(realm.signing_key().key_set()).into_response()
    } else {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

fn issue(realm: &Realm, order: &MintRequest) -> Result<TokenAnswer, BadOrder> {
    let account = known_account(realm, &order.username)?;
    if realm.catalog().client(&order.client_id).is_none() {
        return Err(BadOrder(format!(
            "client {:?} is not known",
            order.client_id
        )));
    }
    let mut trees = scope::parse(&order.scope).map_err(|error| BadOrder(error.to_string()))?;
    let asked = trees.len();
    trees.retain(|tree| tree.scope != OFFLINE_ACCESS);
    let offline = trees.len() < asked;
    if let Some(tree) = trees
        .iter()
        .find(|tree| realm.catalog().scope(&tree.scope).is_none())
    {
        return Err(BadOrder(format!("scope {:?} is not known", tree.scope)));
    }
    let now = realm.now();
    let account_sub = account.primary.sub.clone();
    if order.consent {
        let (account, client_id) = (account_sub.as_str(), order.client_id.as_str());
        let who = Consenting {
            account,
            client_id,
            offline,
            now,
        };
        realm.consents().record(who, &trees, realm.catalog());
    }
    let default_lifetime = realm.config().access_token_lifetime_seconds;
    let issuance = Issuance {
        client_id: order.client_id.clone(),
        session: Some(Session::start(&account, &account.primary, now)),
        principal: Principal::User(account_sub),
        scopes: trees.into_iter().map(|tree| tree.scope).collect(),
        offline,
        lifetime_seconds: order.lifetime_seconds.unwrap_or(default_lifetime),
        audience: Some(order.client_id.clone()),
        reuse: false,
    };
    TokenAnswer::of(issuance.issue(realm)).ok_or_else(|| BadOrder("no scope is named".to_owned()))
}

fn known_account(realm: &Realm, username: &str) -> Result<Account, BadOrder> {
    realm
        .account(username)
        .ok_or_else(|| BadOrder(format!("user {username:?} is not known")))
}

fn login_scopes() -> String {
    "openid profile email".to_owned()
}

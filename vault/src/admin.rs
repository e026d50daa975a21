//! The API for administrators. They come with a JWT of the issuer and for the audience that the configuration names:
//! no token that a proxy ever sees.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::identity::{BadIdentity, Identity, NameDigest, Reading};
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::jwt::{self, Expected, SignatureAlgorithm};
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::key_source::KeySource;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::vault_config::Admins as Config;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::grant::{Grant, User};
use crate::schedule;
use crate::store::Filter;
use crate::store::audit::Entry;
use crate::vault::admin::{AdminError, Upload};
use crate::vault::{Vault, VaultError};

/// What a request needs.
#[derive(Debug)]
pub struct AdminApp {
    /// What is done.
    pub vault: Arc<Vault>,
    /// Who may; none, nobody.
    pub admins: Option<Admins>,
}

/// Who administrators are.
#[derive(Debug)]
pub struct Admins {
    config: Config,
    groups: HashSet<String>,
    keys: KeySource,
    clock: Arc<dyn Clock>,
}

/// The routes.
pub fn router(app: Arc<AdminApp>) -> Router {
    Router::new()
        .route(GRANTS, get(list).post(upload))
        .route("/v1/admin/grants/{id}", delete(revoke))
        .route(AUDIT, get(audit))
        .route("/v1/admin/audit/verify", get(verify))
        .with_state(app)
}

impl Admins {
    /// Those whom `config` names.
    pub fn new(config: Config, http: HttpClient, clock: Arc<dyn Clock>) -> Self {
        Self {
            groups: config.groups.iter().cloned().collect(),
            keys: KeySource::new(config.issuer.clone(), http),
            config,
            clock,
        }
    }

    /// Who sends a request with these headers, as the audit log names them.
    async fn identify(&self, headers: &HeaderMap) -> Result<Person, Refusal> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or(Refusal::Unauthenticated)?;
        let now = self.clock.now();
        let expected = Expected {
            issuer: &self.config.issuer,
            audiences: std::slice::from_ref(&self.config.audience),
            algorithms: &SignatureAlgorithm::ALL,
        };
        let claims = self
            .keys
            .verify(
                |keys| jwt::verify(token, keys, expected, now),
                |reason| reason.may_change_with_keys(),
            )
            .await
            .map_err(|error| {
                tracing::warn!(error = %Chain(&*error), "the keys of the administrators' issuer could not be had");
                Refusal::Unavailable
            })?
            .map_err(|reason| {
                tracing::warn!(%reason, "refused the token of an administrator");
                Refusal::Unauthenticated
            })?;
        self.person(&claims, now).ok_or(Refusal::Unauthenticated)
    }

    /// Whom verified claims name. A token that was given out long ago names nobody.
    fn person(&self, claims: &Claims, now: UnixSeconds) -> Option<Person> {
        let age = now.since(claims.time("iat")?);
        if age > LONGEST_AGE {
            return None;
        }
        let reading = Reading {
            email_verification: self.config.email_verification,
            groups_claim: Some(&self.config.groups_claim),
            groups: &self.groups,
            identity_providers: &[],
        };
        let subject = claims.subject()?.to_owned();
        let is_admin = match Identity::from_claims(claims, &reading, now) {
            Ok(identity) => self.are(&identity),
            Err(BadIdentity::EmailNotVerified) => false,
            Err(_unusable) => return None,
        };
        Some(Person { subject, is_admin })
    }

    fn are(&self, identity: &Identity) -> bool {
        let has_address = identity
            .email
            .as_ref()
            .is_some_and(|email| self.config.emails.contains(email));
        let is_member = |group: &String| identity.groups.names.contains(&NameDigest::of(group));
        has_address || self.groups.iter().any(is_member)
    }
}

/// Who asks.
#[derive(Debug, Eq, PartialEq)]
struct Person {
    subject: String,
    is_admin: bool,
}

impl AdminApp {
    /// The administrator who asks, as the audit log names them. Who is somebody else is noted there, too.
    async fn admin(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let admins = self.admins.as_ref().ok_or(Refusal::Forbidden)?;
        let person = admins.identify(headers).await?;
        let actor = format!("admin:{}", person.subject);
        if person.is_admin {
            return Ok(actor);
        }
        tracing::warn!(
            subject = person.subject,
            "somebody who is no administrator asked as one"
        );
        self.vault
            .note_admin(&actor, "admin", None, "refused")
            .await?;
        Err(Refusal::Forbidden)
    }
}

/// A grant, as administrators see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    workload: String,
    user: ShownUser,
    resource_server: String,
    kind: &'static str,
    scopes: Vec<String>,
    is_consented: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Until when the present access token is good, seconds since 1970.
    expires_at: u64,
    is_renewed: bool,
    /// When a workload last asked for it.
    used_at: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct ShownUser {
    issuer: String,
    subject: String,
}

impl From<Grant> for Shown {
    fn from(grant: Grant) -> Self {
        Self {
            is_renewed: schedule::is_refreshable(&grant),
            is_consented: grant.is_consented(),
            id: grant.id,
            workload: grant.owner.tenant,
            user: ShownUser {
                issuer: grant.owner.user.issuer,
                subject: grant.owner.user.subject,
            },
            resource_server: grant.owner.resource,
            kind: grant.kind.as_str(),
            scopes: grant.scopes,
            state: grant.state.as_str(),
            reason: grant.reason.map(crate::grant::Reason::as_str),
            expires_at: grant.access_expires_at.as_secs(),
            used_at: grant.used_at.as_secs(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Listing {
    workload: String,
    user: String,
    resource_server: String,
    after: String,
    limit: u32,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            workload: String::new(),
            user: String::new(),
            resource_server: String::new(),
            after: String::new(),
            limit: PAGE,
        }
    }
}

async fn list(
    State(app): State<Arc<AdminApp>>,
    headers: HeaderMap,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, Refusal> {
    let admin = app.admin(&headers).await?;
    let Query(listing) = query?;
    let filter = Filter {
        tenant: listing.workload,
        subject: listing.user,
        resource: listing.resource_server,
    };
    let limit = listing.limit.clamp(1, PAGE);
    let grants = app
        .vault
        .list(&admin, &filter, &listing.after, limit)
        .await?;
    let is_full = u32::try_from(grants.len()).is_ok_and(|n| n == limit);
    let next = grants
        .last()
        .filter(|_| is_full)
        .map(|grant| grant.id.clone());
    let grants: Vec<Shown> = grants.into_iter().map(Shown::from).collect();
    Ok(Json(json!({"grants": grants, "next": next})).into_response())
}

async fn revoke(
    State(app): State<Arc<AdminApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let admin = app.admin(&headers).await?;
    app.vault.revoke_grant(&admin, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Uploaded {
    workload: String,
    user: ShownUser,
    resource_server: String,
    token: SecretString,
}

async fn upload(
    State(app): State<Arc<AdminApp>>,
    headers: HeaderMap,
    body: Result<Json<Uploaded>, JsonRejection>,
) -> Result<Response, Refusal> {
    let admin = app.admin(&headers).await?;
    // What the parser says may quote a token.
    let Json(uploaded) =
        body.map_err(|_quotes_values| Refusal::Invalid(UPLOAD_SHAPE.to_owned()))?;
    let upload = Upload {
        workload: uploaded.workload,
        user: User {
            issuer: uploaded.user.issuer,
            subject: uploaded.user.subject,
        },
        resource_server: uploaded.resource_server,
        token: uploaded.token,
    };
    let id = app.vault.upload(&admin, upload).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    after: i64,
    limit: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            after: 0,
            limit: PAGE,
        }
    }
}

#[derive(Serialize)]
struct Numbered {
    seq: i64,
    #[serde(flatten)]
    entry: Entry,
}

async fn audit(
    State(app): State<Arc<AdminApp>>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    app.admin(&headers).await?;
    let Query(wanted) = query?;
    let entries = app
        .vault
        .audit(wanted.after, wanted.limit.clamp(1, PAGE))
        .await?;
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(seq, entry)| Numbered { seq, entry })
        .collect();
    Ok(Json(json!({"entries": entries})).into_response())
}

async fn verify(State(app): State<Arc<AdminApp>>, headers: HeaderMap) -> Result<Response, Refusal> {
    app.admin(&headers).await?;
    let answer = match app.vault.verify_audit().await? {
        Ok(entries) => json!({"entries": entries}),
        Err(seq) => json!({"brokenAt": seq}),
    };
    Ok(Json(answer).into_response())
}

/// Why somebody does not get what they ask for.
#[derive(Debug)]
enum Refusal {
    Conflict(String),
    Forbidden,
    Invalid(String),
    NotFound,
    Unauthenticated,
    Unavailable,
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Conflict => Self::Conflict(error.to_string()),
            AdminError::Invalid(_) => Self::Invalid(error.to_string()),
            AdminError::NotFound | AdminError::Vault(VaultError::Forbidden) => Self::NotFound,
            AdminError::Vault(VaultError::Invalid(reason)) => Self::Invalid(reason.to_owned()),
            AdminError::Vault(VaultError::Unavailable(_) | VaultError::Store(_)) => {
                tracing::warn!(error = %Chain(&error), "failed to do what an administrator asked");
                Self::Unavailable
            }
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self::Invalid(error.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error, detail) = match self {
            Self::Conflict(detail) => (StatusCode::CONFLICT, "conflict", detail),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "spec.admins of the TokenVault does not name you".to_owned(),
            ),
            Self::Invalid(detail) => (StatusCode::BAD_REQUEST, "invalid_request", detail),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such grant".to_owned(),
            ),
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "send a JWT of the issuer and for the audience of spec.admins, given out within the last hour"
                    .to_owned(),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "try again".to_owned(),
            ),
        };
        let body = Json(json!({"error": error, "message": detail}));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The grants: list, upload.
pub const GRANTS: &str = "/v1/admin/grants";
/// The audit log.
pub const AUDIT: &str = "/v1/admin/audit";
/// So many rows at a time.
const PAGE: u32 = 500;
/// An administrator signs in again after this.
const LONGEST_AGE: Duration = Duration::from_hours(1);
const UPLOAD_SHAPE: &str = "send {\"workload\": \"NAMESPACE/SERVICEACCOUNT\", \"user\": {\"issuer\": …, \"subject\": …}, \
    \"resourceServer\": …, \"token\": …}";

#[cfg(test)]
mod tests;

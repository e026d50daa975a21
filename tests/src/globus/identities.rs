//! `GET /v2/api/identities`, with `usernames=` or `ids=`, and `GET /v2/api/identities/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Realm;
use super::accounts::Identity;
use super::catalog::AUTH;
use super::failure::ApiError;
use super::form::Query;
use super::{bearer, client_auth};

/// The identities that exist among those asked for.
///
/// # Errors
/// 401 without a token of Globus Auth or a client's secret; 400 unless one of the two is asked for.
pub(crate) async fn list(
    State(realm): State<Realm>,
    headers: HeaderMap,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    authenticate(&realm, &headers)?;
    let (ids, usernames) = (query.list("ids"), query.list("usernames"));
    if ids.is_empty() == usernames.is_empty() {
        return Err(ApiError::bad_request(
            "exactly one of ids and usernames must be given",
        ));
    }
    let directory = realm.directory();
    let all = || {
        directory
            .all()
            .iter()
            .flat_map(super::accounts::Account::identities)
    };
    let by_id = ids
        .iter()
        .filter_map(|id| all().find(|identity| &identity.sub == id));
    let by_name = usernames
        .iter()
        .filter_map(|name| all().find(|identity| identity.username.eq_ignore_ascii_case(name)));
    let identities: Vec<Value> = by_id.chain(by_name).map(wire).collect();
    Ok(Json(json!({ "identities": identities })))
}

/// One identity.
///
/// # Errors
/// 401 as above, 404.
pub(crate) async fn show(
    State(realm): State<Realm>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    authenticate(&realm, &headers)?;
    let directory = realm.directory();
    let account = directory.find(&id).ok_or_else(ApiError::not_found)?;
    let identity = account.identities().find(|identity| identity.sub == id);
    Ok(Json(
        json!({ "identity": identity.map(wire).ok_or_else(ApiError::not_found)? }),
    ))
}

fn authenticate(realm: &Realm, headers: &HeaderMap) -> Result<(), ApiError> {
    if client_auth::basic(realm, headers).is_ok() {
        return Ok(());
    }
    bearer::authenticate(realm, headers, AUTH).map(|_| ())
}

fn wire(identity: &Identity) -> Value {
    json!({
        "id": identity.sub,
        "username": identity.username,
        "name": identity.name,
        "email": identity.email,
        "organization": identity.organization,
        "identity_provider": identity.provider.id,
        "identity_type": "login",
        "status": "used",
    })
}

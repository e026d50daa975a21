//! `POST /v2/oauth2/token/revoke`.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Realm;
use super::client_auth;
use super::failure::OAuthError;
use super::form::Form;

/// Revokes one token, an access or a refresh token; always `{"active": false}`, also for a token that
/// nobody knows (RFC 7009 §2.2). Whether Globus ends the access tokens of a revoked refresh token is
/// not known; here they live on, so that a client has to revoke both.
///
/// # Errors
/// `invalid_client`, also for a token of another client.
pub(crate) async fn revoke(
    State(realm): State<Realm>,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Value>, OAuthError> {
    let client = client_auth::authenticate(&realm, &headers, &form)?;
    let value = form
        .get("token")
        .ok_or_else(|| OAuthError::invalid_request("Missing token."))?;
    let mut store = realm.store();
    if store
        .client_of(value)
        .is_some_and(|holder| holder != client.client_id)
    {
        return Err(OAuthError::invalid_client("the token is another client's"));
    }
    store.revoke(value);
    Ok(Json(json!({ "active": false })))
}

//! `GET /v2/oauth2/userinfo`.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Realm;
use super::bearer;
use super::catalog::{AUTH, OPENID};
use super::claims::Person;
use super::failure::ApiError;
use super::faults::{ActiveFault, Fault};

/// The claims that the token's scopes allow.
///
/// # Errors
/// 401 without a live token of Globus Auth, 403 without the scope `openid`.
pub(crate) async fn userinfo(
    State(realm): State<Realm>,
    headers: HeaderMap,
    fault: ActiveFault,
) -> Result<Json<Value>, ApiError> {
    let token = bearer::authenticate(&realm, &headers, AUTH)?;
    if !token.grant.scopes.iter().any(|scope| scope == OPENID) {
        return Err(ApiError::forbidden("the scope openid is needed"));
    }
    let person = Person::of(&realm, &token.grant.principal, token.grant.session.clone())
        .ok_or_else(ApiError::unauthorized)?;
    let mut claims = person.claims(&token.grant.scopes);
    if fault.is(&Fault::WrongSubject) {
        claims.insert(
            "sub".to_owned(),
            json!("00000000-0000-4000-8000-000000000000"),
        );
    }
    Ok(Json(Value::Object(claims)))
}

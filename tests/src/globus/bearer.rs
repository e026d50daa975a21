//! Access tokens, presented to the emulator's own APIs.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::Realm;
use super::failure::ApiError;
use super::store::AccessToken;

/// The value after `Bearer` (RFC 6750 §2.1), in any case.
pub(crate) fn value(headers: &HeaderMap) -> Option<&str> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| value.trim())
}

/// The live token of a request, if it is for `resource_server`.
///
/// # Errors
/// 401 without one, or with one for another resource server.
pub(crate) fn authenticate(
    realm: &Realm,
    headers: &HeaderMap,
    resource_server: &str,
) -> Result<AccessToken, ApiError> {
    let value = value(headers).ok_or_else(ApiError::unauthorized)?;
    let token = realm.store().access_token(value, realm.now()).cloned();
    token
        .filter(|token| token.grant.resource_server == resource_server)
        .ok_or_else(ApiError::unauthorized)
}

//! Which client calls: HTTP Basic for those with a secret, `client_id` for native applications.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use super::Realm;
use super::config::Client;
use super::failure::OAuthError;
use super::form::Params;

/// Finds the calling client.
///
/// `client_secret_basic` is the only method that Globus lists, so a secret in the body is refused.
///
/// # Errors
/// `invalid_client`, for whatever reason.
pub(crate) fn authenticate<'a>(
    realm: &'a Realm,
    headers: &HeaderMap,
    form: &Params,
) -> Result<&'a Client, OAuthError> {
    if form.get("client_secret").is_some() {
        return Err(OAuthError::invalid_client(
            "the secret was sent in the body",
        ));
    }
    let in_body = form.get("client_id");
    if headers.contains_key(AUTHORIZATION) {
        let client = basic(realm, headers)?;
        return match in_body {
            Some(client_id) if client_id != client.client_id => Err(OAuthError::invalid_client(
                "the body names another client than the header",
            )),
            _ => Ok(client),
        };
    }
    let client_id = in_body.ok_or_else(|| OAuthError::invalid_client("no client was named"))?;
    match realm.catalog().client(client_id) {
        Some(client) if client.client_secret.is_none() => Ok(client),
        Some(_) => Err(OAuthError::invalid_client("the client must use its secret")),
        None => Err(OAuthError::invalid_client("the client is not known")),
    }
}

/// Finds the client of an HTTP Basic header.
///
/// # Errors
/// `invalid_client`, for whatever reason.
pub(crate) fn basic<'a>(realm: &'a Realm, headers: &HeaderMap) -> Result<&'a Client, OAuthError> {
    let (client_id, secret) =
        credentials(headers).ok_or_else(|| OAuthError::invalid_client("no HTTP Basic header"))?;
    let client = realm
        .catalog()
        .client(&form_decoded(&client_id))
        .ok_or_else(|| OAuthError::invalid_client("the client is not known"))?;
    let expected = client
        .client_secret
        .as_deref()
        .ok_or_else(|| OAuthError::invalid_client("a native client has no secret"))?;
    // RFC 6749 §2.3.1 has the secret form-encoded, as many clients do; the SDK of Globus sends it as
    // it is, and works. So both are right.
    if secret == expected || form_decoded(&secret) == expected {
        Ok(client)
    } else {
        Err(OAuthError::invalid_client("the secret is wrong"))
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(value.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (client_id, secret) = text.split_once(':')?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    basic.then(|| (client_id.to_owned(), secret.to_owned()))
}

fn form_decoded(text: &str) -> String {
    // As the value of a parameter, so that `=` and `&` stay what they are.
    let parameter = format!("v={}", text.replace('&', "%26"));
    let decoded = form_urlencoded::parse(parameter.as_bytes()).next();
    decoded
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

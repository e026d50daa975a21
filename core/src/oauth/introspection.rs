//! Token introspection (RFC 7662): what an opaque bearer token means.

use http::{HeaderValue, Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::claims::Claims;
use super::jwt::LEEWAY;
use crate::clock::UnixSeconds;
use crate::url::Issuer;

/// Globus does not advertise the endpoint; it lies below the token endpoint.
pub fn globus_endpoint(token_endpoint: &Url) -> Url {
    let mut endpoint = token_endpoint.clone();
    endpoint.set_path(&format!(
        "{}/introspect",
        token_endpoint.path().trim_end_matches('/')
    ));
    endpoint
}

/// The request that asks `endpoint` about `token`, authenticated as the client (RFC 7662 §2.1), with
/// further parameters of the provider's own.
///
/// # Errors
/// An endpoint that HTTP cannot express.
pub fn request(
    endpoint: &Url,
    client_id: &str,
    client_secret: &str,
    token: &str,
    details: &[(&str, &str)],
) -> Result<Request<Vec<u8>>, http::Error> {
    let form = [&[("token", token)], details].concat();
    client_request(endpoint, client_id, client_secret, &form)
}

/// A form that a client sends to an endpoint of the provider, authenticated by its secret in the
/// `Authorization` header (RFC 6749 §2.3.1).
///
/// # Errors
/// An endpoint that HTTP cannot express.
pub fn client_request(
    endpoint: &Url,
    client_id: &str,
    client_secret: &str,
    form: &[(&str, &str)],
) -> Result<Request<Vec<u8>>, http::Error> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let credentials = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{}", encode(client_id), encode(client_secret)),
    );
    let mut authorization = HeaderValue::try_from(format!("Basic {credentials}"))?;
    authorization.set_sensitive(true);
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encode(value));
    let form: Vec<String> = form.iter().map(pair).collect();
    Request::post(endpoint.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::AUTHORIZATION, authorization)
        .body(form.join("&").into_bytes())
}

/// An active token.
#[derive(Clone, Debug)]
pub struct ActiveToken {
    /// Whose it is.
    pub claims: Claims,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// Reads the response about a token (RFC 7662 §2.2).
///
/// The token counts only if it is for us: `aud` must contain `client_id`. Any client could otherwise
/// collect tokens of its users and present them here.
///
/// # Errors
/// [`NotActive`].
pub fn parse(
    response: &[u8],
    issuer: &Issuer,
    client_id: &str,
    now: UnixSeconds,
) -> Result<ActiveToken, NotActive> {
    let claims: Claims = serde_json::from_slice(response).map_err(NotActive::Parse)?;
    if claims.get("active") != Some(&serde_json::Value::Bool(true)) {
        return Err(NotActive::Inactive);
    }
    if claims
        .text("iss")
        .is_some_and(|found| found != issuer.as_str())
    {
        return Err(NotActive::OtherIssuer);
    }
    if !claims.has_audience(client_id) {
        return Err(NotActive::OtherAudience);
    }
    let expires_at = claims.time("exp").ok_or(NotActive::Expired)?;
    if now >= expires_at.after(LEEWAY) {
        return Err(NotActive::Expired);
    }
    if claims
        .time("nbf")
        .is_some_and(|start| start > now.after(LEEWAY))
    {
        return Err(NotActive::Expired);
    }
    Ok(ActiveToken { claims, expires_at })
}

/// Why an introspected token does not count.
#[derive(Debug, thiserror::Error)]
pub enum NotActive {
    /// `exp` is past or absent.
    #[error("the token has expired")]
    Expired,
    /// `active` is not true.
    #[error("the token is not active")]
    Inactive,
    /// We are not in `aud`.
    #[error("the token is for another audience")]
    OtherAudience,
    /// `iss` is somebody else.
    #[error("the token is of another issuer")]
    OtherIssuer,
    /// Not a JSON object.
    #[error("failed to parse the introspection response")]
    Parse(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_715_200_000);

    fn active() -> Value {
        json!({
            "active": true, "sub": "c2f5", "email": "kingfish@globus.org", "username": "kingfish@globus.org",
            "exp": 1_715_289_767, "iat": 1_715_116_967, "nbf": 1_715_116_967,
            "aud": ["auth.globus.org", "our-client"], "iss": "https://auth.globus.org",
        })
    }

    fn read(response: &Value) -> Result<ActiveToken, NotActive> {
        parse(
            response.to_string().as_bytes(),
            &Issuer::globus(),
            "our-client",
            NOW,
        )
    }

    #[test]
    fn an_active_token_for_us_counts() {
        let token = read(&active()).unwrap();
        assert_eq!(token.expires_at, UnixSeconds(1_715_289_767));
        assert_eq!(token.claims.text("email"), Some("kingfish@globus.org"));
    }

    #[rstest]
    #[case("active", json!(false))]
    #[case("active", json!("true"))]
    #[case("active", json!(null))]
    #[case("aud", json!(["auth.globus.org"]))]
    #[case("aud", json!("another-client"))]
    #[case("aud", json!(null))]
    #[case("iss", json!("https://evil.test"))]
    #[case("exp", json!(1_715_100_000))]
    #[case("exp", json!(null))]
    #[case("nbf", json!(1_715_300_000))]
    fn any_other_token_does_not(#[case] member: &str, #[case] value: Value) {
        let mut response = active();
        response[member] = value;
        assert!(read(&response).is_err());
    }

    #[test]
    fn the_request_names_the_token_only_in_its_body() {
        let endpoint = globus_endpoint(&"https://auth.globus.org/v2/oauth2/token".parse().unwrap());
        let request = request(&endpoint, "id", "s:e", "Ag+/=", &[("include", "a,b")]).unwrap();
        assert_eq!(
            request.uri(),
            "https://auth.globus.org/v2/oauth2/token/introspect"
        );
        assert_eq!(request.headers()["authorization"], "Basic aWQ6cyUzQWU=");
        assert_eq!(request.body(), b"token=Ag%2B%2F%3D&include=a%2Cb");
    }

    #[test]
    fn the_clocks_of_two_machines_may_be_a_minute_apart() {
        for (member, value, counts) in [
            ("nbf", NOW.0 + 60, true),
            ("nbf", NOW.0 + 61, false),
            ("exp", NOW.0 - 59, true),
            ("exp", NOW.0 - 60, false),
        ] {
            let mut response = active();
            response[member] = json!(value);
            assert_eq!(read(&response).is_ok(), counts, "{member} {value}");
        }
    }
}

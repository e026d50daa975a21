//! What a token endpoint answers (RFC 6749 §5), and what it means for a grant.

use std::time::Duration;

use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

/// Tokens of a successful answer, one set for each resource server.
#[derive(Debug)]
pub struct TokenResponse {
    /// The tokens, at least one set.
    pub sets: Vec<TokenSet>,
    /// The ID token (OpenID Connect Core §3.1.3.3), unverified.
    pub id_token: Option<SecretString>,
}

/// The tokens for one resource server.
#[derive(Debug)]
pub struct TokenSet {
    /// Whom they are for, where the issuer says so, as Globus does.
    pub resource_server: Option<String>,
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token, if one came; an empty one is none.
    pub refresh_token: Option<SecretString>,
    /// How long the access token is good; between one second and [`LONGEST`].
    pub lifetime: Duration,
    /// What it allows, if the issuer says so.
    pub scopes: Option<Vec<String>>,
    /// Whether it is a bearer token (RFC 6750), the only kind that can be delivered.
    pub is_bearer: bool,
}

impl TokenSet {
    /// Nothing yet, where these scopes are to be asked for.
    pub fn none(scopes: Vec<String>) -> Self {
        Self {
            resource_server: None,
            access_token: SecretString::default(),
            refresh_token: None,
            lifetime: Duration::ZERO,
            scopes: Some(scopes),
            is_bearer: false,
        }
    }
}

/// Why no tokens came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The client is not accepted, whatever it asks for: an operator must act.
    Client,
    /// The client may not ask in this way: an operator must act.
    GrantType,
    /// The refresh token is not accepted any more.
    Grant,
    /// The user, or the issuer for them, said no to a device, or the time is over (RFC 8628 §3.5).
    Denied,
    /// The user must consent or log in again, by the issuer's own words.
    Interaction {
        /// What is asked for, as far as the issuer said it.
        requirements: SessionRequirements,
    },
    /// The user has not entered the code of a device yet (RFC 8628 §3.5).
    Pending,
    /// The scopes are not granted as they were asked for.
    Scope,
    /// Too many requests.
    Throttled {
        /// When to come back, if the issuer says so.
        retry_after: Option<Duration>,
    },
    /// The issuer, or what stands before it, does not work now, and says that it has done nothing.
    Transient,
    /// The issuer may have done what it was asked: a success that cannot be read, or a gateway that did not wait for
    /// the answer.
    Unclear,
    /// A refusal that no rule knows.
    Unclassified,
}

/// Reads an answer.
///
/// # Errors
/// [`Problem`]. What a success looks like and cannot be read is [`Problem::Unclear`].
pub fn read(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<TokenResponse, Problem> {
    match status {
        200..=299 => tokens(body).ok_or(Problem::Unclear),
        429 => Err(Problem::Throttled {
            retry_after: retry_after.and_then(seconds),
        }),
        GATEWAY_TIMEOUT => Err(Problem::Unclear),
        500.. => Err(Problem::Transient),
        _ => Err(refusal(body)),
    }
}

/// Retry-After in seconds (RFC 9110 §10.2.3); no date is understood, and none is needed.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// A page of a firewall is no word of the issuer.
fn refusal(body: &[u8]) -> Problem {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        return Problem::Transient;
    };
    match refusal.error.as_str() {
        "invalid_grant" => Problem::Grant,
        "invalid_client" => Problem::Client,
        "unauthorized_client" => Problem::GrantType,
        "invalid_scope" | "invalid_target" => Problem::Scope,
        "interaction_required"
        | "consent_required"
        | "login_required"
        | "dependent_consent_required" => Problem::Interaction {
            requirements: requirements(body),
        },
        "access_denied" | "expired_token" => Problem::Denied,
        "authorization_pending" => Problem::Pending,
        "temporarily_unavailable" | "server_error" => Problem::Transient,
        "slow_down" => Problem::Throttled { retry_after: None },
        _ => Problem::Unclassified,
    }
}

/// A Globus Auth Requirements Error, or the scopes that are not approved yet for a service that asks others.
fn requirements(body: &[u8]) -> SessionRequirements {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        errors: Vec<Unapproved>,
    }
    #[derive(Deserialize)]
    struct Unapproved {
        #[serde(default)]
        unapproved_scopes: Vec<String>,
    }
    SessionRequirements::from_error(body).unwrap_or_else(|| {
        let refusal = serde_json::from_slice::<Refusal>(body).ok();
        let errors = refusal.into_iter().flat_map(|refusal| refusal.errors);
        let scopes = errors.flat_map(|error| error.unapproved_scopes);
        SessionRequirements {
            required_scopes: scopes.filter(|scope| scope.len() <= 512).take(64).collect(),
            ..SessionRequirements::default()
        }
    })
}

/// One answer, or, for dependent tokens, a list of them: one for each resource server.
#[derive(Deserialize)]
#[serde(untagged)]
enum Success {
    One(Box<One>),
    Several(Vec<Set>),
}

#[derive(Deserialize)]
struct One {
    #[serde(flatten)]
    first: Set,
    id_token: Option<SecretString>,
    #[serde(default)]
    other_tokens: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    access_token: SecretString,
    token_type: String,
    refresh_token: Option<SecretString>,
    expires_in: Option<Value>,
    scope: Option<String>,
    resource_server: Option<String>,
    issued_token_type: Option<String>,
}

fn tokens(body: &[u8]) -> Option<TokenResponse> {
    let (sets, id_token) = match serde_json::from_slice(body).ok()? {
        Success::One(one) => {
            let mut sets = vec![one.first];
            sets.extend(one.other_tokens);
            (sets, one.id_token)
        }
        Success::Several(sets) if sets.is_empty() => return None,
        Success::Several(sets) => (sets, None),
    };
    let sets: Option<Vec<TokenSet>> = sets.into_iter().map(set).collect();
    Some(TokenResponse {
        sets: sets?,
        id_token,
    })
}

fn set(set: Set) -> Option<TokenSet> {
    use secrecy::ExposeSecret;
    let is_empty = |secret: &SecretString| secret.expose_secret().is_empty();
    if is_empty(&set.access_token) {
        return None;
    }
    Some(TokenSet {
        resource_server: set.resource_server.filter(|name| name.len() <= 255),
        access_token: set.access_token,
        refresh_token: set.refresh_token.filter(|token| !is_empty(token)),
        lifetime: set.expires_in.as_ref().map_or(UNSAID, lifetime),
        scopes: set
            .scope
            .map(|scope| scope.split_whitespace().map(str::to_owned).collect()),
        is_bearer: set.token_type.eq_ignore_ascii_case("bearer")
            && set
                .issued_token_type
                .is_none_or(|kind| kind == ACCESS_TOKEN_TYPE),
    })
}

/// Some issuers write the number as a string. What is negative, or no number, is over.
fn lifetime(value: &Value) -> Duration {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let seconds = seconds.unwrap_or_default();
    Duration::try_from_secs_f64(seconds.max(0.0))
        .unwrap_or(LONGEST)
        .clamp(SHORTEST, LONGEST)
}

/// What is asked for, and expected, of an exchange (RFC 8693 §3).
pub(crate) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What an issuer means that says nothing, by the habit of most.
const UNSAID: Duration = Duration::from_hours(1);
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest that an access token is believed to be good.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// RFC 9110 §15.6.5.
const GATEWAY_TIMEOUT: u16 = 504;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn success(changes: &Value) -> Result<TokenResponse, Problem> {
        let mut body = json!({"access_token": "at", "token_type": "Bearer", "expires_in": 172_800,
            "refresh_token": "rt", "scope": "openid email", "resource_server": "auth.globus.org",
            "id_token": "a.b.c"});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(200, None, body.to_string().as_bytes())
    }

    #[test]
    fn the_tokens_of_every_resource_server_are_read() {
        let other = json!({"access_token": "at2", "token_type": "bearer", "resource_server": "transfer",
            "scope": "t", "expires_in": 60});
        let response = success(&json!({"other_tokens": [other]})).unwrap();
        let [first, second] = &response.sets[..] else {
            panic!("{response:?}");
        };
        assert_eq!(first.resource_server.as_deref(), Some("auth.globus.org"));
        assert_eq!(first.access_token.expose_secret(), "at");
        assert_eq!(first.refresh_token.as_ref().unwrap().expose_secret(), "rt");
        assert_eq!(first.lifetime, Duration::from_hours(48));
        assert_eq!(
            first.scopes,
            Some(vec!["openid".to_owned(), "email".to_owned()])
        );
        assert_eq!(second.resource_server.as_deref(), Some("transfer"));
        assert!(second.refresh_token.is_none() && second.is_bearer);
        assert!(response.id_token.is_some());
    }

    #[rstest]
    #[case::unsaid(Value::Null, 3600)]
    #[case::text(json!("120"), 120)]
    #[case::zero(json!(0), 1)]
    #[case::negative(json!(-5), 1)]
    #[case::huge(json!(1e300), 30 * 86_400)]
    #[case::long(json!(4_000_000_000_u64), 30 * 86_400)]
    #[case::nonsense(json!("soon"), 1)]
    #[case::list(json!([1]), 1)]
    fn a_lifetime_is_kept_within_reason(#[case] expires_in: Value, #[case] seconds: u64) {
        let response = success(&json!({"expires_in": expires_in})).unwrap();
        assert_eq!(response.sets[0].lifetime, Duration::from_secs(seconds));
    }

    #[test]
    fn dependent_tokens_are_a_list() {
        let one = |name: &str| json!({"access_token": name, "token_type": "bearer", "resource_server": name});
        let read = |body: Value| read(200, None, body.to_string().as_bytes());
        let response = read(json!([one("transfer"), one("groups")])).unwrap();
        let names = response.sets.iter().map(|set| set.resource_server.clone());
        assert_eq!(
            names.collect::<Option<Vec<_>>>().unwrap(),
            ["transfer", "groups"]
        );
        for bad in [json!([]), json!([one("transfer"), {}]), json!([1])] {
            assert_eq!(read(bad).unwrap_err(), Problem::Unclear);
        }
    }

    #[rstest]
    #[case(ACCESS_TOKEN_TYPE, true)]
    #[case::saml("urn:ietf:params:oauth:token-type:saml2", false)]
    #[case::refresh("urn:ietf:params:oauth:token-type:refresh_token", false)]
    fn an_exchange_must_give_an_access_token(#[case] kind: &str, #[case] is_bearer: bool) {
        let response = success(&json!({"issued_token_type": kind})).unwrap();
        assert_eq!(response.sets[0].is_bearer, is_bearer);
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        let response = success(&json!({"refresh_token": ""})).unwrap();
        assert!(response.sets[0].refresh_token.is_none());
    }

    #[test]
    fn a_token_of_another_type_is_told_apart() {
        let response = success(&json!({"token_type": "DPoP"})).unwrap();
        assert!(!response.sets[0].is_bearer);
    }

    #[rstest]
    #[case(200, b"{}", Problem::Unclear)]
    #[case(200, b"<html>", Problem::Unclear)]
    #[case(200, br#"{"access_token":"","token_type":"Bearer"}"#, Problem::Unclear)]
    #[case::other(
        200,
        br#"{"access_token":"a","token_type":"Bearer","other_tokens":[{}]}"#,
        Problem::Unclear
    )]
    #[case::gateway(504, b"", Problem::Unclear)]
    #[case::no_backend(502, b"", Problem::Transient)]
    #[case(302, b"", Problem::Transient)]
    #[case(400, br#"{"error":"invalid_grant"}"#, Problem::Grant)]
    #[case::globus(401, br#"{"error":"invalid_grant"}"#, Problem::Grant)]
    #[case(401, br#"{"error":"invalid_client"}"#, Problem::Client)]
    #[case(400, br#"{"error":"unauthorized_client"}"#, Problem::GrantType)]
    #[case(400, br#"{"error":"invalid_scope"}"#, Problem::Scope)]
    #[case(400, br#"{"error":"invalid_target"}"#, Problem::Scope)]
    #[case::firewall(403, b"<html>Request blocked</html>", Problem::Transient)]
    #[case::not_oauth(403, br#"{"message":"no"}"#, Problem::Transient)]
    #[case(400, br#"{"error":"something_new"}"#, Problem::Unclassified)]
    #[case(500, br#"{"error":"invalid_grant"}"#, Problem::Transient)]
    #[case(503, b"", Problem::Transient)]
    #[case(429, br#"{"error":"invalid_grant"}"#, Problem::Throttled { retry_after: None })]
    fn a_refusal_is_classified(
        #[case] status: u16,
        #[case] body: &[u8],
        #[case] expected: Problem,
    ) {
        assert_eq!(read(status, None, body).unwrap_err(), expected);
    }

    #[rstest]
    #[case("7", Some(7))]
    #[case("999999", Some(3600))]
    #[case("Wed, 21 Oct 2015 07:28:00 GMT", None)]
    fn an_issuer_says_when_to_come_back(#[case] text: &str, #[case] seconds: Option<u64>) {
        let retry_after = seconds.map(Duration::from_secs);
        let problem = read(429, Some(text), b"").unwrap_err();
        assert_eq!(problem, Problem::Throttled { retry_after });
    }

    #[rstest]
    #[case::dependent(
        json!({"error": "dependent_consent_required", "errors": [{"unapproved_scopes": ["s"]}]}),
        json!({"required_scopes": ["s"]})
    )]
    #[case::gare(
        json!({"error": "interaction_required", "code": "AuthorizationRequired",
            "authorization_parameters": {"session_required_policies": ["p"], "session_required_mfa": true}}),
        json!({"session_required_policies": ["p"], "session_required_mfa": true})
    )]
    #[case::nothing(json!({"error": "login_required"}), json!({}))]
    fn what_a_user_must_do_is_kept(#[case] body: Value, #[case] expected: Value) {
        let problem = read(403, None, body.to_string().as_bytes()).unwrap_err();
        let requirements = serde_json::from_value(expected).unwrap();
        assert_eq!(problem, Problem::Interaction { requirements });
    }

    #[test]
    fn no_token_shows_in_debug_output() {
        let debug = format!("{:?}", success(&json!({"access_token": "canary"})).unwrap());
        assert!(
            !debug.contains("canary") && !debug.contains("\"rt\""),
            "{debug}"
        );
    }
}

//! The device authorization grant (RFC 8628): a user enters a code at the issuer, in any browser. Pure.

use std::time::Duration;

use globus_auth_core::url::Issuer;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

/// What an issuer answers to a device authorization request (RFC 8628 §3.2).
pub struct DeviceAuthorization {
    /// What the vault shows at the token endpoint.
    pub device_code: SecretString,
    /// What the user enters.
    pub user_code: SecretString,
    /// Where.
    pub verification_uri: Url,
    /// The same with the code in it.
    pub verification_uri_complete: Option<Url>,
    /// For how long the codes are good; at most [`LONGEST`].
    pub lifetime: Duration,
    /// How long to wait between two questions at the token endpoint.
    pub interval: Duration,
}

impl std::fmt::Debug for DeviceAuthorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceAuthorization({})", self.verification_uri)
    }
}

#[derive(Deserialize)]
struct Document {
    device_code: SecretString,
    user_code: SecretString,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Option<Value>,
    interval: Option<Value>,
}

/// Reads an answer of `issuer`.
///
/// # Errors
/// [`BadDeviceAuthorization`].
pub fn parse(body: &[u8], issuer: &Issuer) -> Result<DeviceAuthorization, BadDeviceAuthorization> {
    use secrecy::ExposeSecret;
    let document: Document =
        serde_json::from_slice(body).map_err(|_quotes_values| BadDeviceAuthorization::Parse)?;
    let length = document.user_code.expose_secret().chars().count();
    if document.device_code.expose_secret().is_empty() || !(1..=MAX_USER_CODE).contains(&length) {
        return Err(BadDeviceAuthorization::Code);
    }
    let page = |text: &str| page(text, issuer);
    let seconds = |value: Option<&Value>| value.and_then(Value::as_u64).map(Duration::from_secs);
    Ok(DeviceAuthorization {
        verification_uri: page(&document.verification_uri)?,
        verification_uri_complete: document
            .verification_uri_complete
            .as_deref()
            .map(page)
            .transpose()?,
        lifetime: seconds(document.expires_in.as_ref())
            .unwrap_or(LONGEST)
            .clamp(Duration::ZERO, LONGEST),
        interval: seconds(document.interval.as_ref())
            .unwrap_or(INTERVAL)
            .clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
        device_code: document.device_code,
        user_code: document.user_code,
    })
}

/// A page to which a user is sent.
fn page(text: &str, issuer: &Issuer) -> Result<Url, BadDeviceAuthorization> {
    let url = Url::parse(text).map_err(|_syntax| BadDeviceAuthorization::Page)?;
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => !issuer.is_https(),
        _ => false,
    };
    if !is_safe || !url.username().is_empty() || url.password().is_some() {
        return Err(BadDeviceAuthorization::Page);
    }
    Ok(url)
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadDeviceAuthorization {
    /// A code is missing, or longer than anybody would type.
    #[error("a code is missing or too long")]
    Code,
    /// The page where the code is entered is none that a browser may be sent to.
    #[error("verification_uri is not an https address")]
    Page,
    /// Not the JSON that it must be.
    #[error("failed to parse the answer to a device authorization request")]
    Parse,
}

/// What is waited at least, if the issuer says `slow_down` (RFC 8628 §3.5), beside what was waited before.
pub const SLOW_DOWN: Duration = Duration::from_secs(5);
/// Whoever was led to enter a code by somebody else has so long to notice (RFC 8628 §5.4).
pub const LONGEST: Duration = Duration::from_mins(10);
/// RFC 8628 §3.2.
const INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);
const MAX_USER_CODE: usize = 64;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn issuer() -> Issuer {
        "https://as.test".parse().unwrap()
    }

    fn read(changes: &Value) -> Result<DeviceAuthorization, BadDeviceAuthorization> {
        let mut body = json!({
            "device_code": "device", "user_code": "ABCD-EFGH", "verification_uri": "https://as.test/device",
            "verification_uri_complete": "https://as.test/device?user_code=ABCD-EFGH",
            "expires_in": 300, "interval": 7,
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.to_string().as_bytes(), &issuer())
    }

    #[test]
    fn an_answer_is_read() {
        let read = read(&json!({})).unwrap();
        assert_eq!(read.user_code.expose_secret(), "ABCD-EFGH");
        assert_eq!(read.verification_uri.as_str(), "https://as.test/device");
        assert!(read.verification_uri_complete.is_some());
        assert_eq!(read.lifetime, Duration::from_mins(5));
        assert_eq!(read.interval, Duration::from_secs(7));
        assert!(!format!("{read:?}").contains("ABCD"), "{read:?}");
    }

    #[rstest]
    #[case(json!({"expires_in": 1_000_000_000}), LONGEST, 7)]
    #[case(json!({"expires_in": -5}), LONGEST, 7)]
    #[case(json!({"expires_in": 0}), Duration::ZERO, 7)]
    #[case(json!({"interval": null}), Duration::from_mins(5), 5)]
    #[case(json!({"interval": 0}), Duration::from_mins(5), 1)]
    #[case(json!({"interval": 86_400}), Duration::from_mins(5), 60)]
    fn numbers_are_kept_in_bounds(
        #[case] changes: Value,
        #[case] lifetime: Duration,
        #[case] interval: u64,
    ) {
        let read = read(&changes).unwrap();
        assert_eq!(
            (read.lifetime, read.interval.as_secs()),
            (lifetime, interval)
        );
    }

    #[rstest]
    #[case::script(json!({"verification_uri": "javascript:alert(1)"}), BadDeviceAuthorization::Page)]
    #[case::plain(json!({"verification_uri": "http://as.test/device"}), BadDeviceAuthorization::Page)]
    #[case::user(json!({"verification_uri": "https://as.test@evil.test/"}), BadDeviceAuthorization::Page)]
    #[case::complete(json!({"verification_uri_complete": "file:///etc/passwd"}), BadDeviceAuthorization::Page)]
    #[case::no_device_code(json!({"device_code": ""}), BadDeviceAuthorization::Code)]
    #[case::no_user_code(json!({"user_code": ""}), BadDeviceAuthorization::Code)]
    #[case::a_novel(json!({"user_code": "x".repeat(65)}), BadDeviceAuthorization::Code)]
    #[case::a_number(json!({"user_code": 5}), BadDeviceAuthorization::Parse)]
    fn another_answer_is_not_used(
        #[case] changes: Value,
        #[case] expected: BadDeviceAuthorization,
    ) {
        assert_eq!(read(&changes).unwrap_err(), expected);
    }
}

//! Who a request comes from, as an identity provider vouched for it.

use serde_json::Value;

use crate::email::Email;
use crate::oauth::claims::Claims;

/// A user, as the identity provider named them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// `sub`: unique and never reassigned within the issuer (OpenID Connect Core §2).
    pub subject: String,
    /// The address that the access rules compare, if the provider gave a usable one.
    pub email: Option<Email>,
    /// `preferred_username`, else the address, else the subject: what pages and headers show.
    pub username: String,
    /// `name`: for people to read, never compared.
    pub name: Option<String>,
}

/// Whether an address counts without `email_verified: true` (OpenID Connect Core §5.1).
///
/// An explicit `false` is refused in both cases.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum EmailVerification {
    /// The claim may be absent. Globus never sends it.
    IfPresent,
    /// The claim must be present and true.
    Required,
}

impl Identity {
    /// Reads the claims of an ID token, a userinfo or an introspection response.
    ///
    /// # Errors
    /// [`BadIdentity`] if the subject is unusable or the address is not verified. A missing or
    /// malformed address is not an error here: such an identity exists, and no e-mail rule admits it.
    pub fn from_claims(
        claims: &Claims,
        verification: EmailVerification,
    ) -> Result<Self, BadIdentity> {
        let subject = claims.subject().ok_or(BadIdentity::NoSubject)?;
        if subject.is_empty() || subject.len() > MAX_SUBJECT || !is_printable(subject) {
            return Err(BadIdentity::NoSubject);
        }
        let email: Option<Email> = claims.text("email").and_then(|text| text.parse().ok());
        if email.is_some() && !is_verified(claims, verification) {
            return Err(BadIdentity::EmailNotVerified);
        }
        let username = claims
            .text("preferred_username")
            .or_else(|| claims.text("username"))
            .filter(|name| is_printable(name) && name.len() <= MAX_NAME)
            .or_else(|| email.as_ref().map(Email::as_str))
            .unwrap_or(subject)
            .to_owned();
        let name = claims
            .text("name")
            .filter(|name| is_printable(name) && name.len() <= MAX_NAME && !name.is_empty())
            .map(str::to_owned);
        Ok(Self {
            subject: subject.to_owned(),
            email,
            username,
            name,
        })
    }

    /// What to call this user in a sentence: the address if there is one.
    pub fn account(&self) -> &str {
        self.email.as_ref().map_or(&self.username, Email::as_str)
    }
}

/// Some providers send the claim as a string.
fn is_verified(claims: &Claims, verification: EmailVerification) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(text)) => text == "true",
        Some(_) => false,
        None => verification == EmailVerification::IfPresent,
    }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// OpenID Connect Core §2 limits `sub` to 255 ASCII characters.
const MAX_SUBJECT: usize = 255;
/// Longer names are dropped so that a session stays well under 1 KiB.
const MAX_NAME: usize = 128;

/// Why claims do not make an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadIdentity {
    /// The provider has not verified the address.
    #[error(
        "the identity provider has not verified the e-mail address (email_verified is not true)"
    )]
    EmailNotVerified,
    /// `sub` is missing, too long or has control characters.
    #[error("the identity provider named no usable subject (sub)")]
    NoSubject,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn identity(claims: Value, verification: EmailVerification) -> Result<Identity, BadIdentity> {
        let claims = serde_json::from_value(claims).unwrap_or_default();
        Identity::from_claims(&claims, verification)
    }

    #[test]
    fn a_globus_identity_needs_no_email_verified() {
        let claims = json!({"sub": "c2f5", "email": "Kingfish@Globus.org", "preferred_username": "kingfish@globus.org", "name": "King Fish"});
        assert_eq!(
            identity(claims, EmailVerification::IfPresent),
            Ok(Identity {
                subject: "c2f5".to_owned(),
                email: Some("kingfish@globus.org".parse().unwrap()),
                username: "kingfish@globus.org".to_owned(),
                name: Some("King Fish".to_owned()),
            })
        );
    }

    #[rstest]
    #[case(json!(true), EmailVerification::Required, true)]
    #[case(json!("true"), EmailVerification::Required, true)]
    #[case(json!(false), EmailVerification::Required, false)]
    #[case(json!(false), EmailVerification::IfPresent, false)]
    #[case(json!("false"), EmailVerification::IfPresent, false)]
    #[case(json!(1), EmailVerification::IfPresent, false)]
    #[case(json!(null), EmailVerification::IfPresent, false)]
    fn an_unverified_address_is_refused(
        #[case] verified: Value,
        #[case] verification: EmailVerification,
        #[case] accepted: bool,
    ) {
        let claims = json!({"sub": "s", "email": "a@x.test", "email_verified": verified});
        assert_eq!(identity(claims, verification).is_ok(), accepted);
    }

    #[test]
    fn a_required_verification_that_is_absent_is_refused() {
        let claims = json!({"sub": "s", "email": "a@x.test"});
        assert_eq!(
            identity(claims, EmailVerification::Required),
            Err(BadIdentity::EmailNotVerified)
        );
    }

    #[rstest]
    #[case(json!(["a@x.test"]))]
    #[case(json!(7))]
    #[case(json!("a@evil.test@x.test"))]
    #[case(json!("a@x.test\r\nX-Forwarded-Email: b@x.test"))]
    #[case(json!(null))]
    fn an_address_that_is_not_one_gives_an_identity_without_address(#[case] email: Value) {
        let claims = json!({"sub": "s", "email": email, "email_verified": true});
        assert_eq!(
            identity(claims, EmailVerification::Required).unwrap().email,
            None
        );
    }

    #[rstest]
    #[case(json!({"email": "a@x.test"}))]
    #[case(json!({"sub": ""}))]
    #[case(json!({"sub": 7}))]
    #[case(json!({"sub": "a\nb"}))]
    #[case(json!({"sub": "x".repeat(256)}))]
    fn no_usable_subject_is_refused(#[case] claims: Value) {
        assert_eq!(
            identity(claims, EmailVerification::IfPresent),
            Err(BadIdentity::NoSubject)
        );
    }
}

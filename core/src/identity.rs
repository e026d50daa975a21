//! Who a request comes from, as an identity provider vouched for it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::UnixSeconds;
use crate::email::Email;
use crate::oauth::claims::Claims;

/// A user, as the identity provider named them, or a ServiceAccount of the cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// `sub`: unique and never reassigned within the issuer (OpenID Connect Core §2).
    pub subject: String,
    /// The address that the access rules compare, if the provider gave a usable one.
    pub email: Option<Email>,
    /// `preferred_username`, else the address, else the subject: what pages and headers show.
    pub username: String,
    /// `name`: for people to read, never compared.
    pub name: Option<String>,
    /// The institution that authenticated the user, if the provider says which: the claim
    /// `identity_provider` of Globus and Keycloak, `idp` of CILogon.
    pub identity_provider: Option<NameDigest>,
    /// Those of the user's groups that an access rule names.
    pub groups: Groups,
    /// The ServiceAccount that this is, if it is no user. No rule about users admits it, and none about
    /// ServiceAccounts a user, whatever a provider writes into `sub`.
    pub service_account: Option<ServiceAccount>,
}

/// A ServiceAccount of the cluster.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Memberships, and how old the knowledge of them is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Groups {
    /// At most [`MAX_GROUPS`].
    pub names: Vec<NameDigest>,
    /// When the provider told of them.
    pub as_of: UnixSeconds,
    /// When the provider was last asked; later than `as_of` if it did not answer then.
    pub asked_at: UnixSeconds,
}

/// The first 8 bytes of the SHA-256 of a name that an access rule compares. A session carries the
/// digests of those names only that a rule had when the user logged in, so that users in hundreds of
/// groups have small cookies; nobody but who writes the rules chooses what is digested.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(transparent)]
pub struct NameDigest([u8; 8]);

impl NameDigest {
    /// The digest of `name`.
    pub fn of(name: &str) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        let mut digest = [0; 8];
        for (byte, hashed) in digest.iter_mut().zip(hash.as_ref()) {
            *byte = *hashed;
        }
        Self(digest)
    }

    /// A digest that was written down.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// What the access rules want to know of an identity.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Whether an address counts that is not said to be verified.
    pub email_verification: EmailVerification,
    /// The claim that lists groups, if the provider tells of groups by a claim.
    pub groups_claim: Option<&'a str>,
    /// The groups that rules name.
    pub groups: &'a HashSet<String>,
    /// The providers whose identities count; empty, all.
    pub identity_providers: &'a [String],
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
    /// Where only identities of certain providers count, and the one that logged in is of another, the
    /// first linked identity that counts stands for the user (`identity_set` of Globus).
    ///
    /// # Errors
    /// [`BadIdentity`] if the subject is unusable or the address is not verified. A missing or
    /// malformed address is not an error here: such an identity exists, and no e-mail rule admits it.
    pub fn from_claims(
        claims: &Claims,
        reading: &Reading<'_>,
        now: UnixSeconds,
    ) -> Result<Self, BadIdentity> {
        let linked = linked_that_counts(claims, reading.identity_providers);
        let mut identity = Self::one_from(linked.as_ref().unwrap_or(claims), reading)?;
        if let Some(claim) = reading.groups_claim {
            identity.groups = Groups::from_claim(claims.get(claim), reading.groups, now);
        }
        Ok(identity)
    }

    fn one_from(claims: &Claims, reading: &Reading<'_>) -> Result<Self, BadIdentity> {
        let subject = claims
            .subject()
            .or_else(|| claims.text("id"))
            .ok_or(BadIdentity::NoSubject)?;
        if subject.is_empty() || subject.len() > MAX_SUBJECT || !is_printable(subject) {
            return Err(BadIdentity::NoSubject);
        }
        let email: Option<Email> = claims.text("email").and_then(|text| text.parse().ok());
        if email.is_some() && !is_verified(claims, reading.email_verification) {
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
            identity_provider: identity_provider(claims).map(NameDigest::of),
            ..Self::default()
        })
    }

    /// A ServiceAccount, which the cluster vouches for.
    pub fn of_service_account(account: ServiceAccount) -> Self {
        let subject = format!(
            "system:serviceaccount:{}:{}",
            account.namespace, account.name
        );
        Self {
            username: subject.clone(),
            subject,
            service_account: Some(account),
            ..Self::default()
        }
    }

    /// What to call this user in a sentence: the address if there is one.
    pub fn account(&self) -> &str {
        self.email.as_ref().map_or(&self.username, Email::as_str)
    }
}

impl Groups {
    /// Reads a claim that lists groups: an array of names, or one name (Dex, Keycloak and Entra send
    /// the former). Names that no rule has are dropped.
    pub fn from_claim(
        claim: Option<&Value>,
        named_by_rules: &HashSet<String>,
        now: UnixSeconds,
    ) -> Self {
        let names: &[Value] = match claim {
            Some(Value::Array(names)) => names,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        Self::of(names.iter().filter_map(Value::as_str), named_by_rules, now)
    }

    /// Those of `names` that a rule has, as they are `now`.
    pub fn of<'a>(
        names: impl Iterator<Item = &'a str>,
        named_by_rules: &HashSet<String>,
        now: UnixSeconds,
    ) -> Self {
        let mut names: Vec<NameDigest> = names
            .filter(|name| named_by_rules.contains(*name))
            .map(NameDigest::of)
            .collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_GROUPS);
        Self {
            names,
            as_of: now,
            asked_at: now,
        }
    }
}

/// The first identity of `identity_set` (ID token, userinfo) or `identity_set_detail` (introspection)
/// that counts, if the one that logged in does not.
fn linked_that_counts(claims: &Claims, providers: &[String]) -> Option<Claims> {
    let counts = |claims: &Claims| {
        identity_provider(claims).is_some_and(|found| providers.iter().any(|one| one == found))
    };
    if providers.is_empty() || counts(claims) {
        return None;
    }
    ["identity_set", "identity_set_detail"]
        .iter()
        .filter_map(|name| claims.get(name)?.as_array())
        .flatten()
        .filter_map(|linked| Claims::deserialize(linked).ok())
        .find(|linked| counts(linked) && is_in_use(linked))
}

/// The institution of an identity: the claim of Globus and Keycloak, else that of CILogon.
fn identity_provider(claims: &Claims) -> Option<&str> {
    claims
        .text("identity_provider")
        .or_else(|| claims.text("idp"))
        .filter(|provider| !provider.is_empty())
}

/// Whether a Globus identity is somebody's: not one that was closed, or never used.
fn is_in_use(identity: &Claims) -> bool {
    matches!(identity.text("status"), None | Some("used"))
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
/// More memberships than this are not kept, for the same reason: who is in that many of the groups that
/// a rule names is admitted by any of them.
pub const MAX_GROUPS: usize = 32;

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

    fn identity(claims: &Value, verification: EmailVerification) -> Result<Identity, BadIdentity> {
        read(claims, verification, &[], &[])
    }

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn read(
        claims: &Value,
        email_verification: EmailVerification,
        groups: &[&str],
        providers: &[&str],
    ) -> Result<Identity, BadIdentity> {
        let claims = Claims::deserialize(claims).unwrap_or_default();
        let owned = |text: &&str| (*text).to_owned();
        let reading = Reading {
            email_verification,
            groups_claim: Some("groups"),
            groups: &groups.iter().map(owned).collect(),
            identity_providers: &providers.iter().map(owned).collect::<Vec<_>>(),
        };
        Identity::from_claims(&claims, &reading, NOW)
    }

    /// Somebody who logged in with a Google account and has linked one of a laboratory.
    fn linked() -> Value {
        json!({
            "sub": "google-1", "email": "alice@gmail.test", "preferred_username": "alice@gmail.test",
            "identity_provider": "idp-google",
            "identity_set": [
                {"sub": "closed-1", "email": "old@lab.test", "username": "old@lab.test",
                 "identity_provider": "idp-lab", "status": "closed"},
                {"sub": "lab-1", "email": "alice@lab.test", "username": "alice@lab.test",
                 "identity_provider": "idp-lab", "last_authentication": null},
                {"sub": "google-1", "email": "alice@gmail.test", "username": "alice@gmail.test",
                 "identity_provider": "idp-google"},
            ],
        })
    }

    #[rstest]
    #[case::all_count(&[], "google-1", "alice@gmail.test")]
    #[case::the_one_that_logged_in(&["idp-google"], "google-1", "alice@gmail.test")]
    #[case::a_linked_one(&["idp-lab"], "lab-1", "alice@lab.test")]
    #[case::the_one_that_logged_in_comes_first(&["idp-lab", "idp-google"], "google-1", "alice@gmail.test")]
    #[case::none(&["idp-other"], "google-1", "alice@gmail.test")]
    fn only_identities_of_pinned_providers_stand_for_a_user(
        #[case] providers: &[&str],
        #[case] subject: &str,
        #[case] email: &str,
    ) {
        let mut claims = linked();
        for member in ["identity_set", "identity_set_detail"] {
            let identity = read(&claims, EmailVerification::IfPresent, &[], providers).unwrap();
            assert_eq!(identity.subject, subject, "{member}");
            assert_eq!(identity.email, Some(email.parse().unwrap()));
            claims["identity_set_detail"] = claims["identity_set"].take();
        }
    }

    #[rstest]
    #[case::array(json!(["a", "x", "b", "a"]), &["a", "b"])]
    #[case::one_name(json!("b"), &["b"])]
    #[case::none_that_counts(json!(["x"]), &[])]
    #[case::case_matters(json!(["A"]), &[])]
    #[case::a_part_is_not_the_name(json!(["a b", "ab"]), &[])]
    #[case::not_names(json!([1, {"name": "a"}, null]), &[])]
    #[case::a_map(json!({"a": true}), &[])]
    #[case::absent(json!(null), &[])]
    fn groups_are_those_that_rules_name(#[case] claim: Value, #[case] expected: &[&str]) {
        let claims = json!({"sub": "s", "groups": claim});
        let identity = read(&claims, EmailVerification::Required, &["a", "b"], &[]).unwrap();
        let mut expected: Vec<_> = expected.iter().map(|name| NameDigest::of(name)).collect();
        expected.sort_unstable();
        assert_eq!(identity.groups.names, expected);
        assert_eq!(identity.groups.as_of, NOW);
    }

    #[test]
    fn a_user_in_very_many_groups_keeps_a_bounded_number() {
        let names: Vec<String> = (0..200).map(|number| format!("group-{number}")).collect();
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        let claims = json!({"sub": "s", "groups": names});
        let identity = read(&claims, EmailVerification::Required, &named, &[]).unwrap();
        assert_eq!(identity.groups.names.len(), MAX_GROUPS);
    }

    #[test]
    fn a_globus_identity_needs_no_email_verified() {
        let claims = json!({"sub": "c2f5", "email": "Kingfish@Globus.org", "preferred_username": "kingfish@globus.org", "name": "King Fish"});
        assert_eq!(
            identity(&claims, EmailVerification::IfPresent),
            Ok(Identity {
                subject: "c2f5".to_owned(),
                email: Some("kingfish@globus.org".parse().unwrap()),
                username: "kingfish@globus.org".to_owned(),
                name: Some("King Fish".to_owned()),
                groups: Groups {
                    names: vec![],
                    as_of: NOW,
                    asked_at: NOW,
                },
                ..Identity::default()
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
        assert_eq!(identity(&claims, verification).is_ok(), accepted);
    }

    #[test]
    fn a_required_verification_that_is_absent_is_refused() {
        let claims = json!({"sub": "s", "email": "a@x.test"});
        assert_eq!(
            identity(&claims, EmailVerification::Required),
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
            identity(&claims, EmailVerification::Required)
                .unwrap()
                .email,
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
            identity(&claims, EmailVerification::IfPresent),
            Err(BadIdentity::NoSubject)
        );
    }

    #[test]
    fn a_subject_as_long_as_allowed_is_taken() {
        let subject = "x".repeat(255);
        let read = identity(&json!({"sub": subject}), EmailVerification::IfPresent);
        assert_eq!(read.unwrap().subject, subject);
    }

    #[rstest]
    #[case::one(json!({"preferred_username": "alice"}), "alice")]
    #[case::as_introspection_calls_it(json!({"username": "alice"}), "alice")]
    #[case::as_long_as_allowed(json!({"preferred_username": "x".repeat(128)}), &"x".repeat(128))]
    #[case::too_long(json!({"preferred_username": "x".repeat(129)}), "a@x.test")]
    #[case::not_printable(json!({"preferred_username": "a\r\nX-Forwarded-Email: b"}), "a@x.test")]
    #[case::none(json!({}), "a@x.test")]
    fn a_username_can_stand_in_a_header(#[case] mut claims: Value, #[case] expected: &str) {
        claims["sub"] = json!("s");
        claims["email"] = json!("a@x.test");
        let identity = identity(&claims, EmailVerification::IfPresent).unwrap();
        assert_eq!(identity.username, expected);
        assert_eq!(identity.account(), "a@x.test");
    }

    #[test]
    fn who_has_no_address_is_called_by_name_or_subject() {
        let claims = json!({"sub": "s", "username": "alice"});
        let alice = identity(&claims, EmailVerification::IfPresent).unwrap();
        assert_eq!(alice.account(), "alice");
        let nobody = identity(&json!({"sub": "s"}), EmailVerification::IfPresent).unwrap();
        assert_eq!(nobody.account(), "s");
    }

    #[rstest]
    #[case::one(json!("Alice A."), Some("Alice A."))]
    #[case::as_long_as_allowed(json!("x".repeat(128)), Some(&*"x".repeat(128)))]
    #[case::too_long(json!("x".repeat(129)), None)]
    #[case::not_printable(json!("Alice\nA."), None)]
    #[case::empty(json!(""), None)]
    fn a_name_can_stand_in_a_header(#[case] name: Value, #[case] expected: Option<&str>) {
        let claims = json!({"sub": "s", "name": name});
        let identity = identity(&claims, EmailVerification::IfPresent).unwrap();
        assert_eq!(identity.name.as_deref(), expected);
    }

    #[test]
    fn the_institution_is_kept_for_the_rules() {
        let claims = linked();
        let identity = identity(&claims, EmailVerification::IfPresent).unwrap();
        assert_eq!(
            identity.identity_provider,
            Some(NameDigest::of("idp-google"))
        );
    }

    #[test]
    fn a_service_account_is_its_own_subject() {
        let account = ServiceAccount {
            namespace: "ml".to_owned(),
            name: "train".to_owned(),
        };
        let identity = Identity::of_service_account(account.clone());
        assert_eq!(identity.subject, "system:serviceaccount:ml:train");
        assert_eq!(identity.username, identity.subject);
        assert_eq!(identity.account(), identity.subject);
        assert_eq!(identity.service_account, Some(account));
        assert_eq!(identity.email, None);
    }
}

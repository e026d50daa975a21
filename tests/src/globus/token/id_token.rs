//! ID tokens, and what can be wrong with their claims.

use serde_json::{Value, json};

use crate::globus::Realm;
use crate::globus::claims::Person;
use crate::globus::failure::OAuthError;
use crate::globus::faults::{ActiveFault, Fault};
use crate::globus::signing::at_hash;

/// What an ID token is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) person: &'a Person,
    pub(super) scopes: &'a [String],
    pub(super) client_id: &'a str,
    pub(super) access_token: &'a str,
    pub(super) nonce: Option<&'a str>,
}

/// A signed ID token.
///
/// # Errors
/// `server_error` when it cannot be signed.
pub(super) fn id_token(
    realm: &Realm,
    subject: Subject<'_>,
    fault: &ActiveFault,
) -> Result<String, OAuthError> {
    let now = realm.now();
    let other_issuer = fault
        .is(&Fault::WrongIssuer)
        .then_some("https://another-issuer.test");
    let other_client = fault.is(&Fault::WrongAudience).then_some("another-client");
    let nonce = match subject.nonce {
        _ if fault.is(&Fault::MissingNonce) => None,
        Some(_) if fault.is(&Fault::WrongNonce) => Some("another-nonce"),
        nonce => nonce,
    };
    let lifetime = i64::from(realm.config().id_token_lifetime_seconds);
    let age = if fault.is(&Fault::ExpiredIdToken) {
        lifetime + LONG_AGO
    } else {
        0
    };
    let issued_at = now - age;
    let mut claims = subject.person.claims(subject.scopes);
    let protocol = [
        ("iss", json!(other_issuer.unwrap_or_else(|| realm.issuer()))),
        // A string, not an array.
        ("aud", json!(other_client.unwrap_or(subject.client_id))),
        ("iat", json!(issued_at)),
        ("exp", json!(issued_at + lifetime)),
        ("at_hash", json!(at_hash(subject.access_token))),
    ];
    for (name, value) in protocol {
        // A user's own claims may overrule even these.
        claims.entry(name).or_insert(value);
    }
    if let Some(nonce) = nonce {
        claims.entry("nonce").or_insert_with(|| json!(nonce));
    }
    let key = realm.signing_key();
    key.sign(&Value::Object(claims), fault.0.as_ref())
        .map_err(|_| OAuthError::server_error())
}

/// How long ago an expired token ended: more than any leeway.
const LONG_AGO: i64 = 3600;

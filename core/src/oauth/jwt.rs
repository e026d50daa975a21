//! Signed JSON Web Tokens: from untrusted text to claims whose signature and times hold (RFC 7519, RFC 8725).

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::jwks::KeySet;
use crate::clock::UnixSeconds;
use crate::url::Issuer;

/// The signature algorithms that may be accepted: asymmetric ones only. `none` and `HS…` cannot even
/// be named (RFC 8725 §3.1).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are those of RFC 7518 §3.1 and RFC 8037 §3.1"
)]
pub enum SignatureAlgorithm {
    EdDSA,
    ES256,
    ES384,
    PS256,
    PS384,
    PS512,
    RS256,
    RS384,
    RS512,
}

impl SignatureAlgorithm {
    /// What a provider may use if nothing is configured.
    pub const ALL: [Self; 9] = [
        Self::EdDSA,
        Self::ES256,
        Self::ES384,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
    ];

    const fn library(self) -> Algorithm {
        match self {
            Self::EdDSA => Algorithm::EdDSA,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
        }
    }
}

/// What a token must be to count.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`, compared exactly.
    pub issuer: &'a Issuer,
    /// `aud` must be, or contain, one of these.
    pub audiences: &'a [String],
    /// The algorithms that the header may name.
    pub algorithms: &'a [SignatureAlgorithm],
}

/// Verifies signature, issuer, audience and times of `token`.
///
/// # Errors
/// [`BadJwt`]. See [`BadJwt::may_change_with_keys`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: Expected<'_>,
    now: UnixSeconds,
) -> Result<Claims, BadJwt> {
    let claims = verify_signature(token, keys, expected.algorithms)?;
    if claims.text("iss") != Some(expected.issuer.as_str()) {
        return Err(BadJwt::OtherIssuer);
    }
    if !expected
        .audiences
        .iter()
        .any(|audience| claims.has_audience(audience))
    {
        return Err(BadJwt::OtherAudience);
    }
    check_times(&claims, now)?;
    Ok(claims)
}

fn verify_signature(
    token: &str,
    keys: &KeySet,
    algorithms: &[SignatureAlgorithm],
) -> Result<Claims, BadJwt> {
    if token.len() > MAX_LENGTH {
        return Err(BadJwt::TooLong);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_malformed| BadJwt::Malformed)?;
    // RFC 7515 §4.1.11: extensions that we do not understand, which is all, refuse the token.
    if header.crit.is_some() {
        return Err(BadJwt::Malformed);
    }
    let algorithm = algorithms
        .iter()
        .map(|allowed| allowed.library())
        .find(|allowed| *allowed == header.alg)
        .ok_or(BadJwt::Algorithm)?;
    let candidates = keys.find(header.kid.as_deref(), algorithm);
    if candidates.is_empty() {
        return Err(BadJwt::UnknownKey);
    }

    // The library checks the signature; issuer, audience and times are ours, because they take the
    // time as a parameter and accept what providers really send.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    candidates
        .iter()
        .find_map(|key| jsonwebtoken::decode::<Claims>(token, &key.key, &validation).ok())
        .map(|data| data.claims)
        .ok_or(BadJwt::Signature)
}

/// Whether `token` says that it is of `issuer`. It may lie: this only spares work on tokens that can not
/// be of that issuer.
pub fn claims_issuer(token: &str, issuer: &Issuer) -> bool {
    let payload = token
        .split('.')
        .nth(1)
        .filter(|_| token.len() <= MAX_LENGTH);
    payload
        .and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok())
        .and_then(|json| serde_json::from_slice::<Claims>(&json).ok())
        .is_some_and(|claims| claims.text("iss") == Some(issuer.as_str()))
}

/// `exp` is required; `nbf` and `iat` must not lie in the future (RFC 7519 §4.1.4 to 4.1.6).
fn check_times(claims: &Claims, now: UnixSeconds) -> Result<(), BadJwt> {
    if claims.count_until().is_none_or(|end| now >= end) {
        return Err(BadJwt::Expired);
    }
    for name in ["nbf", "iat"] {
        match (claims.get(name), claims.time(name)) {
            (None, _) => {}
            (Some(_), Some(time)) if time <= now.after(LEEWAY) => {}
            (Some(_), _) => return Err(BadJwt::NotYetValid),
        }
    }
    Ok(())
}

/// How far the clocks of two machines may be apart.
pub const LEEWAY: Duration = Duration::from_mins(1);
/// An ID token of a user with 60 linked Globus identities is about 20 kB.
const MAX_LENGTH: usize = 64 * 1024;

/// Why a token does not count. The texts name no part of the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadJwt {
    /// The header names an algorithm that is not allowed, `none` among them.
    #[error("the token's signature algorithm is not allowed")]
    Algorithm,
    /// `exp` is past or absent.
    #[error("the token has expired")]
    Expired,
    /// Not three parts of base64url with JSON, or with critical extensions.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// `nbf` or `iat` lies in the future: a clock is wrong.
    #[error("the token is not valid yet; compare the clocks")]
    NotYetValid,
    /// `aud` is somebody else.
    #[error("the token is for another audience")]
    OtherAudience,
    /// `iss` is somebody else.
    #[error("the token is of another issuer")]
    OtherIssuer,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Longer than 64 KiB.
    #[error("the token is too long")]
    TooLong,
    /// The provider's key set has no key for it.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
}

impl BadJwt {
    /// Whether newer keys of the issuer may verify the token. Where keys have no names, as with Globus,
    /// nothing but a wrong signature tells that they have changed.
    pub const fn may_change_with_keys(self) -> bool {
        matches!(self, Self::Signature | Self::UnknownKey)
    }
}

#[cfg(test)]
mod tests;

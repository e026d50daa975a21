//! The logout token by which a provider ends sessions (OpenID Connect Back-Channel Logout 1.0 §2.4).

use serde_json::Value;

use super::claims::Claims;
use super::jwks::KeySet;
use super::jwt::{self, BadJwt, Expected, SignatureAlgorithm};
use crate::clock::UnixSeconds;
use crate::ended::{Ended, Sessions};
use crate::identity::NameDigest;
use crate::url::Issuer;

/// Verifies `token`, and returns which sessions it ends (§2.6).
///
/// One that names a session of the provider ends what began in it; one that names a user only ends what
/// began until the token was issued. So a token that is sent again ends nothing new, and there is no need
/// to remember its `jti`.
///
/// # Errors
/// [`BadLogoutToken`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    issuer: &Issuer,
    client_id: &str,
    now: UnixSeconds,
) -> Result<Ended, BadLogoutToken> {
    let expected = Expected {
        issuer,
        audiences: &[client_id.to_owned()],
        algorithms: &SignatureAlgorithm::ALL,
    };
    let claims = jwt::verify(token, keys, expected, now)?;
    // Step 6: an ID token is none.
    if claims.get("nonce").is_some() {
        return Err(BadLogoutToken::IdToken);
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(BadLogoutToken::NoEvent);
    }
    let issued_at = claims.time("iat").ok_or(BadLogoutToken::NotIssued)?;
    if claims.text("jti").is_none_or(str::is_empty) {
        return Err(BadLogoutToken::NoId);
    }
    ended(&claims, issued_at.min(now)).ok_or(BadLogoutToken::Nobody)
}

fn ended(claims: &Claims, issued_at: UnixSeconds) -> Option<Ended> {
    let named = |name| claims.text(name).filter(|text: &&str| !text.is_empty());
    let (subject, session) = (named("sub"), named("sid"));
    // A claim of another type is not an absent one.
    let is_odd = |name| claims.get(name).is_some() && named(name).is_none();
    if is_odd("sub") || is_odd("sid") || (subject.is_none() && session.is_none()) {
        return None;
    }
    Some(Ended {
        subject: subject.map(NameDigest::of),
        sessions: session.map_or(Sessions::Before(issued_at), |sid| {
            Sessions::OfProvider(NameDigest::of(sid))
        }),
    })
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Why a logout token ends nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadLogoutToken {
    /// It has a nonce.
    #[error("the token is an ID token (nonce)")]
    IdToken,
    /// The JWT itself is bad.
    #[error(transparent)]
    Jwt(#[from] BadJwt),
    /// `events` does not name a back-channel logout.
    #[error("the token does not say that it is about a logout (events)")]
    NoEvent,
    /// `jti` is missing.
    #[error("the token has no id (jti)")]
    NoId,
    /// Neither `sub` nor `sid`, or not as text.
    #[error("the token names neither user nor session (sub, sid)")]
    Nobody,
    /// `iat` is missing.
    #[error("the token does not say when it was issued (iat)")]
    NotIssued,
}

impl BadLogoutToken {
    /// As [`BadJwt::may_change_with_keys`].
    pub const fn may_change_with_keys(self) -> bool {
        match self {
            Self::Jwt(reason) => reason.may_change_with_keys(),
            Self::IdToken | Self::NoEvent | Self::NoId | Self::Nobody | Self::NotIssued => false,
        }
    }
}

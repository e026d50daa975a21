//! The ID token of a login (OpenID Connect Core §3.1.3.7).

use super::claims::Claims;
use super::jwks::KeySet;
use super::jwt::{self, BadJwt, Expected, SignatureAlgorithm};
use crate::clock::UnixSeconds;
use crate::url::Issuer;

/// What this login's ID token must say.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Our client id: the audience.
    pub client_id: &'a str,
    /// The provider.
    pub issuer: &'a Issuer,
    /// The nonce of the authorization request.
    pub nonce: &'a str,
}

/// Verifies the ID token that the token endpoint returned for `login`.
///
/// # Errors
/// [`BadIdToken`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    login: Login<'_>,
    now: UnixSeconds,
) -> Result<Claims, BadIdToken> {
    let claims = jwt::verify(
        token,
        keys,
        Expected {
            issuer: login.issuer,
            audiences: &[login.client_id.to_owned()],
            algorithms: &SignatureAlgorithm::ALL,
        },
        now,
    )?;
    // Steps 4 and 5: several audiences need `azp`, and `azp` must be us.
    let authorized_party = claims.text("azp");
    let is_ours = match authorized_party {
        Some(party) => party == login.client_id,
        None => claims.get("azp").is_none() && !claims.has_several_audiences(),
    };
    if !is_ours {
        return Err(BadIdToken::AuthorizedParty);
    }
    if claims.text("nonce") != Some(login.nonce) {
        return Err(BadIdToken::Nonce);
    }
    Ok(claims)
}

/// Why an ID token does not belong to this login.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadIdToken {
    /// `azp` is another client.
    #[error("the ID token was issued for another client (azp)")]
    AuthorizedParty,
    /// The JWT itself is bad.
    #[error(transparent)]
    Jwt(#[from] BadJwt),
    /// The nonce is not the one of this login.
    #[error("the ID token belongs to another login (nonce)")]
    Nonce,
}

impl BadIdToken {
    /// As [`BadJwt::may_change_with_keys`].
    pub const fn may_change_with_keys(self) -> bool {
        match self {
            Self::Jwt(reason) => reason.may_change_with_keys(),
            Self::AuthorizedParty | Self::Nonce => false,
        }
    }
}

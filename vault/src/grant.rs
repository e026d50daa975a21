//! What a user let a workload do at a resource server, as the vault keeps it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::random;
use secrecy::ExposeSecret;

use crate::answer::TokenSet;
use crate::envelope::{Binding, Field};
use crate::progress::{Moment, Progress};

/// The SHA-256 of a refresh token: names it without showing it. Refresh tokens are random, so nobody
/// finds one by its digest.
pub type Digest = [u8; 32];

/// Names a refresh token.
pub fn digest(secret: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.as_ref());
    digest
}

/// A user, by what never changes: `iss` and `sub` (OpenID Connect Core §2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct User {
    /// The issuer of the identity.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

/// What there is at most one grant for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Owner {
    /// The workload: `namespace/serviceaccount`.
    pub tenant: String,
    /// On whose behalf.
    pub user: User,
    /// The issuer of the tokens.
    pub issuer: String,
    /// The client to which it gave them.
    pub client_id: String,
    /// The resource server where they are good.
    pub resource: String,
}

impl Owner {
    /// Where a secret of the row `row` lies.
    pub(crate) fn binding<'a>(&'a self, row: &'a str, field: Field) -> Binding<'a> {
        Binding {
            tenant: &self.tenant,
            user_issuer: &self.user.issuer,
            user_subject: &self.user.subject,
            issuer: &self.issuer,
            client_id: &self.client_id,
            resource: &self.resource,
            grant: row,
            field,
        }
    }
}

/// How tokens are got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// From the consent of a user (RFC 6749 §4.1).
    AuthorizationCode,
    /// With the client's own credentials (RFC 6749 §4.4).
    ClientCredentials,
    /// A token that somebody uploaded; it cannot be refreshed.
    Manual,
}

/// How a grant is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Tokens are got as they are needed.
    Active,
    /// The last refresh failed; the next one may work, and the access token is good until it expires.
    Degraded,
    /// Only the user can make it work again.
    NeedsReauthentication,
    /// The user or an administrator took it back.
    Revoked,
}

/// Why only the user can make a grant work again, or soon, if it goes on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// The refresh token may have been redeemed without our hearing of it.
    AmbiguousRotation,
    /// The stored tokens are not what was written there.
    Corrupt,
    /// The issuer wants the user to consent, or to log in again.
    InteractionRequired,
    /// The issuer does not accept the refresh token any more.
    InvalidGrant,
    /// The issuer refuses, in a way that no rule knows. After an hour, the user is asked.
    Refused,
}

/// A grant, with its secrets sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Names the row.
    pub id: String,
    /// What there is at most one grant for.
    pub owner: Owner,
    /// How tokens are got.
    pub kind: Kind,
    /// What the tokens allow.
    pub scopes: Vec<String>,
    /// What of it the user has let the workload use.
    pub consented: Vec<String>,
    /// How it is.
    pub state: State,
    /// Why it needs the user, or soon will.
    pub reason: Option<Reason>,
    /// What the next login must have, as far as the issuer said it.
    pub requirements: SessionRequirements,
    /// How its refresh token moves on.
    pub progress: Progress<Digest>,
    /// The tokens.
    pub tokens: SealedTokens,
    /// When the user logged in with whose login it came.
    pub authenticated_at: Moment,
    /// When the access token was given out.
    pub issued_at: Moment,
    /// When the access token expires.
    pub access_expires_at: Moment,
    /// When it is refreshed next; none where there is nothing to refresh.
    pub due_at: Option<Moment>,
    /// When a workload last asked for it.
    pub used_at: Moment,
    /// Refreshes that failed since the last one that worked.
    pub failures: u32,
    /// When the first of them failed.
    pub failing_since: Option<Moment>,
    /// As whom, where the issuer is another than that of the login, and says so.
    pub account: Option<String>,
}

/// Tokens as they lie in the store, all under one key.
#[derive(Clone, Eq, PartialEq)]
pub struct SealedTokens {
    /// The key.
    pub key_id: String,
    /// The refresh token.
    pub refresh: Option<Vec<u8>>,
    /// The access token.
    pub access: Option<Vec<u8>>,
}

impl std::fmt::Debug for SealedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedTokens({:?})", self.key_id)
    }
}

impl Grant {
    /// A grant of what an issuer has just given, in place of `present`; its tokens are not sealed yet.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn given(
        owner: Owner,
        kind: Kind,
        set: &TokenSet,
        present: Option<&Self>,
        now: Moment,
    ) -> Result<Self, random::Unavailable> {
        let id = match present {
            Some(grant) => grant.id.clone(),
            None => URL_SAFE_NO_PAD.encode(random::bytes::<16>()?),
        };
        let token = set.refresh_token.as_ref();
        Ok(Self {
            id,
            owner,
            kind,
            scopes: set.scopes.clone().unwrap_or_default(),
            consented: present.map_or_else(Vec::new, |grant| grant.consented.clone()),
            state: State::Active,
            reason: None,
            requirements: SessionRequirements::default(),
            progress: Progress {
                version: present.map_or(1, |grant| grant.progress.version + 1),
                token: token.map(|token| digest(token.expose_secret().as_bytes())),
                parent: None,
                sent_at: now,
                attempt: None,
                lease_until: Moment::ZERO,
            },
            tokens: SealedTokens {
                key_id: String::new(),
                refresh: None,
                access: None,
            },
            authenticated_at: now,
            issued_at: now,
            access_expires_at: now.saturating_add(set.lifetime),
            due_at: None,
            used_at: now,
            failures: 0,
            failing_since: None,
            account: None,
        })
    }

    /// Where a secret of this grant lies.
    pub fn binding(&self, field: Field) -> Binding<'_> {
        self.owner.binding(&self.id, field)
    }

    /// Whether the workload may use the tokens: the user has let it do all that they allow. Nobody is asked
    /// for tokens that act for no user.
    pub fn is_consented(&self) -> bool {
        self.kind == Kind::ClientCredentials
            || self
                .scopes
                .iter()
                .all(|scope| self.consented.contains(scope))
    }

    /// Whether the access token is good for at least `margin` more.
    pub fn is_fresh(&self, now: Moment, margin: Duration) -> bool {
        self.tokens.access.is_some() && now.saturating_add(margin) < self.access_expires_at
    }

    /// How long the access token was good when it was given out.
    pub fn lifetime(&self) -> Duration {
        self.access_expires_at.saturating_sub(self.issued_at)
    }
}

/// An enumeration that the store writes as a word.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What `word` says, if it is one.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(Kind {
    AuthorizationCode = "authorization_code",
    ClientCredentials = "client_credentials",
    Manual = "manual",
});

words!(State {
    Active = "active",
    Degraded = "degraded",
    NeedsReauthentication = "needs_reauthentication",
    Revoked = "revoked",
});

words!(Reason {
    AmbiguousRotation = "ambiguous_rotation",
    Corrupt = "corrupt",
    InteractionRequired = "interaction_required",
    InvalidGrant = "invalid_grant",
    Refused = "refused",
});

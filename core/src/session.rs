//! A browser session: an identity in one small sealed cookie, and when it ends.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::identity::{Groups, Identity, NameDigest};
use crate::random;
use crate::sealer::{OpenError, SealError, Sealer};

/// Who is logged in, since when, and until when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Names this session, so that it can be ended before its time.
    pub id: SessionId,
    /// Whose it is.
    pub identity: Identity,
    /// When the user logged in: the absolute limit counts from here.
    pub logged_in_at: UnixSeconds,
    /// When the session was last seen: the idle limit counts from here. Up to a
    /// tenth of the idle limit behind the truth, so that not every response sets a cookie.
    pub seen_at: UnixSeconds,
    /// The provider's session in which the user logged in (`sid` of the ID token), if it named one.
    pub provider_session: Option<NameDigest>,
    /// When it ends at the latest, by the limits of the login: longer limits do not revive it.
    pub last_end: UnixSeconds,
}

/// 128 random bits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new id.
    ///
    /// # Errors
    /// [`random::Unavailable`].
    pub fn random() -> Result<Self, random::Unavailable> {
        random::bytes().map(Self)
    }

    /// An id that was written down.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A session ends this long after it was last used.
    pub idle: Duration,
    /// A session ends this long after the login, whatever happens.
    pub absolute: Duration,
}

impl Limits {
    /// How old `seen_at` may grow before a response renews the cookie: a tenth of the idle limit.
    fn renewal(self) -> Duration {
        self.idle / 10
    }
}

impl Session {
    /// A session that starts now. Every login makes a new one, so that a session planted in a
    /// browser beforehand is not the one that the user logs in to.
    ///
    /// # Errors
    /// [`random::Unavailable`].
    pub fn start(
        identity: Identity,
        limits: Limits,
        now: UnixSeconds,
    ) -> Result<Self, random::Unavailable> {
        Ok(Self {
            id: SessionId::random()?,
            identity,
            logged_in_at: now,
            seen_at: now,
            provider_session: None,
            last_end: now.after(limits.absolute),
        })
    }

    /// When this session ends if it is not used again.
    pub fn ends_at(&self, limits: Limits) -> UnixSeconds {
        self.seen_at
            .after(limits.idle)
            .min(self.ends_at_last(limits))
    }

    /// When this session ends however much it is used.
    pub fn ends_at_last(&self, limits: Limits) -> UnixSeconds {
        self.logged_in_at.after(limits.absolute).min(self.last_end)
    }

    /// This session with a newer `seen_at`, if it is time to set the cookie again.
    #[must_use]
    pub fn renewed(&self, limits: Limits, now: UnixSeconds) -> Option<Self> {
        (now.since(self.seen_at) >= limits.renewal()).then(|| Self {
            seen_at: now,
            ..self.clone()
        })
    }

    /// The value of the session cookie.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, sealer: &Sealer) -> Result<String, SealError> {
        let wire = Wire {
            version: VERSION,
            id: self.id,
            logged_in_at: self.logged_in_at,
            seen_at: self.seen_at,
            subject: &self.identity.subject,
            email: self
                .identity
                .email
                .as_ref()
                .map(crate::email::Email::as_str),
            username: &self.identity.username,
            name: self.identity.name.as_deref(),
            identity_provider: self.identity.identity_provider,
            groups: Cow::Borrowed(&self.identity.groups.names),
            groups_as_of: self.identity.groups.as_of,
            groups_asked_at: self.identity.groups.asked_at,
            provider_session: self.provider_session,
            last_end: self.last_end,
        };
        let bytes = postcard::to_stdvec(&wire).map_err(|_out_of_memory| SealError)?;
        sealer.seal(&bytes)
    }

    /// Reads the value of a session cookie.
    ///
    /// # Errors
    /// [`BadSession`].
    pub fn open(
        sealer: &Sealer,
        cookie: &[u8],
        limits: Limits,
        now: UnixSeconds,
    ) -> Result<Self, BadSession> {
        // What does not fit is no cookie of ours.
        let mut buffer = [0_u8; MAX_SEALED_LENGTH];
        let plaintext = sealer.open(cookie, &mut buffer)?;
        let wire: Wire<'_> =
            postcard::from_bytes(plaintext).map_err(|_format| BadSession::Forged)?;
        if wire.version != VERSION {
            return Err(BadSession::Forged);
        }
        let session = Self {
            id: wire.id,
            identity: Identity {
                subject: wire.subject.to_owned(),
                email: wire
                    .email
                    .map(str::parse)
                    .transpose()
                    .map_err(|_format| BadSession::Forged)?,
                username: wire.username.to_owned(),
                name: wire.name.map(str::to_owned),
                identity_provider: wire.identity_provider,
                groups: Groups {
                    names: wire.groups.into_owned(),
                    as_of: wire.groups_as_of,
                    asked_at: wire.groups_asked_at,
                },
                // They bring a token each time; nobody logs them in.
                service_account: None,
            },
            logged_in_at: wire.logged_in_at,
            seen_at: wire.seen_at,
            provider_session: wire.provider_session,
            last_end: wire.last_end,
        };
        // A session from the future means that a clock was set back; its limits cannot be told.
        if now >= session.ends_at(limits) || session.seen_at > now.after(CLOCK_SKEW) {
            return Err(BadSession::Expired);
        }
        Ok(session)
    }
}

/// The plaintext of a session cookie, in postcard's encoding.
#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    version: u8,
    id: SessionId,
    logged_in_at: UnixSeconds,
    seen_at: UnixSeconds,
    subject: &'a str,
    email: Option<&'a str>,
    username: &'a str,
    name: Option<&'a str>,
    identity_provider: Option<NameDigest>,
    groups: Cow<'a, [NameDigest]>,
    groups_as_of: UnixSeconds,
    groups_asked_at: UnixSeconds,
    provider_session: Option<NameDigest>,
    last_end: UnixSeconds,
}

const VERSION: u8 = 3;
/// Two replicas may disagree about the time by this much.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// The longest subject, address and names make less; browsers allow 4,096 for name, value and attributes.
pub const MAX_SEALED_LENGTH: usize = 1536;

/// Why a session cookie does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSession {
    /// Past its idle or absolute limit.
    #[error("the session has expired")]
    Expired,
    /// Not sealed by us for this proxy, provider and client.
    #[error("the session cookie is not ours")]
    Forged,
}

impl From<OpenError> for BadSession {
    fn from(OpenError: OpenError) -> Self {
        Self::Forged
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::identity::MAX_GROUPS;
    use crate::sealer::{Context, KeyBytes, KeyId};

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(1000),
        absolute: Duration::from_secs(5000),
    };
    const LOGIN: UnixSeconds = UnixSeconds(1_000_000);

    fn sealer(purpose: &'static str) -> Sealer {
        let keys = [(KeyId(1), KeyBytes::new([7; 32]))];
        Sealer::new(
            &keys,
            Context {
                purpose,
                binding: &[],
            },
        )
        .unwrap()
    }

    fn groups(count: usize) -> Groups {
        Groups {
            names: (0..count).map(|n| NameDigest::of(&n.to_string())).collect(),
            as_of: LOGIN,
            asked_at: LOGIN,
        }
    }

    fn session() -> Session {
        let identity = Identity {
            subject: "c2f5a5b0-1f6f-4c2b-9d8e-000000000001".to_owned(),
            email: Some("alice@example.org".parse().unwrap()),
            username: "alice@example.org".to_owned(),
            name: Some("Alice Example".to_owned()),
            identity_provider: Some(NameDigest::of("41143743-f3c8-4d60-bbdb-eeecaba85bd9")),
            groups: groups(2),
            ..Identity::default()
        };
        Session::start(identity, LIMITS, LOGIN).unwrap()
    }

    #[test]
    fn a_session_survives_its_cookie() {
        let session = session();
        let cookie = session.seal(&sealer("session")).unwrap();
        assert_eq!(
            Session::open(&sealer("session"), cookie.as_bytes(), LIMITS, LOGIN),
            Ok(session)
        );
    }

    #[test]
    fn a_cookie_sealed_for_another_purpose_is_forged() {
        let cookie = session().seal(&sealer("login")).unwrap();
        assert_eq!(
            Session::open(&sealer("session"), cookie.as_bytes(), LIMITS, LOGIN),
            Err(BadSession::Forged)
        );
    }

    #[rstest]
    #[case::fresh(0, 0, true)]
    #[case::just_before_idle(0, 999, true)]
    #[case::idle(0, 1000, false)]
    #[case::used_lately(4500, 4999, true)]
    #[case::absolute(4500, 5000, false)]
    #[case::clocks_differ_a_little(60, 0, true)]
    #[case::clock_set_back(61, 0, false)]
    fn a_session_ends_at_its_limits(#[case] seen: u64, #[case] now: u64, #[case] alive: bool) {
        let session = Session {
            seen_at: UnixSeconds(LOGIN.0 + seen),
            ..session()
        };
        let cookie = session.seal(&sealer("session")).unwrap();
        let opened = Session::open(
            &sealer("session"),
            cookie.as_bytes(),
            LIMITS,
            UnixSeconds(LOGIN.0 + now),
        );
        assert_eq!(
            opened,
            if alive {
                Ok(session)
            } else {
                Err(BadSession::Expired)
            }
        );
    }

    #[rstest]
    #[case(99, None)]
    #[case(100, Some(100))]
    fn the_cookie_is_renewed_after_a_tenth_of_the_idle_limit(
        #[case] after: u64,
        #[case] seen: Option<u64>,
    ) {
        let renewed = session().renewed(LIMITS, UnixSeconds(LOGIN.0 + after));
        assert_eq!(renewed.map(|session| session.seen_at.0 - LOGIN.0), seen);
    }

    #[test]
    fn longer_limits_do_not_revive_a_session() {
        let session = Session {
            seen_at: UnixSeconds(LOGIN.0 + 4999),
            ..session()
        };
        let longer = Limits {
            absolute: LIMITS.absolute * 2,
            ..LIMITS
        };
        let cookie = session.seal(&sealer("session")).unwrap();
        let open = |now| {
            let now = UnixSeconds(LOGIN.0 + now);
            Session::open(&sealer("session"), cookie.as_bytes(), longer, now)
        };
        assert!(open(4999).is_ok());
        assert_eq!(open(5000), Err(BadSession::Expired));
    }

    #[test]
    fn two_logins_never_share_an_id() {
        assert_ne!(session().id, session().id);
    }

    #[test]
    fn the_longest_identity_fits() {
        let identity = Identity {
            subject: "s".repeat(255),
            email: Some(format!("{}@example.org", "e".repeat(242)).parse().unwrap()),
            username: "u".repeat(128),
            name: Some("n".repeat(128)),
            groups: groups(MAX_GROUPS),
            ..session().identity
        };
        let cookie = Session::start(identity, LIMITS, LOGIN)
            .unwrap()
            .seal(&sealer("session"))
            .unwrap();
        assert!(cookie.len() <= MAX_SEALED_LENGTH, "{}", cookie.len());
    }

    #[test]
    fn a_usual_cookie_is_small() {
        let cookie = session().seal(&sealer("session")).unwrap();
        assert!(cookie.len() < 320, "{}", cookie.len());
    }

    #[test]
    fn the_cookie_of_a_user_in_very_many_groups_is_below_one_kibibyte() {
        let mut session = session();
        session.identity.groups = groups(MAX_GROUPS);
        let cookie = session.seal(&sealer("session")).unwrap();
        assert!(cookie.len() < 700, "{}", cookie.len());
    }
}

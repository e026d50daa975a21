//! How a refresh token moves on, whatever crashes: the rules that the refresher acts by, and that the
//! model checker tries with every order of events.
//!
//! A replica that refreshes a grant writes down first that it is about to ([`claim`]), redeems the
//! refresh token outside of any transaction, and stores what it got ([`land`]). Whoever dies between the
//! two leaves an [`Attempt`] behind, by which the next one knows that the token may be spent.
//!
//! Everything here is pure, and knows no secret: `T` names a refresh token (its digest, in the store).

use std::time::Duration;

/// A moment, since 1970-01-01T00:00:00Z.
pub type Moment = Duration;

/// What the store knows of the refresh of one grant.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Progress<T> {
    /// Grows with every write: the fence of whoever holds the lease.
    pub version: u64,
    /// The refresh token that is stored; none after a revocation.
    pub token: Option<T>,
    /// The refresh token for which the issuer gave the stored one; none if it came from a login.
    pub parent: Option<T>,
    /// When the request was sent that brought the stored refresh token.
    pub sent_at: Moment,
    /// The redemption that was begun and not yet seen to end.
    pub attempt: Option<Attempt<T>>,
    /// Until when nobody else may begin one.
    pub lease_until: Moment,
}

/// A redemption that was begun: written before the token is sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Attempt<T> {
    /// The refresh token that is redeemed.
    pub token: T,
    /// When it was first sent at the earliest.
    pub started_at: Moment,
    /// How often it was sent without an answer that tells the outcome; the present try included.
    pub tries: u32,
}

/// What an issuer does with a refresh token that was redeemed (RFC 9700 §4.14.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Rotation {
    /// It stays good, as at Globus.
    Never,
    /// A new one takes its place; the old one is good for this long after its first use, and its use
    /// after that may end all that came from the same login.
    Grace(Duration),
}

/// Whether a refresh may begin.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Claim<T> {
    /// Write this attempt with a lease, if the version is still the same, and then redeem.
    Redeem(Attempt<T>),
    /// Somebody else is at it.
    Held,
    /// Nobody knows whether the token was redeemed, and the issuer would take a second use amiss: only
    /// the user can give a new one.
    Ambiguous,
    /// There is no refresh token.
    Revoked,
}

/// Decides whether a refresh may begin `now`.
pub fn claim<T: Copy + Eq>(progress: &Progress<T>, rotation: Rotation, now: Moment) -> Claim<T> {
    let Some(token) = progress.token else {
        return Claim::Revoked;
    };
    if now < progress.lease_until {
        return Claim::Held;
    }
    let fresh = Attempt {
        token,
        started_at: now,
        tries: 1,
    };
    match progress.attempt {
        // An attempt at a token that is no longer stored has ended.
        Some(attempt) if attempt.token == token => {
            let again = Attempt {
                tries: attempt.tries.saturating_add(1),
                ..attempt
            };
            match rotation {
                Rotation::Never => Claim::Redeem(again),
                Rotation::Grace(grace) if now < attempt.started_at.saturating_add(grace) => {
                    Claim::Redeem(again)
                }
                Rotation::Grace(_) => Claim::Ambiguous,
            }
        }
        Some(_) | None => Claim::Redeem(fresh),
    }
}

/// Until when the token of `attempt` may be sent: within the lease, and, if it may be spent already, within
/// what the issuer allows.
pub fn send_before<T>(attempt: &Attempt<T>, rotation: Rotation, lease_until: Moment) -> Moment {
    match rotation {
        Rotation::Grace(grace) if attempt.tries > 1 => {
            lease_until.min(attempt.started_at.saturating_add(grace))
        }
        Rotation::Grace(_) | Rotation::Never => lease_until,
    }
}

/// What is known about the refresh token after it was sent, when no new tokens came.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// The issuer does not accept it (`invalid_grant`).
    Refused,
    /// It was not redeemed: it never left, or the issuer said that it did nothing with it.
    Unspent,
    /// No answer came after it was sent.
    Unknown,
}

/// What to write after a [`Failure`]. The lease ends in any case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Settlement {
    /// Forget the attempt: the token is as it was.
    Forget,
    /// Leave the attempt, so that the next one knows of it.
    Remember,
    /// Only the user can give a new one. Whether a try before this one may have spent the token is said.
    Reauthenticate {
        /// It may have been spent without our knowing.
        ambiguous: bool,
    },
}

/// Decides what becomes of an attempt that brought no tokens.
pub fn settle<T>(attempt: &Attempt<T>, failure: Failure) -> Settlement {
    let is_first = attempt.tries == 1;
    match failure {
        Failure::Refused => Settlement::Reauthenticate {
            ambiguous: !is_first,
        },
        Failure::Unspent if is_first => Settlement::Forget,
        // What became of the try before is as unknown as it was.
        Failure::Unspent | Failure::Unknown => Settlement::Remember,
    }
}

/// What to do with the tokens of a redemption that came back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Landing {
    /// Store them, if the version is still this one.
    Store {
        /// The version that was looked at.
        version: u64,
    },
    /// Somebody stored what is newer, or the user took the grant back: revoke what came.
    Discard,
}

/// Decides whether the answer to `attempt`, which was sent at `sent_at`, is the newest. Whoever held the
/// lease all the time finds the version that they wrote; whoever was paused may find anything.
pub fn land<T: Copy + Eq>(
    progress: &Progress<T>,
    attempt: &Attempt<T>,
    sent_at: Moment,
) -> Landing {
    let is_parent_still_there = progress.token == Some(attempt.token);
    let is_later_sibling = progress.parent == Some(attempt.token) && progress.sent_at <= sent_at;
    if progress.token.is_some() && (is_parent_still_there || is_later_sibling) {
        Landing::Store {
            version: progress.version,
        }
    } else {
        Landing::Discard
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: Moment = Moment::from_secs(1_000_000);
    const GRACE: Rotation = Rotation::Grace(Duration::from_secs(30));

    fn at_rest() -> Progress<u8> {
        Progress {
            version: 7,
            token: Some(1),
            parent: None,
            sent_at: Moment::ZERO,
            attempt: None,
            lease_until: Moment::ZERO,
        }
    }

    fn begun(seconds_ago: u64, tries: u32) -> Progress<u8> {
        Progress {
            attempt: Some(Attempt {
                token: 1,
                started_at: NOW.saturating_sub(Duration::from_secs(seconds_ago)),
                tries,
            }),
            ..at_rest()
        }
    }

    #[test]
    fn a_token_at_rest_is_redeemed() {
        let first = Attempt {
            token: 1,
            started_at: NOW,
            tries: 1,
        };
        assert_eq!(claim(&at_rest(), GRACE, NOW), Claim::Redeem(first));
    }

    #[test]
    fn one_at_a_time() {
        let held = Progress {
            lease_until: NOW + Duration::from_secs(1),
            ..begun(1, 1)
        };
        assert_eq!(claim(&held, GRACE, NOW), Claim::Held);
    }

    #[test]
    fn what_was_revoked_is_not_redeemed() {
        let revoked = Progress {
            token: None,
            ..begun(1, 1)
        };
        assert_eq!(claim(&revoked, GRACE, NOW), Claim::Revoked);
    }

    #[rstest]
    #[case::within_grace(29, GRACE, true)]
    #[case::after_grace(30, GRACE, false)]
    #[case::no_grace(0, Rotation::Grace(Duration::ZERO), false)]
    #[case::no_rotation(86_400, Rotation::Never, true)]
    fn a_token_that_may_be_spent_is_sent_again_only_where_the_issuer_allows_it(
        #[case] seconds_ago: u64,
        #[case] rotation: Rotation,
        #[case] is_sent: bool,
    ) {
        let before = begun(seconds_ago, 1);
        let expected = if is_sent {
            Claim::Redeem(Attempt {
                tries: 2,
                ..before.attempt.unwrap()
            })
        } else {
            Claim::Ambiguous
        };
        assert_eq!(claim(&before, rotation, NOW), expected);
    }

    #[rstest]
    #[case::first(1, GRACE, 60)]
    #[case::again(2, GRACE, 25)]
    #[case::again_without_rotation(2, Rotation::Never, 60)]
    fn a_token_that_may_be_spent_is_not_sent_after_the_grace(
        #[case] tries: u32,
        #[case] rotation: Rotation,
        #[case] expected: u64,
    ) {
        let attempt = begun(5, tries).attempt.unwrap();
        let before = send_before(&attempt, rotation, NOW + Duration::from_mins(1));
        assert_eq!(before, NOW + Duration::from_secs(expected));
    }

    #[test]
    fn an_attempt_at_an_earlier_token_is_over() {
        let progress = Progress {
            token: Some(2),
            ..begun(3600, 3)
        };
        let first = Attempt {
            token: 2,
            started_at: NOW,
            tries: 1,
        };
        assert_eq!(claim(&progress, GRACE, NOW), Claim::Redeem(first));
    }

    #[rstest]
    #[case(1, Failure::Refused, Settlement::Reauthenticate { ambiguous: false })]
    #[case(2, Failure::Refused, Settlement::Reauthenticate { ambiguous: true })]
    #[case(1, Failure::Unspent, Settlement::Forget)]
    #[case(2, Failure::Unspent, Settlement::Remember)]
    #[case(1, Failure::Unknown, Settlement::Remember)]
    #[case(2, Failure::Unknown, Settlement::Remember)]
    fn what_failed_is_forgotten_only_if_nothing_is_in_doubt(
        #[case] tries: u32,
        #[case] failure: Failure,
        #[case] expected: Settlement,
    ) {
        let attempt = begun(1, tries).attempt.unwrap();
        assert_eq!(settle(&attempt, failure), expected);
    }

    #[rstest]
    #[case::as_left(Some(1), None, 0, true)]
    #[case::an_earlier_sibling_is_there(Some(3), Some(1), 5, true)]
    #[case::a_later_sibling_is_there(Some(3), Some(1), 7, false)]
    #[case::another_login(Some(3), None, 5, false)]
    #[case::a_grandchild_is_there(Some(4), Some(3), 5, false)]
    #[case::revoked(None, None, 0, false)]
    #[case::a_sibling_was_revoked(None, Some(1), 5, false)]
    fn an_answer_is_stored_unless_there_is_a_newer_one(
        #[case] token: Option<u8>,
        #[case] parent: Option<u8>,
        #[case] sent_at: u64,
        #[case] is_stored: bool,
    ) {
        let progress = Progress {
            token,
            parent,
            sent_at: Duration::from_secs(sent_at),
            ..at_rest()
        };
        let attempt = begun(1, 1).attempt.unwrap();
        let expected = if is_stored {
            Landing::Store { version: 7 }
        } else {
            Landing::Discard
        };
        assert_eq!(land(&progress, &attempt, Duration::from_secs(6)), expected);
    }
}

//! When a grant is refreshed next.

use std::time::Duration;

use crate::grant::{Grant, Kind, State};
use crate::progress::Moment;

/// How long things last at an issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeepAlive {
    /// A grant that nobody uses is refreshed within this time, so that its refresh token does not die of
    /// disuse.
    pub within: Duration,
}

/// When to refresh a grant that was just refreshed. `spread`, between 0 and 1, keeps grants that came
/// together from being due together.
///
/// A grant that a workload asked for within the last two lifetimes is *warm*: a fresh token waits when the
/// present one nears its end. One that nobody uses is only kept alive.
pub fn after_success(
    grant: &Grant,
    keep_alive: KeepAlive,
    now: Moment,
    spread: f64,
) -> Option<Moment> {
    if !is_refreshable(grant) {
        return None;
    }
    let lifetime = grant.lifetime();
    let is_warm = now < grant.used_at.saturating_add(lifetime.saturating_mul(2));
    if !is_warm && grant.kind == Kind::ClientCredentials {
        // There is no refresh token that could die.
        return None;
    }
    let wait = if is_warm {
        warm_wait(lifetime, spread)
    } else {
        keep_alive.within.mul_f64(0.2f64.mul_add(spread, 0.5))
    };
    Some(now.saturating_add(wait))
}

/// What a use at `now` changes: none, if the use before was not long ago. A grant that was cold becomes warm.
pub fn after_use(grant: &Grant, now: Moment, spread: f64) -> Option<Grant> {
    let lifetime = grant.lifetime();
    let noted_for = (lifetime / 4).min(NOTED_FOR);
    let is_recent = now < grant.used_at.saturating_add(noted_for);
    // Whoever is refreshing it writes soon.
    if is_recent || grant.progress.lease_until > now {
        return None;
    }
    let mut used = Grant {
        used_at: now,
        ..grant.clone()
    };
    used.progress.version += 1;
    if grant.state == State::Active && is_refreshable(grant) {
        let wait = warm_wait(lifetime, spread);
        let due = grant.issued_at.saturating_add(wait).max(now);
        used.due_at = Some(grant.due_at.map_or(due, |before| before.min(due)));
    }
    Some(used)
}

/// Before the end comes the margin in which tokens are not handed out any more.
fn warm_wait(lifetime: Duration, spread: f64) -> Duration {
    lifetime
        .mul_f64(0.2f64.mul_add(spread, 0.6))
        .min(lifetime.saturating_sub(MARGIN))
        .max(SOONEST)
}

/// When to try again after the `failures`-th failure in a row: between nothing and twice the time of the
/// failure before, at most a quarter of an hour ("full jitter").
pub fn after_failure(failures: u32, now: Moment, spread: f64) -> Moment {
    let doublings = failures.saturating_sub(1).min(16);
    let ceiling = FIRST_RETRY
        .saturating_mul(1 << doublings)
        .min(LONGEST_RETRY);
    now.saturating_add(ceiling.mul_f64(spread).max(SOONEST_RETRY))
}

/// Whether there is a way to a new token without the user.
pub fn is_refreshable(grant: &Grant) -> bool {
    let is_alive = matches!(grant.state, State::Active | State::Degraded);
    let has_means = match grant.kind {
        Kind::AuthorizationCode => grant.progress.token.is_some(),
        Kind::ClientCredentials => true,
        Kind::Manual => false,
    };
    is_alive && has_means
}

/// A token that is good for less than this is not handed out: it would expire on its way.
pub const MARGIN: Duration = Duration::from_mins(1);
/// A use is written down at most so often.
const NOTED_FOR: Duration = Duration::from_hours(1);
/// An issuer of very short tokens is not asked more often than this.
const SOONEST: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const SOONEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: Moment = Moment::from_secs(1_000_000);
    const KEEP_ALIVE: KeepAlive = KeepAlive {
        within: Duration::from_hours(720),
    };

    fn grant(lifetime: u64, unused: u64) -> Grant {
        Grant {
            issued_at: NOW,
            access_expires_at: NOW + Duration::from_secs(lifetime),
            used_at: NOW.saturating_sub(Duration::from_secs(unused)),
            ..crate::store::tests::grant("ml/app", "alice", "r")
        }
    }

    #[rstest]
    #[case::soon(3600, 0, 0.0, 2160)]
    #[case::late(3600, 0, 1.0, 2880)]
    #[case::used_two_lifetimes_ago(3600, 7199, 0.0, 2160)]
    #[case::cold(3600, 7200, 0.0, 1_296_000)]
    #[case::cold_late(3600, 7200, 1.0, 1_814_400)]
    #[case::short_tokens_end_before_the_margin(100, 0, 1.0, 40)]
    #[case::shorter_than_the_margin(30, 0, 0.0, 5)]
    fn a_grant_is_due_before_its_token_ends(
        #[case] lifetime: u64,
        #[case] unused: u64,
        #[case] spread: f64,
        #[case] expected: u64,
    ) {
        let due = after_success(&grant(lifetime, unused), KEEP_ALIVE, NOW, spread).unwrap();
        assert_eq!((due.saturating_sub(NOW)).as_secs(), expected);
    }

    /// A grant of a month of disuse, whose token is good for an hour from NOW on.
    #[rstest]
    #[case::at_once(0, Some(2160))]
    #[case::near_its_end(3000, Some(3000))]
    fn a_cold_grant_becomes_warm_by_its_use(#[case] later: u64, #[case] expected: Option<u64>) {
        let cold = Grant {
            due_at: Some(NOW + Duration::from_hours(500)),
            ..grant(3600, 7200)
        };
        let now = NOW + Duration::from_secs(later);
        let used = after_use(&cold, now, 0.0).unwrap();
        assert_eq!((used.used_at, used.progress.version), (now, 2));
        let due = used.due_at.map(|due| (due.saturating_sub(NOW)).as_secs());
        assert_eq!(due, expected);
        // Not again so soon, and not while somebody refreshes it.
        assert_eq!(after_use(&used, now + Duration::from_secs(899), 0.0), None);
        let mut leased = cold;
        leased.progress.lease_until = now + Duration::from_secs(1);
        assert_eq!(after_use(&leased, now, 0.0), None);
    }

    #[test]
    fn what_cannot_be_refreshed_is_never_due() {
        let manual = Grant {
            kind: Kind::Manual,
            ..grant(3600, 0)
        };
        let ended = Grant {
            state: State::NeedsReauthentication,
            ..grant(3600, 0)
        };
        let mut offline = grant(3600, 0);
        offline.progress.token = None;
        for grant in [manual, ended, offline] {
            assert_eq!(after_success(&grant, KEEP_ALIVE, NOW, 0.5), None);
        }
    }

    #[rstest]
    #[case(1, 1.0, 5)]
    #[case(2, 1.0, 10)]
    #[case(4, 0.5, 20)]
    #[case(100, 1.0, 900)]
    #[case(100, 0.0, 1)]
    fn failures_are_retried_ever_later(
        #[case] failures: u32,
        #[case] spread: f64,
        #[case] expected: u64,
    ) {
        let due = after_failure(failures, NOW, spread);
        assert_eq!((due.saturating_sub(NOW)).as_secs(), expected);
    }
}

//! One redemption, and what its outcome means for the row. Pure.

use std::time::Duration;

use secrecy::SecretString;

use super::spread;
use crate::answer::Problem;
use crate::grant::{Digest, Grant, Kind, Reason, State};
use crate::issuer::{CLIENT_REST, Issuer};
use crate::progress::{self, Attempt, Failure, Landing, Moment, Rotation, Settlement};
use crate::schedule;

/// A redemption under way.
pub(super) struct Redemption<'r> {
    pub(super) issuer: &'r Issuer,
    /// The row as it was claimed.
    pub(super) claimed: Grant,
    pub(super) attempt: Attempt<Digest>,
    pub(super) sent_at: Moment,
    /// What is redeemed; none where the client's own credentials are.
    pub(super) refresh_token: Option<SecretString>,
}

impl Redemption<'_> {
    /// Whether what came is the newest; a client's own tokens always are.
    pub(super) fn landing(&self, row: &Grant) -> Landing {
        match row.kind {
            Kind::ClientCredentials => Landing::Store {
                version: row.progress.version,
            },
            Kind::AuthorizationCode | Kind::Manual => {
                progress::land(&row.progress, &self.attempt, self.sent_at)
            }
        }
    }

    /// The row after a failure.
    pub(super) fn settled(
        &self,
        failure: Failure,
        problem: Option<&Problem>,
        now: Moment,
    ) -> Grant {
        let claimed = &self.claimed;
        // Refusals are counted apart from outages: those say nothing of the grant.
        let is_refusal = problem.is_some_and(is_refusal);
        let was_refusal = claimed.reason == Some(Reason::Refused);
        let (failures, failing_since) = if is_refusal == was_refusal {
            let since = claimed.failing_since.unwrap_or(now);
            (claimed.failures.saturating_add(1), since)
        } else {
            (1, now)
        };
        let mut settled = Grant {
            state: State::Degraded,
            reason: is_refusal.then_some(Reason::Refused),
            failures,
            failing_since: Some(failing_since),
            due_at: Some(schedule::after_failure(failures, now, spread())),
            ..claimed.clone()
        };
        settled.progress.version += 1;
        settled.progress.lease_until = Moment::ZERO;
        let is_enough = failures >= REFUSALS && now.saturating_sub(failing_since) >= REFUSALS_FOR;
        let asks_user = match (progress::settle(&self.attempt, failure), problem) {
            (Settlement::Reauthenticate { ambiguous: true }, _) => Some(Reason::AmbiguousRotation),
            (Settlement::Reauthenticate { ambiguous: false }, _) => Some(Reason::InvalidGrant),
            (_, Some(Problem::Interaction { .. })) => Some(Reason::InteractionRequired),
            _ if is_refusal && is_enough => Some(Reason::Refused),
            (Settlement::Forget, _) => {
                settled.progress.attempt = None;
                None
            }
            (Settlement::Remember, _) => {
                // A second try is good only within the grace.
                if let Rotation::Grace(_) = self.issuer.rotation {
                    settled.due_at = Some(now);
                }
                None
            }
        };
        if let Some(Problem::Interaction { requirements }) = problem {
            settled.requirements = requirements.clone();
        }
        if let Some(Problem::Client | Problem::GrantType) = problem {
            settled.due_at = Some(now.saturating_add(CLIENT_REST));
        }
        if asks_user.is_some() {
            settled.state = State::NeedsReauthentication;
            settled.reason = asks_user;
            settled.due_at = None;
        }
        settled
    }
}

/// What a refusal says of the refresh token.
pub(super) const fn failure(problem: &Problem) -> Failure {
    match problem {
        Problem::Grant => Failure::Refused,
        Problem::Unclear => Failure::Unknown,
        Problem::Client
        | Problem::Denied
        | Problem::GrantType
        | Problem::Interaction { .. }
        | Problem::Pending
        | Problem::Scope
        | Problem::Throttled { .. }
        | Problem::Transient
        | Problem::Unclassified => Failure::Unspent,
    }
}

/// Whether the issuer refuses this grant, and no rule knows what would help.
const fn is_refusal(problem: &Problem) -> bool {
    match problem {
        Problem::Denied | Problem::Pending | Problem::Scope | Problem::Unclassified => true,
        Problem::Client
        | Problem::Grant
        | Problem::GrantType
        | Problem::Interaction { .. }
        | Problem::Throttled { .. }
        | Problem::Transient
        | Problem::Unclear => false,
    }
}

/// So many refusals in a row, over so long, and the user is asked.
const REFUSALS: u32 = 5;
const REFUSALS_FOR: Duration = Duration::from_hours(1);

//! What must not be used again: sessions that were ended, and logins that were completed.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::ended::{EndSessions, Ended, EndedIndex, EndedList, MAX_IN_MESSAGE};
use globus_auth_core::session::Session;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::Notify;

/// The sessions that ended before their time: those that ended here, and those that the operator says
/// ended at any replica.
#[derive(Debug, Default)]
pub(crate) struct EndedSessions {
    here: Mutex<EndedList>,
    /// What the operator does not know yet; bounded like the list itself.
    untold: Mutex<BTreeMap<Ended, UnixSeconds>>,
    more_to_tell: Notify,
    /// Asked on every request.
    indexes: ArcSwap<Indexes>,
}

#[derive(Clone, Debug, Default)]
struct Indexes {
    here: EndedIndex,
    everywhere: EndedIndex,
}

impl EndedSessions {
    /// Ends sessions here at once, and everywhere as soon as the operator hears of it.
    pub(crate) fn end(&self, ended: Ended, until: UnixSeconds, now: UnixSeconds) {
        let index = {
            let mut here = self.here.lock();
            here.add(ended, until, now);
            here.index()
        };
        self.indexes.rcu(|indexes| Indexes {
            here: index.clone(),
            everywhere: indexes.everywhere.clone(),
        });
        let mut untold = self.untold.lock();
        if untold.len() < globus_auth_core::ended::MAX_ENTRIES {
            untold.insert(ended, until);
        } else {
            tracing::error!(
                "too many sessions ended while the operator was away; they ended on this replica only"
            );
        }
        self.more_to_tell.notify_one();
    }

    /// Takes over what the operator says.
    pub(crate) fn set_everywhere(&self, list: &EndedList) {
        let index = list.index();
        self.indexes.rcu(|indexes| Indexes {
            here: indexes.here.clone(),
            everywhere: index.clone(),
        });
    }

    pub(crate) fn contains(&self, session: &Session) -> bool {
        let indexes = self.indexes.load();
        indexes.here.contains(session) || indexes.everywhere.contains(session)
    }

    /// The next message to the operator; resolves when there is something to say.
    pub(crate) async fn untold(&self) -> EndSessions {
        loop {
            let ended: BTreeMap<_, _> = {
                let untold = self.untold.lock();
                untold
                    .iter()
                    .take(MAX_IN_MESSAGE)
                    .map(|(ended, until)| (*ended, *until))
                    .collect()
            };
            if !ended.is_empty() {
                return EndSessions { ended };
            }
            self.more_to_tell.notified().await;
        }
    }

    /// The operator has taken `message`.
    pub(crate) fn told(&self, message: &EndSessions) {
        let mut untold = self.untold.lock();
        untold.retain(|ended, _| !message.ended.contains_key(ended));
    }

    /// Whether the operator knows everything.
    pub(crate) fn is_told(&self) -> bool {
        self.untold.lock().is_empty()
    }
}

/// The states of logins whose code was taken. A second callback with the same state is a replay, also
/// if the browser still has the cookie.
#[derive(Debug)]
pub(crate) struct SpentStates(Cache<String, ()>);

impl Default for SpentStates {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

impl SpentStates {
    /// Takes `state`; false if it was taken before.
    #[must_use]
    pub(crate) fn spend(&self, state: &str) -> bool {
        let mut is_first = false;
        // An insert that happens under the cache's own lock, so that of two callbacks at once one wins.
        let taken = self
            .0
            .get_or_insert_with::<str, std::convert::Infallible>(state, || {
                is_first = true;
                Ok(())
            });
        taken.is_ok() && is_first
    }
}

/// More than anybody logs in within the life of what is remembered; about a megabyte.
const MAX_REMEMBERED: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use globus_auth_core::ended::Sessions;
    use globus_auth_core::identity::{Identity, NameDigest};
    use globus_auth_core::session::Limits;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const DAY: Duration = Duration::from_hours(24);

    fn session(subject: &str) -> Session {
        let identity = Identity {
            subject: subject.to_owned(),
            ..Identity::default()
        };
        let limits = Limits {
            idle: DAY,
            absolute: DAY,
        };
        Session::start(identity, limits, NOW).unwrap()
    }

    fn one(session: &Session) -> Ended {
        Ended {
            subject: Some(NameDigest::of(&session.identity.subject)),
            sessions: Sessions::One(session.id),
        }
    }

    #[test]
    fn a_state_is_spent_once() {
        let states = SpentStates::default();
        assert!(states.spend("a"));
        assert!(!states.spend("a"));
        assert!(states.spend("b"));
    }

    #[test]
    fn a_session_that_ended_here_stays_ended_whatever_the_operator_says() {
        let (ended, session) = (EndedSessions::default(), session("alice"));
        assert!(!ended.contains(&session));
        ended.end(one(&session), session.last_end, NOW);
        assert!(ended.contains(&session));
        ended.set_everywhere(&EndedList::default());
        assert!(ended.contains(&session));
    }

    #[test]
    fn a_session_that_ended_elsewhere_ends_here() {
        let (ended, alice, bob) = (EndedSessions::default(), session("alice"), session("bob"));
        let mut list = EndedList::default();
        list.add(one(&alice), alice.last_end, NOW);
        ended.set_everywhere(&list);
        assert!(ended.contains(&alice));
        assert!(!ended.contains(&bob));
        // What ends here later does not undo it.
        ended.end(one(&bob), bob.last_end, NOW);
        assert!(ended.contains(&alice) && ended.contains(&bob));
    }

    #[tokio::test]
    async fn the_operator_is_told_until_it_has_taken_it() {
        let (ended, session) = (EndedSessions::default(), session("alice"));
        assert!(ended.is_told());
        ended.end(one(&session), session.last_end, NOW);
        let message = ended.untold().await;
        assert_eq!(message, ended.untold().await);
        assert!(message.ended.contains_key(&one(&session)));
        assert!(!ended.is_told());
        ended.told(&message);
        assert!(ended.is_told());
    }

    #[tokio::test]
    async fn a_message_is_bounded_and_the_rest_follows() {
        let ended = EndedSessions::default();
        let sessions: Vec<Session> = (0..=MAX_IN_MESSAGE)
            .map(|n| session(&n.to_string()))
            .collect();
        for session in &sessions {
            ended.end(one(session), session.last_end, NOW);
        }
        let first = ended.untold().await;
        assert_eq!(first.ended.len(), MAX_IN_MESSAGE);
        ended.told(&first);
        assert_eq!(ended.untold().await.ended.len(), 1);
    }
}

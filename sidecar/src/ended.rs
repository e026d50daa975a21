//! What must not be used again: sessions that were signed out, and logins that were completed.

use globus_auth_core::session::SessionId;
use quick_cache::sync::Cache;

/// The sessions that ended before their time, on this replica.
#[derive(Debug)]
pub(crate) struct EndedSessions(Cache<SessionId, ()>);

impl Default for EndedSessions {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

impl EndedSessions {
    pub(crate) fn end(&self, session: SessionId) {
        self.0.insert(session, ());
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.0.get(&session).is_some()
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

/// More than anybody signs out, or logs in, within the life of what is remembered; about a megabyte.
const MAX_REMEMBERED: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_spent_once() {
        let states = SpentStates::default();
        assert!(states.spend("a"));
        assert!(!states.spend("a"));
        assert!(states.spend("b"));
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let (ended, id) = (EndedSessions::default(), SessionId::random().unwrap());
        assert!(!ended.contains(id));
        ended.end(id);
        assert!(ended.contains(id));
    }
}

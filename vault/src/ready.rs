//! Tokens that were just given out, so that the next request for one need not ask the database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use globus_auth_core::vault_api::{Token, TokenRequest, fingerprint};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::grant::{Digest, digest};
use crate::progress::Moment;

/// What was given out for a handle and a resource server.
pub(crate) struct Ready {
    tokens: Cache<Digest, std::sync::Arc<Given>>,
    generation: AtomicU64,
}

struct Given {
    pod: String,
    tenant: String,
    token: SecretString,
    fingerprint: String,
    scopes: Vec<String>,
    /// Until when it is fresh enough to be handed out.
    fresh_until: Moment,
    expires_at: Moment,
    session_ends_at: Option<Moment>,
    at: Instant,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ready({})", self.tokens.len())
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            tokens: Cache::new(CAPACITY),
            generation: AtomicU64::new(0),
        }
    }
}

impl Ready {
    /// What `caller` would get again.
    pub(crate) fn get(&self, caller: &Caller, wanted: &TokenRequest, now: Moment) -> Option<Token> {
        let given = self.tokens.get(&key(wanted))?;
        let is_theirs = given.pod == caller.pod
            && given
                .tenant
                .strip_prefix(&caller.namespace)
                .and_then(|rest| rest.strip_prefix('/'))
                == Some(&caller.service_account);
        let is_enough = wanted
            .scopes
            .iter()
            .all(|scope| given.scopes.contains(scope))
            && wanted.rejected.as_ref() != Some(&given.fingerprint)
            && now < given.fresh_until
            && given.at.elapsed() < REMEMBERED;
        (is_theirs && is_enough).then(|| Token {
            access_token: given.token.clone(),
            expires_in: given.expires_at.saturating_sub(now).as_secs(),
            scopes: given.scopes.clone(),
            session_ends_in: given
                .session_ends_at
                .map(|at| at.saturating_sub(now).as_secs()),
        })
    }

    /// How often everything was forgotten: whoever looks for a token now, tells it to [`Ready::put`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers what was given to `caller`, which is fresh until `margin` before it expires, unless something was
    /// taken back since `generation`.
    pub(crate) fn put(
        &self,
        caller: &Caller,
        wanted: &TokenRequest,
        token: &Token,
        (now, margin): (Moment, Duration),
        generation: u64,
    ) {
        let expires_at = now.saturating_add(token.lifetime());
        let given = Given {
            pod: caller.pod.clone(),
            tenant: caller.tenant(),
            token: token.access_token.clone(),
            fingerprint: fingerprint(&token.access_token),
            scopes: token.scopes.clone(),
            fresh_until: expires_at.saturating_sub(margin),
            expires_at,
            session_ends_at: token
                .session_ends_in
                .map(|seconds| now.saturating_add(Duration::from_secs(seconds))),
            at: Instant::now(),
        };
        let name = key(wanted);
        self.tokens.insert(name, given.into());
        // Looked at after it is there: whoever forgets everything after that, forgets it, too.
        if self.generation() != generation {
            self.tokens.remove(&name);
        }
    }

    /// Forgets everything: something was taken back, or given anew.
    pub(crate) fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tokens.clear();
    }
}

fn key(wanted: &TokenRequest) -> Digest {
    let handle = wanted.handle.expose_secret().as_bytes();
    let mut bytes = Vec::with_capacity(handle.len() + 1 + wanted.resource_server.len());
    bytes.extend_from_slice(handle);
    // No handle has one.
    bytes.push(0);
    bytes.extend_from_slice(wanted.resource_server.as_bytes());
    let key = digest(&bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    key
}

const CAPACITY: usize = 100_000;
/// For so long, another replica gives out what this one has taken back.
const REMEMBERED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: Moment = Moment::from_secs(1_000_000);
    const MARGIN: Duration = Duration::from_mins(1);

    fn caller(pod: &str) -> Caller {
        Caller {
            namespace: "ml".to_owned(),
            service_account: "app".to_owned(),
            pod: pod.to_owned(),
        }
    }

    fn wanted() -> TokenRequest {
        TokenRequest {
            handle: "handle".into(),
            resource_server: "r".to_owned(),
            scopes: vec!["a".to_owned()],
            rejected: None,
            subject_token: None,
        }
    }

    fn put(ready: &Ready, generation: u64) {
        let token = Token {
            access_token: "token".into(),
            expires_in: 3600,
            scopes: vec!["a".to_owned(), "b".to_owned()],
            session_ends_in: Some(7200),
        };
        ready.put(&caller("p"), &wanted(), &token, (NOW, MARGIN), generation);
    }

    fn ready() -> Ready {
        let ready = Ready::default();
        put(&ready, ready.generation());
        ready
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_request_gets_the_same_for_a_moment() {
        let ready = ready();
        let now = NOW + Duration::from_secs(10);
        let token = ready.get(&caller("p"), &wanted(), now).unwrap();
        assert_eq!(
            (token.expires_in, token.access_token.expose_secret()),
            (3590, "token")
        );
        assert_eq!(token.session_ends_in, Some(7190));
        tokio::time::advance(REMEMBERED).await;
        assert!(ready.get(&caller("p"), &wanted(), now).is_none());
    }

    #[rstest]
    #[case::another_pod(caller("q"), wanted(), 0)]
    #[case::another_workload(Caller { service_account: "other".to_owned(), ..caller("p") }, wanted(), 0)]
    #[case::another_namespace(Caller { namespace: "m".to_owned(), service_account: "l/app".to_owned(), ..caller("p") }, wanted(), 0)]
    #[case::another_handle(caller("p"), TokenRequest { handle: "another".into(), ..wanted() }, 0)]
    #[case::another_service(caller("p"), TokenRequest { resource_server: "s".to_owned(), ..wanted() }, 0)]
    #[case::more_scopes(caller("p"), TokenRequest { scopes: vec!["c".to_owned()], ..wanted() }, 0)]
    #[case::it_was_rejected(caller("p"), TokenRequest { rejected: Some(fingerprint(&"token".into())), ..wanted() }, 0)]
    #[case::near_its_end(caller("p"), wanted(), 3540)]
    #[tokio::test(start_paused = true)]
    async fn any_other_request_gets_nothing(
        #[case] caller: Caller,
        #[case] wanted: TokenRequest,
        #[case] later: u64,
    ) {
        let now = NOW + Duration::from_secs(later);
        assert!(ready().get(&caller, &wanted, now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_back_is_forgotten() {
        let ready = ready();
        ready.clear();
        assert!(ready.get(&caller("p"), &wanted(), NOW).is_none());
    }

    /// Somebody read the token, somebody else took it back, and only then is it remembered.
    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_it_was_taken_back_is_not_remembered_after() {
        let ready = Ready::default();
        let generation = ready.generation();
        ready.clear();
        put(&ready, generation);
        assert!(ready.get(&caller("p"), &wanted(), NOW).is_none());
    }
}

//! An issuer, and how hard it is pressed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::answer::Problem;
use crate::bulkhead::{Bulkhead, Limits, Permit};
use crate::endpoint::{Exchange, Revoked, TokenEndpoint, TokenRequest};
use crate::progress::{Moment, Rotation};
use crate::schedule::KeepAlive;

/// An issuer, as the refresher knows it.
pub struct Issuer {
    /// The issuer identifier.
    pub issuer: String,
    /// Our client there.
    pub client_id: String,
    /// Where tokens come from.
    pub endpoint: Arc<dyn TokenEndpoint>,
    /// What it does with redeemed refresh tokens.
    pub rotation: Rotation,
    /// How long unused grants wait.
    pub keep_alive: KeepAlive,
    pub(crate) bulkhead: Mutex<Bulkhead>,
    pub(crate) places: Semaphore,
    /// What was due when the store was last asked, in turn. So a crowd is not counted again for each of it.
    pub(crate) backlog: Mutex<VecDeque<String>>,
    /// How much of a crowd is taken from the store at a time: what the bucket gives in ten seconds.
    pub(crate) batch: u32,
    refuses_client: AtomicBool,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({:?}, {:?})", self.issuer, self.client_id)
    }
}

/// How hard an issuer is pressed.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// Requests over time.
    pub limits: Limits,
    /// Requests at a time.
    pub at_once: u32,
}

impl Issuer {
    /// An issuer that is believed to work.
    pub fn new(
        (issuer, client_id): (String, String),
        endpoint: Arc<dyn TokenEndpoint>,
        rotation: Rotation,
        keep_alive: KeepAlive,
        pressure: Pressure,
    ) -> Self {
        Self {
            issuer,
            client_id,
            endpoint,
            rotation,
            keep_alive,
            bulkhead: Mutex::new(Bulkhead::new(pressure.limits)),
            places: Semaphore::new(usize::try_from(pressure.at_once).unwrap_or(1).max(1)),
            backlog: Mutex::default(),
            batch: pressure.limits.per_second.saturating_mul(10).max(1),
            refuses_client: AtomicBool::new(false),
        }
    }

    /// Notes what an exchange says of the issuer, not of the grant.
    pub(crate) fn note(&self, exchange: &Exchange, now: Moment) {
        match exchange {
            Exchange::Answered(Ok(_)) => {
                self.refuses_client.store(false, Ordering::Relaxed);
                self.bulkhead.lock().answered();
            }
            Exchange::Answered(Err(problem)) => self.heard(problem, now),
            Exchange::NotSent | Exchange::Unanswered => self.bulkhead.lock().failed(now),
        }
    }

    /// The same, of a wish to take a token back.
    pub(crate) fn note_revocation(&self, answer: Revoked, now: Moment) {
        let mut bulkhead = self.bulkhead.lock();
        match answer {
            Revoked::Yes | Revoked::Never => bulkhead.answered(),
            Revoked::NotNow => bulkhead.failed(now),
        }
    }

    fn heard(&self, problem: &Problem, now: Moment) {
        let mut bulkhead = self.bulkhead.lock();
        match problem {
            Problem::Transient | Problem::Unclear => bulkhead.failed(now),
            Problem::Throttled { retry_after } => bulkhead.throttled(now, *retry_after),
            Problem::Client => {
                // An operator must act, and the vault starts anew with what they change.
                if !self.refuses_client.swap(true, Ordering::Relaxed) {
                    let (issuer, client) = (&self.issuer, &self.client_id);
                    tracing::error!(
                        issuer,
                        client,
                        "the issuer does not accept our client: its secret may be wrong"
                    );
                }
                bulkhead.throttled(now, Some(CLIENT_REST));
            }
            Problem::Denied
            | Problem::GrantType
            | Problem::Grant
            | Problem::Interaction { .. }
            | Problem::Pending
            | Problem::Scope
            | Problem::Unclassified => bulkhead.answered(),
        }
    }

    /// Whether it is believed to work.
    pub fn is_reachable(&self) -> bool {
        self.bulkhead.lock().is_closed()
    }

    /// Whether it said last that it does not accept our client.
    pub fn refuses_client(&self) -> bool {
        self.refuses_client.load(Ordering::Relaxed)
    }

    /// Asks for what is stored nowhere, if the bucket and the breaker let it.
    pub(crate) async fn ask(&self, request: TokenRequest<'_>, now: Moment) -> Exchange {
        let Ok(_place) = self.places.acquire().await else {
            return Exchange::NotSent;
        };
        if let Permit::NotBefore(_) = self.permit(now) {
            return Exchange::NotSent;
        }
        self.ask_anyway(request, now).await
    }

    /// Asks, whatever bucket and breaker say: a code of a user who waits is good for a moment only.
    pub(crate) async fn ask_anyway(&self, request: TokenRequest<'_>, now: Moment) -> Exchange {
        let exchange = self.endpoint.ask(request).await;
        self.note(&exchange, now);
        exchange
    }

    /// Takes a request out of the bucket.
    pub fn permit(&self, now: Moment) -> Permit {
        self.bulkhead.lock().take(now)
    }
}

/// Our client is not accepted, whatever the grant: there is no hurry.
pub(crate) const CLIENT_REST: Duration = Duration::from_mins(30);

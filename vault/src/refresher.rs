//! Gets new tokens before the old ones end, one redemption at a time, over all replicas.
//!
//! A refresh is these steps; the process may die between any two of them.
//!
//! 1. *claim*: write into the row that a redemption begins ([`progress::claim`]). This shows, too, that
//!    the store takes writes: if it does not, nothing is redeemed.
//! 2. *redeem*: send the refresh token. No transaction is open, and nobody who hangs up stops it.
//! 3. *store*: write what came, before anything of it is looked at ([`progress::land`]).
//!
//! What cannot be stored waits in a file ([`Unstored`]); before anything else is done with a grant, it is stored.
//!
//! Whoever waits for a refresh that somebody else has claimed reads the row until it has changed.

mod redemption;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use globus_auth_core::clock::Clock;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::random;
use globus_auth_core::runtime::telemetry::Chain;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

use self::redemption::Redemption;
use crate::answer::{Problem, TokenSet};
use crate::bulkhead::Permit;
use crate::endpoint::{Exchange, TokenRequest, resource_indicator};
use crate::envelope::{Field, OpenError};
use crate::failpoint::{self, Step};
use crate::grant::{Digest, Grant, Kind, Reason, State, digest};
use crate::issuer::Issuer;
use crate::metrics::Metrics;
use crate::progress::{self, Attempt, Claim, Failure, Landing, Moment, Rotation};
use crate::schedule;
use crate::secrets::{Secrets, SecretsError};
use crate::store::audit::Entry;
use crate::store::{Store, StoreError};
use crate::unstored::{Arrival, Unstored};

/// Why a refresh brought no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RefreshError {
    /// There is no such grant, or it was taken back.
    #[error("there is no such grant")]
    Gone,
    /// Only the user can help.
    #[error("the grant needs its user")]
    NeedsUser,
    /// The issuer, or the store, does not work now.
    #[error("no token could be got now")]
    Unavailable,
}

type Flight = Shared<BoxFuture<'static, Result<(), RefreshError>>>;

/// Refreshes grants.
pub struct Refresher {
    store: Store,
    secrets: Arc<Secrets>,
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Refreshes that this process has under way, so that many who ask cause one.
    flights: Mutex<HashMap<String, Flight>>,
    /// Where tokens wait that could not be stored.
    unstored: Option<Arc<Unstored>>,
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresher")
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}

impl Refresher {
    /// A refresher of the grants in `store`.
    pub fn new(
        store: Store,
        secrets: Arc<Secrets>,
        issuers: Vec<Issuer>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            secrets,
            issuers,
            clock,
            metrics,
            flights: Mutex::new(HashMap::new()),
            unstored: None,
        }
    }

    /// Keeps tokens that cannot be stored in `unstored`, and stores what is there as soon as it can.
    #[must_use]
    pub fn keeping(self, unstored: Unstored) -> Self {
        Self {
            unstored: Some(Arc::new(unstored)),
            ..self
        }
    }

    /// The issuer and client of a grant.
    pub fn issuer(&self, issuer: &str, client_id: &str) -> Option<&Issuer> {
        self.issuers
            .iter()
            .find(|one| one.issuer == issuer && one.client_id == client_id)
    }

    /// Every issuer, in the order of the configuration.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Where grants lie.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// How secrets are encrypted.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        self.clock.since_epoch()
    }

    /// Refreshes a grant of which the caller saw the access token that ends at `seen_expiry`; returns at
    /// once if there is a newer one by now. Goes on to its end when the caller does not wait for it.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn refresh(
        self: &Arc<Self>,
        id: &str,
        seen_expiry: Moment,
    ) -> Result<(), RefreshError> {
        let flight = {
            let mut flights = self.flights.lock();
            if let Some(flight) = flights.get(id) {
                flight.clone()
            } else {
                let (this, id_of_task) = (Arc::clone(self), id.to_owned());
                let task = tokio::spawn(async move {
                    let result = this.run(&id_of_task, seen_expiry).await;
                    this.flights.lock().remove(&id_of_task);
                    result
                });
                let flight = async move { task.await.unwrap_or(Err(RefreshError::Unavailable)) }
                    .boxed()
                    .shared();
                flights.insert(id.to_owned(), flight.clone());
                flight
            }
        };
        flight.await
    }

    async fn run(&self, id: &str, seen_expiry: Moment) -> Result<(), RefreshError> {
        let give_up_at = self.now().saturating_add(PATIENCE);
        loop {
            self.store_late(id).await?;
            let grant = self
                .store
                .grant(id)
                .await
                .map_err(|error| unavailable(&error))?
                .ok_or(RefreshError::Gone)?;
            if grant.access_expires_at > seen_expiry {
                return Ok(());
            }
            match grant.state {
                State::Active | State::Degraded => {}
                State::NeedsReauthentication => return Err(RefreshError::NeedsUser),
                State::Revoked => return Err(RefreshError::Gone),
            }
            if let Some(result) = self.attempt(grant).await {
                return result;
            }
            if self.now() >= give_up_at {
                return Err(RefreshError::Unavailable);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// One try; nothing if somebody else is at it.
    async fn attempt(&self, grant: Grant) -> Option<Result<(), RefreshError>> {
        let Some(issuer) = self.issuer(&grant.owner.issuer, &grant.owner.client_id) else {
            return Some(Err(RefreshError::Unavailable));
        };
        if grant.kind == Kind::Manual {
            return Some(Err(RefreshError::NeedsUser));
        }
        let now = self.now();
        if is_resting(&grant, now) {
            return Some(Err(RefreshError::Unavailable));
        }
        match claim(&grant, issuer.rotation, now) {
            Claim::Redeem(_) => {}
            Claim::Held => return None,
            Claim::Ambiguous => {
                return Some(self.give_up(grant, Reason::AmbiguousRotation).await);
            }
            Claim::Revoked => return Some(Err(RefreshError::NeedsUser)),
        }
        let refresh_token = match self.secrets.open(&grant, Field::RefreshToken) {
            Ok(token) => token,
            Err(SecretsError::Open(OpenError::UnknownKey { .. })) => {
                return Some(Err(RefreshError::Unavailable));
            }
            Err(_forged) => return Some(self.quarantine(grant).await),
        };
        // Whoever has no permit would hold the lease for nothing.
        let Ok(_place) = issuer.places.acquire().await else {
            return Some(Err(RefreshError::Unavailable));
        };
        if let Permit::NotBefore(_) = issuer.permit(self.now()) {
            // An empty bucket fills while the caller has patience; a broken issuer does not mend so soon.
            let is_broken = !issuer.is_reachable();
            return is_broken.then_some(Err(RefreshError::Unavailable));
        }
        // What takes long is done before the claim: the token must be on its way soon after it.
        let is_known = issuer.endpoint.prepare().await;
        let now = self.now();
        let Claim::Redeem(attempt) = claim(&grant, issuer.rotation, now) else {
            return None;
        };
        failpoint::reach(Step::Claim);
        let claimed = claimed(&grant, attempt, now);
        match self.store.replace(&claimed, grant.progress.version).await {
            Ok(true) => {}
            Ok(false) => return None,
            // The store does not take writes, so the token stays where it is.
            Err(error) => return Some(Err(unavailable(&error))),
        }
        failpoint::reach(Step::Redeem);
        let redemption = Redemption {
            issuer,
            claimed,
            attempt,
            sent_at: self.now(),
            refresh_token,
        };
        if !is_known {
            issuer.note(&Exchange::NotSent, self.now());
            return Some(self.settle(&redemption, Failure::Unspent, None).await);
        }
        Some(self.redeem(redemption).await)
    }

    async fn redeem(&self, redemption: Redemption<'_>) -> Result<(), RefreshError> {
        let Redemption {
            issuer,
            claimed,
            attempt,
            sent_at,
            refresh_token,
        } = &redemption;
        let send_before =
            progress::send_before(attempt, issuer.rotation, claimed.progress.lease_until);
        // An answer that came after the lease could meet another replica that sends the same token.
        let is_late = sent_at.saturating_add(ANSWER) > claimed.progress.lease_until;
        if *sent_at >= send_before || is_late {
            return self.settle(&redemption, Failure::Unspent, None).await;
        }
        let request = match (refresh_token, claimed.kind) {
            (Some(refresh_token), _) => TokenRequest::RefreshToken {
                refresh_token,
                scopes: &[],
                resource: resource_indicator(&claimed.owner.issuer, &claimed.owner.resource),
            },
            (None, Kind::ClientCredentials) => TokenRequest::ClientCredentials {
                scopes: &claimed.scopes,
            },
            (None, Kind::AuthorizationCode | Kind::Manual) => return Err(RefreshError::NeedsUser),
        };
        let exchange = issuer.endpoint.ask(request).await;
        failpoint::reach(Step::Store);
        issuer.note(&exchange, self.now());
        let result = match exchange {
            Exchange::Answered(Ok(response)) => {
                match own_set(response.sets, &claimed.owner.resource) {
                    Some(set) => self.land(&redemption, &set).await,
                    // Whatever was redeemed, it was not for this.
                    None => self.settle(&redemption, Failure::Unknown, None).await,
                }
            }
            Exchange::Answered(Err(problem)) => {
                let failure = redemption::failure(&problem);
                self.settle(&redemption, failure, Some(&problem)).await
            }
            Exchange::NotSent => self.settle(&redemption, Failure::Unspent, None).await,
            Exchange::Unanswered => self.settle(&redemption, Failure::Unknown, None).await,
        };
        failpoint::reach(Step::Stored);
        result
    }

    /// Stores what came, first of all: the old refresh token may be good for nothing any more.
    async fn land(&self, redemption: &Redemption<'_>, set: &TokenSet) -> Result<(), RefreshError> {
        let mut row = redemption.claimed.clone();
        let give_up_at = self.now().saturating_add(STORE_PATIENCE);
        loop {
            let Landing::Store { version } = redemption.landing(&row) else {
                // Beside a newer token it is left to end: some issuers would end what came from the same login, too.
                if let (None, Some(token)) = (row.progress.token, &set.refresh_token) {
                    redemption.issuer.endpoint.revoke(token).await;
                }
                return Ok(());
            };
            let renewed = self
                .renewed(redemption, &row, set)
                .map_err(|_seal| RefreshError::Unavailable)?;
            match self.store.replace(&renewed, version).await {
                Ok(true) => {
                    tracing::info!(
                        grant = renewed.id,
                        resource = renewed.owner.resource,
                        tries = redemption.attempt.tries,
                        "refreshed a grant"
                    );
                    self.metrics.refreshed("success");
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) if self.now() < give_up_at => {
                    tracing::warn!(grant = row.id, error = %Chain(&error), "failed to store new tokens; trying again");
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => {
                    tracing::error!(grant = row.id, error = %Chain(&error), "new tokens could not be stored");
                    self.keep(redemption, &row, set).await;
                    return Err(RefreshError::Unavailable);
                }
            }
            match self.store.grant(&row.id).await {
                Ok(Some(present)) => row = present,
                Ok(None) => return Err(RefreshError::Gone),
                // The write tells next time.
                Err(_store) => {}
            }
        }
    }

    /// Keeps in a file what cannot be stored.
    async fn keep(&self, redemption: &Redemption<'_>, row: &Grant, set: &TokenSet) {
        let Some(unstored) = self.unstored.clone() else {
            return;
        };
        let answered = (&redemption.attempt, redemption.sent_at);
        let arrival = match Arrival::new(&self.secrets, row, answered, set) {
            Ok(Some(arrival)) => arrival,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(grant = row.id, error = %Chain(&error), "new tokens are lost: they could not be sealed");
                return;
            }
        };
        let kept = tokio::task::spawn_blocking(move || unstored.keep(&arrival)).await;
        match kept.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => self.metrics.refreshed("kept"),
            Err(error) => {
                tracing::error!(grant = row.id, %error, "new tokens are lost: no file could be written either");
            }
        }
    }

    /// Stores what came for a grant when the store took no writes.
    async fn store_late(&self, id: &str) -> Result<(), RefreshError> {
        let Some(unstored) = &self.unstored else {
            return Ok(());
        };
        let arrival = match unstored.get(id) {
            Ok(None) => return Ok(()),
            Ok(Some(arrival)) => arrival,
            Err(error) => {
                tracing::error!(grant = id, %error, "tokens that wait to be stored cannot be read");
                return Err(RefreshError::Unavailable);
            }
        };
        let row = self.store.grant(id).await;
        if let Some(row) = row.map_err(|error| unavailable(&error))? {
            self.land_late(&arrival, row).await?;
        }
        unstored.remove(id).map_err(|error| {
            tracing::error!(grant = id, %error, "tokens were stored, but their file cannot be removed");
            RefreshError::Unavailable
        })
    }

    async fn land_late(&self, arrival: &Arrival, row: Grant) -> Result<(), RefreshError> {
        let issuer = self.issuer(&row.owner.issuer, &row.owner.client_id);
        let issuer = issuer.ok_or(RefreshError::Unavailable)?;
        let opened = arrival.open(&self.secrets, &row);
        let (set, (attempt, sent_at)) = match (opened, arrival.attempt()) {
            (Ok(set), Some(answered)) => (set, answered),
            (Err(SecretsError::Open(OpenError::UnknownKey { .. })), _) => {
                return Err(RefreshError::Unavailable);
            }
            (Err(_), _) | (_, None) => {
                tracing::error!(
                    grant = row.id,
                    "tokens that waited to be stored do not open, and are dropped"
                );
                return Ok(());
            }
        };
        let redemption = Redemption {
            issuer,
            claimed: row,
            attempt,
            sent_at,
            refresh_token: None,
        };
        self.land(&redemption, &set).await
    }

    fn renewed(
        &self,
        redemption: &Redemption<'_>,
        row: &Grant,
        set: &TokenSet,
    ) -> Result<Grant, SecretsError> {
        let Redemption {
            issuer,
            attempt,
            sent_at,
            refresh_token: sent,
            ..
        } = redemption;
        let sent_at = *sent_at;
        let refresh_token = set.refresh_token.as_ref().or(sent.as_ref());
        let token = refresh_token.map(|token| digest(token.expose_secret().as_bytes()));
        let is_rotated = token != Some(attempt.token);
        let mut renewed = Grant {
            state: State::Active,
            reason: None,
            requirements: SessionRequirements::default(),
            scopes: match row.kind {
                // What is asked for each time.
                Kind::ClientCredentials => row.scopes.clone(),
                Kind::AuthorizationCode | Kind::Manual => {
                    set.scopes.clone().unwrap_or_else(|| row.scopes.clone())
                }
            },
            issued_at: sent_at,
            access_expires_at: sent_at.saturating_add(set.lifetime),
            failures: 0,
            failing_since: None,
            ..row.clone()
        };
        renewed.progress = progress::Progress {
            version: row.progress.version + 1,
            token,
            parent: is_rotated.then_some(attempt.token).or(row.progress.parent),
            sent_at,
            attempt: None,
            lease_until: Moment::ZERO,
        };
        let access = set.is_bearer.then_some(&set.access_token);
        if access.is_none() {
            renewed.state = State::Degraded;
        }
        renewed.tokens = self.secrets.seal(&renewed, refresh_token, access)?;
        renewed.due_at = schedule::after_success(&renewed, issuer.keep_alive, self.now(), spread());
        Ok(renewed)
    }

    /// Writes what a failure means for the grant.
    async fn settle(
        &self,
        redemption: &Redemption<'_>,
        failure: Failure,
        problem: Option<&Problem>,
    ) -> Result<(), RefreshError> {
        let settled = redemption.settled(failure, problem, self.now());
        self.metrics.refreshed(match failure {
            Failure::Refused => "refused",
            Failure::Unspent => "failed",
            Failure::Unknown => "unknown",
        });
        tracing::warn!(
            grant = settled.id,
            issuer = redemption.issuer.issuer,
            state = settled.state.as_str(),
            reason = settled.reason.map_or("", Reason::as_str),
            failures = settled.failures,
            "a refresh failed"
        );
        let needs_user = settled.state == State::NeedsReauthentication;
        let version = redemption.claimed.progress.version;
        match self.store.replace(&settled, version).await {
            // Whoever has moved it on meanwhile knows better.
            Ok(_) if !needs_user => Err(RefreshError::Unavailable),
            Ok(_) => Err(RefreshError::NeedsUser),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn give_up(&self, grant: Grant, reason: Reason) -> Result<(), RefreshError> {
        let version = grant.progress.version;
        let mut given_up = Grant {
            state: State::NeedsReauthentication,
            reason: Some(reason),
            due_at: None,
            ..grant
        };
        given_up.progress.version = version + 1;
        tracing::warn!(
            grant = given_up.id,
            reason = reason.as_str(),
            "a grant needs its user"
        );
        match self.store.replace(&given_up, version).await {
            Ok(_) => Err(RefreshError::NeedsUser),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// What was stored is not what is there: nothing is done with it any more.
    async fn quarantine(&self, grant: Grant) -> Result<(), RefreshError> {
        tracing::error!(grant = grant.id, "the tokens of a grant do not open");
        self.metrics.refreshed("corrupt");
        let owner = &grant.owner;
        let whose = (
            Some(owner.user.subject.clone()),
            Some(owner.resource.clone()),
        );
        let entry = Entry::of_vault(self.now(), "quarantine", whose, "corrupt");
        let given_up = self.give_up(grant, Reason::Corrupt).await;
        if let Err(error) = self.store.append(&entry).await {
            return Err(unavailable(&error));
        }
        given_up
    }

    /// Refreshes what is due, until `stop`.
    pub async fn work(self: &Arc<Self>, stop: impl Future<Output = ()>) {
        let rounds = self.issuers.iter().map(|issuer| async move {
            loop {
                let begun = self.round(issuer).await.len();
                tokio::time::sleep(if begun == 0 { ROUND } else { POLL }).await;
            }
        });
        tokio::select! {
            _never = futures_util::future::join_all(rounds) => {}
            _never = self.store_what_waits() => {}
            () = stop => {}
        }
    }

    /// Stores what waits in files, whether anybody asks for it or not.
    async fn store_what_waits(&self) {
        loop {
            let waiting = self.unstored.as_ref().map(|unstored| unstored.grants());
            for grant in waiting.unwrap_or_default() {
                // Why not is in the log.
                let _tried_again = self.store_late(&grant).await;
            }
            tokio::time::sleep(LATE).await;
        }
    }

    /// Begins what is due at one issuer, as much as its bucket can spare.
    pub async fn round(self: &Arc<Self>, issuer: &Issuer) -> Vec<JoinHandle<()>> {
        let now = self.now();
        let spare = issuer.bulkhead.lock().spare(now);
        let spare = usize::try_from(spare).unwrap_or(usize::MAX);
        let room = spare.min(issuer.places.available_permits());
        if room == 0 {
            return Vec::new();
        }
        if issuer.backlog.lock().is_empty() {
            match self.store.due(&issuer.issuer, now, issuer.batch).await {
                Ok(due) => *issuer.backlog.lock() = due.into(),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "failed to look for what is due");
                }
            }
        }
        let mut backlog = issuer.backlog.lock();
        let room = room.min(backlog.len());
        let due = backlog.drain(..room);
        due.map(|id| tokio::spawn(Arc::clone(self).refresh_due(id)))
            .collect()
    }

    /// Refreshes a grant, unless somebody has done it since it was found.
    async fn refresh_due(self: Arc<Self>, id: String) {
        let Ok(Some(grant)) = self.store.grant(&id).await else {
            return;
        };
        if grant.due_at.is_some_and(|due_at| due_at <= self.now()) {
            // What becomes of it is in the row and in the log.
            let _known = self.refresh(&id, grant.access_expires_at).await;
        }
    }
}

/// The row in which `attempt` is begun.
fn claimed(grant: &Grant, attempt: Attempt<Digest>, now: Moment) -> Grant {
    let mut claimed = grant.clone();
    claimed.progress.version += 1;
    claimed.progress.attempt = Some(attempt);
    claimed.progress.lease_until = now.saturating_add(LEASE);
    claimed
}

/// Whether the issuer refused this grant not long ago. Whoever asks meanwhile would hear the same.
fn is_resting(grant: &Grant, now: Moment) -> bool {
    grant.state == State::Degraded
        && grant.reason == Some(Reason::Refused)
        && grant.due_at.is_some_and(|due_at| now < due_at)
}

/// The tokens for `resource`; an issuer that does not name resource servers means the one that was asked.
pub(crate) fn own_set(sets: Vec<TokenSet>, resource: &str) -> Option<TokenSet> {
    sets.into_iter().find(|set| {
        let name = set.resource_server.as_deref();
        name.is_none_or(|name| name == resource)
    })
}

/// A client's own tokens have no refresh token that could be lost.
fn claim(grant: &Grant, rotation: Rotation, now: Moment) -> Claim<Digest> {
    match grant.kind {
        Kind::ClientCredentials => progress::claim(
            &progress::Progress {
                token: Some(OWN_CREDENTIALS),
                ..grant.progress
            },
            Rotation::Never,
            now,
        ),
        Kind::AuthorizationCode | Kind::Manual => progress::claim(&grant.progress, rotation, now),
    }
}

fn unavailable(error: &StoreError) -> RefreshError {
    tracing::error!(error = %Chain(error), "the store does not work");
    RefreshError::Unavailable
}

/// Between 0 and 1; the middle, if the operating system has no randomness.
pub(crate) fn spread() -> f64 {
    random::bytes::<4>().map_or(0.5, |bytes| {
        f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
    })
}

/// Names the client's own credentials, which have no refresh token.
const OWN_CREDENTIALS: Digest = [0; 32];
/// Longer than a request to an issuer takes at most and than its tokens usually take to be stored; shorter than the grace of common issuers (30 seconds), within which a replica that died must be
/// taken over from.
const LEASE: Duration = Duration::from_secs(15);
/// What a request to an issuer takes at most.
const ANSWER: Duration = Duration::from_secs(10);
const STORE_PATIENCE: Duration = Duration::from_secs(15);
/// How long somebody waits for a refresh that is under way elsewhere. Below the 10 seconds after which
/// sidecars hang up, so that they hear why.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often what waits in files is tried.
const LATE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_millis(250);
#[cfg(test)]
mod tests;

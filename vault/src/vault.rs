//! What the vault does for its callers.

pub mod admin;
mod bearer;
mod closing;
mod connect;
mod consent;
mod delegations;
mod logins;
mod revocations;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::runtime::key_source::KeySource;
use globus_auth_core::vault_api::{Connection, ConnectionsResponse};
use globus_auth_core::vault_config::{self, VaultConfig};
use quick_cache::sync::Cache;
use secrecy::SecretString;

use crate::caller::Caller;
use crate::grant::{Owner, State, User};
use crate::metrics::Metrics;
use crate::progress::Moment;
use crate::ready::Ready;
use crate::refresher::Refresher;
use crate::schedule;
use crate::store::audit::Entry;
use crate::store::{Store, StoreError};

/// The vault.
#[derive(Debug)]
pub struct Vault {
    config: VaultConfig,
    refresher: Arc<Refresher>,
    /// The signing keys of each issuer, in the order of the configuration.
    keys: Vec<KeySource>,
    metrics: Metrics,
    ready: Ready,
    exchanged: bearer::Exchanged,
    /// When a refusal was last written down, by whose it was.
    refusals: Cache<(String, String), Moment>,
    /// When a token of a grant was last got because a service refused one, and which.
    forced: Cache<String, (Moment, String)>,
}

/// Why a caller does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The request cannot be right.
    #[error("the request is not valid: {0}")]
    Invalid(&'static str),
    /// It is not there, or not theirs: nobody is told which.
    #[error("not there, or not theirs")]
    Forbidden,
    /// Not now.
    #[error("not now: {0}")]
    Unavailable(&'static str),
    /// The store.
    #[error("the store does not work")]
    Store(#[from] StoreError),
}

impl Vault {
    /// A vault.
    pub fn new(
        config: VaultConfig,
        refresher: Arc<Refresher>,
        keys: Vec<KeySource>,
        metrics: Metrics,
    ) -> Self {
        Self {
            config,
            refresher,
            keys,
            metrics,
            ready: Ready::default(),
            exchanged: bearer::Exchanged::default(),
            refusals: Cache::new(MAX_REMEMBERED),
            forced: Cache::new(MAX_REMEMBERED),
        }
    }

    fn store(&self) -> &Store {
        self.refresher.store()
    }

    /// The issuer and client of a grant, as the configuration has them.
    fn configured(&self, owner: &Owner) -> Option<&vault_config::Issuer> {
        let mut issuers = self.config.issuers.iter();
        issuers.find(|one| one.issuer.as_str() == owner.issuer && one.client_id == owner.client_id)
    }

    /// What the user of a session has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn connections(
        &self,
        caller: &Caller,
        handle: &SecretString,
    ) -> Result<ConnectionsResponse, VaultError> {
        let session = self.session(caller, handle, "connections").await?;
        let (tenant, user) = (&session.tenant, &session.user);
        let now = self.refresher.now();
        let grants = self.store().grants_of(tenant, user).await?;
        let delegations = self.store().delegations_of(tenant, user, now).await?;
        let alive = grants
            .into_iter()
            .filter(|grant| grant.state != State::Revoked);
        let connections = alive
            .map(|grant| Connection {
                needs_consent: !grant.is_consented(),
                session_ends_at: self.session_ends_at(&grant, now).map(|at| at.as_secs()),
                delegations: delegations
                    .iter()
                    .filter(|one| one.resource == grant.owner.resource)
                    .map(delegations::shown)
                    .collect(),
                state: grant.state.as_str().to_owned(),
                expires_at: grant.access_expires_at.as_secs(),
                is_renewed: schedule::is_refreshable(&grant),
                resource_server: grant.owner.resource,
                scopes: grant.scopes,
                account: grant.account,
            })
            .collect();
        Ok(ConnectionsResponse {
            connections,
            pending: self.pending(&session.login, now).await?,
        })
    }

    /// Takes back what the user of a session has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn disconnect(
        &self,
        caller: &Caller,
        handle: &SecretString,
        resource: &str,
    ) -> Result<(), VaultError> {
        let session = self.session(caller, handle, "disconnect").await?;
        let (tenant, user) = (&session.tenant, &session.user);
        self.end_delegations(tenant, user, resource).await?;
        match self.find(tenant, user, resource).await? {
            Some(grant) => self.revoke(caller, grant).await,
            None => Ok(()),
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.refresher.now().as_millis()).unwrap_or(u64::MAX)
    }

    async fn note(
        &self,
        caller: &Caller,
        action: &str,
        user: Option<&User>,
        resource: Option<&str>,
        result: &str,
    ) -> Result<(), VaultError> {
        let entry = Entry {
            at: self.milliseconds(),
            action: action.to_owned(),
            actor: caller.tenant(),
            pod: Some(caller.pod.clone()),
            user: user.map(|user| user.subject.clone()),
            resource: resource.map(str::to_owned),
            result: result.to_owned(),
        };
        Ok(self.store().append(&entry).await?)
    }

    /// Notes a refusal, in the audit log once in a while: whoever repeats it must not fill the disk. That the note failed
    /// changes nothing: the refusal stands.
    async fn refuse(&self, caller: &Caller, action: &str, user: Option<&User>) {
        tracing::warn!(
            action,
            workload = caller.tenant(),
            pod = caller.pod,
            "refused a request"
        );
        let (key, now) = ((caller.tenant(), action.to_owned()), self.refresher.now());
        let before = self.refusals.get(&key);
        if before.is_some_and(|before| now < before.saturating_add(NOTED_EVERY)) {
            return;
        }
        self.refusals.insert(key, now);
        let noted = self.note(caller, action, user, None, "refused").await;
        if let Err(error) = noted {
            tracing::error!(%error, "failed to note a refusal");
        }
    }

    /// Removes what has ended, now and then.
    pub async fn tidy_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TIDY).await;
            if let Err(error) = self.store().tidy(self.refresher.now()).await {
                tracing::warn!(%error, "failed to remove sessions that ended");
            }
            if let Err(error) = self.end_expired_delegations().await {
                tracing::warn!(%error, "failed to remove delegations that ended");
            }
            if let Err(error) = self.forget_unused().await {
                tracing::warn!(%error, "failed to forget grants that nobody uses");
            }
        }
    }

    /// Takes back and removes what nobody has used for as long as the configuration says.
    ///
    /// # Errors
    /// [`VaultError`]; the rest is tried next time.
    pub async fn forget_unused(&self) -> Result<(), VaultError> {
        let Some(seconds) = self.config.refresh.forget_unused_after_seconds else {
            return Ok(());
        };
        let after = Duration::from_secs(seconds);
        let before = self.refresher.now().saturating_sub(after);
        loop {
            let unused = self.store().unused(before, BATCH).await?;
            if unused.is_empty() {
                return Ok(());
            }
            for grant in unused {
                let id = grant.id.clone();
                if grant.state != State::Revoked {
                    self.take_back(("vault".to_owned(), None), grant).await?;
                }
                // Somebody may have consented again meanwhile.
                let left = self.store().grant(&id).await?;
                if let Some(left) = left.filter(|left| left.state == State::Revoked) {
                    self.store().remove(&id, left.progress.version).await?;
                }
            }
        }
    }
}

/// A refusal of the same kind, to the same workload.
const NOTED_EVERY: Duration = Duration::from_mins(1);
const MAX_REMEMBERED: usize = 4096;
const TIDY: Duration = Duration::from_mins(10);
/// So many grants at a time are in memory.
const BATCH: u32 = 100;

#[cfg(test)]
mod tests;

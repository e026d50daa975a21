//! Says how the vault is: to the kubelet, to Prometheus, and to the operator.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use globus_auth_core::runtime::admin::Health;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::vault_config::VaultConfig;
use globus_auth_core::vault_status::{Keyring, VaultStatus};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::refresher::Refresher;
use crate::store::StoreError;

/// What was last found.
#[derive(Debug)]
pub struct Reporter {
    refresher: Arc<Refresher>,
    /// What issuers are called in the resource, in the order of the refresher's.
    names: Vec<String>,
    metrics: Metrics,
    last: ArcSwap<VaultStatus>,
}

impl Reporter {
    /// A reporter that has found nothing yet.
    pub fn new(config: &VaultConfig, refresher: Arc<Refresher>, metrics: Metrics) -> Self {
        let names = config.issuers.iter().map(|issuer| issuer.name.clone());
        Self {
            names: names.collect(),
            refresher,
            metrics,
            last: ArcSwap::default(),
        }
    }

    /// What was last found.
    pub fn status(&self) -> Arc<VaultStatus> {
        self.last.load_full()
    }

    /// Looks again and again. Counting a million grants takes a while, so it takes a fiftieth of the time.
    pub async fn look_for_ever(self: Arc<Self>) {
        loop {
            let begin = Instant::now();
            self.look().await;
            tokio::time::sleep(PAUSE.max(begin.elapsed().saturating_mul(50))).await;
        }
    }

    /// Looks whether the database answers, and nothing else.
    pub async fn ping(&self) {
        let before = VaultStatus::clone(&self.last.load());
        let answer = self.refresher.store().ping().await;
        self.last.store(Arc::new(VaultStatus {
            is_storage_ready: answer.is_ok(),
            ..before
        }));
    }

    /// Looks once.
    pub async fn look(&self) {
        let counted = self.counted().await;
        let (grants, by_key) = match counted {
            Ok(counts) => counts,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the database does not answer");
                let before = VaultStatus::clone(&self.last.load());
                self.last.store(Arc::new(VaultStatus {
                    is_storage_ready: false,
                    ..before
                }));
                return;
            }
        };
        let ring = self.refresher.secrets().ring();
        let issuers = self.refresher.issuers().iter().zip(&self.names);
        let status = VaultStatus {
            is_storage_ready: true,
            keyring: Keyring {
                keys: ring.ids().map(|id| id.as_str().to_owned()).collect(),
                grants: by_key.into_iter().collect(),
            },
            grants: grants.into_iter().collect(),
            unreachable_issuers: issuers
                .filter(|(issuer, _)| !issuer.is_reachable())
                .map(|(_, name)| name.clone())
                .collect(),
        };
        self.metrics.show(&status);
        self.last.store(Arc::new(status));
    }

    async fn counted(&self) -> Result<(Counts, Counts), StoreError> {
        let store = self.refresher.store();
        let by_state = store.counts().await?.into_iter();
        let by_state = by_state.map(|(state, count)| (state.as_str().to_owned(), count));
        Ok((by_state.collect(), store.counts_by_key().await?))
    }
}

type Counts = Vec<(String, u64)>;

impl Health for Reporter {
    fn ready(&self) -> Result<(), String> {
        if self.last.load().is_storage_ready {
            Ok(())
        } else {
            Err("the database does not answer".to_owned())
        }
    }
}

const PAUSE: Duration = Duration::from_secs(2);

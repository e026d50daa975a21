//! Says how the vault is: to the kubelet, to Prometheus, and to the operator.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use globus_auth_core::runtime::admin::Health;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::vault_config::{Issuer, VaultConfig};
use globus_auth_core::vault_status::{Keyring, VaultStatus};
use tokio::time::Instant;

use crate::issuer::Issuer as IssuerNow;
use crate::metrics::Metrics;
use crate::refresher::Refresher;
use crate::store::StoreError;

/// What was last found.
#[derive(Debug)]
pub struct Reporter {
    refresher: Arc<Refresher>,
    /// As the resource has them, in the order of the refresher's.
    configured: Vec<Issuer>,
    is_closing: bool,
    metrics: Metrics,
    last: ArcSwap<VaultStatus>,
}

impl Reporter {
    /// A reporter that has found nothing yet.
    pub fn new(config: &VaultConfig, refresher: Arc<Refresher>, metrics: Metrics) -> Self {
        Self {
            configured: config.issuers.clone(),
            is_closing: config.is_closing,
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
        let Counted {
            grants,
            by_key,
            ending,
            revocations,
        } = match counted {
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
        let named = |is_it: fn(&IssuerNow) -> bool| {
            let issuers = self.refresher.issuers().iter().zip(&self.configured);
            let them = issuers.filter(|(issuer, _)| is_it(issuer));
            them.map(|(_, configured)| configured.name.clone())
                .collect()
        };
        let status = VaultStatus {
            is_storage_ready: true,
            keyring: Keyring {
                keys: ring.ids().map(|id| id.as_str().to_owned()).collect(),
                grants: by_key.into_iter().collect(),
            },
            grants: grants.into_iter().collect(),
            ending,
            revocations,
            is_closing: self.is_closing,
            unreachable_issuers: named(|issuer| !issuer.is_reachable()),
            refusing_issuers: named(IssuerNow::refuses_client),
        };
        self.metrics.show(&status);
        self.last.store(Arc::new(status));
    }

    async fn counted(&self) -> Result<Counted, StoreError> {
        let store = self.refresher.store();
        let by_state = store.counts().await?.into_iter();
        let by_state = by_state.map(|(state, count)| (state.as_str().to_owned(), count));
        Ok(Counted {
            grants: by_state.collect(),
            by_key: store.counts_by_key().await?,
            ending: self.ending().await?,
            revocations: store.count_revocations().await?,
        })
    }

    /// Grants in the last part of their issuer's session policy.
    async fn ending(&self) -> Result<u64, StoreError> {
        let now = self.refresher.now();
        let mut ending = 0;
        for issuer in &self.configured {
            let (Some(seconds), Some(warning)) = (issuer.session_seconds, issuer.warning()) else {
                continue;
            };
            let over = now.saturating_sub(Duration::from_secs(seconds));
            let soon = over.saturating_add(warning);
            let store = self.refresher.store();
            ending += store
                .authenticated(issuer.issuer.as_str(), over, soon)
                .await?;
        }
        Ok(ending)
    }
}

/// What the database was counted to have.
struct Counted {
    grants: Vec<(String, u64)>,
    by_key: Vec<(String, u64)>,
    ending: u64,
    revocations: u64,
}

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

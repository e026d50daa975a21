//! The end of a vault whose resource is being deleted: everything is taken back, and nothing given out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::{BATCH, Vault, VaultError};
use crate::grant::State;
use crate::store::Filter;

impl Vault {
    /// Whether nothing is given out any more.
    pub const fn is_closing(&self) -> bool {
        self.config.is_closing
    }

    /// Takes everything back, and goes on until nothing is left.
    pub async fn close(self: Arc<Self>) {
        loop {
            match self.take_back_all().await {
                Ok(taken) => tracing::info!(
                    taken,
                    "took back what there was: the vault is being deleted"
                ),
                Err(error) => tracing::warn!(%error, "failed to take back everything"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes back every grant once. How many.
    ///
    /// # Errors
    /// [`VaultError`]; the rest is left.
    pub async fn take_back_all(&self) -> Result<usize, VaultError> {
        // Nothing is in use any more.
        let now = self.refresher.now();
        self.store().hasten_revocations(now).await?;
        let (mut after, mut taken) = (String::new(), 0);
        loop {
            let grants = self.store().list(&Filter::default(), &after, BATCH).await?;
            let Some(last) = grants.last() else {
                return Ok(taken);
            };
            after.clone_from(&last.id);
            let alive = grants
                .into_iter()
                .filter(|grant| grant.state != State::Revoked);
            let took_back = alive.map(|grant| self.take_back(("vault".to_owned(), None), grant));
            let results = futures_util::stream::iter(took_back)
                .buffer_unordered(AT_ONCE)
                .collect::<Vec<_>>()
                .await;
            for result in results {
                result?;
                taken += 1;
            }
        }
    }
}

/// Issuers are asked about so many grants at a time.
const AT_ONCE: usize = 8;
const AGAIN: Duration = Duration::from_secs(5);

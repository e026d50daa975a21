//! What causes a reconciliation of a vault, and what happens to its result.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_crds::TokenVault;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt};

use super::reconcile::{Context, ReconcileError, reconcile};
use crate::proxy::build::{MANAGED_BY, MANAGED_BY_LABEL};

/// Reconciles; never returns.
pub async fn run(context: Arc<Context>) {
    let client = context.client.clone();
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let guarded: Api<DeserializeGuard<TokenVault>> = Api::all(client.clone());
    Controller::new(guarded, watcher::Config::default())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(4))
        // Its pods became ready or are no longer, or somebody changed or deleted it.
        .owns(Api::<StatefulSet>::all(client.clone()), ours.clone())
        .owns(Api::<Deployment>::all(client), ours)
        .run(guarded_reconcile, back_off, context)
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::debug!(error = %Chain(&error), "the controller's stream reported an error");
            }
        })
        .await;
}

async fn guarded_reconcile(
    vault: Arc<DeserializeGuard<TokenVault>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    match &vault.0 {
        Ok(readable) => {
            let action = reconcile(Arc::new(readable.clone()), Arc::clone(&context)).await?;
            context.metrics.reconciled("success");
            Ok(action)
        }
        Err(invalid) => {
            tracing::error!(
                object.name = vault.name_any(),
                object.namespace = vault.namespace(),
                "the stored TokenVault cannot be read: {}",
                invalid.error
            );
            context.metrics.reconciled("unreadable");
            Ok(Action::await_change())
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller passes an Arc"
)]
fn back_off(
    vault: Arc<DeserializeGuard<TokenVault>>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    tracing::warn!(
        object.name = vault.name_any(),
        object.namespace = vault.namespace(),
        error = %Chain(error),
        "failed to reconcile a TokenVault"
    );
    context.metrics.reconciled("error");
    Action::requeue(RETRY)
}

const DEBOUNCE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(10);

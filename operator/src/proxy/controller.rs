//! What causes a reconciliation, and what happens to its result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use globus_auth_crds::{GlobusAuthProxy, TokenVault};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio_stream::wrappers::WatchStream;

use super::build::{MANAGED_BY, MANAGED_BY_LABEL};
use super::reconcile::{Context, ReconcileError, reconcile};
use crate::selection;
use globus_auth_core::runtime::telemetry::Chain;

/// Reconciles; never returns. It may be dropped at any time: whatever it was doing is done again from the
/// top.
pub async fn run(context: Arc<Context>) {
    let client = context.client.clone();
    let all = watcher::Config::default();
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let failures = Arc::new(Failures::default());
    let proxies = context.proxies.clone();
    let (for_pods, for_maps) = (proxies.clone(), proxies.clone());
    let (for_vaults, for_siblings) = (proxies.clone(), proxies);
    let guarded: Api<DeserializeGuard<GlobusAuthProxy>> = Api::all(client.clone());
    let authorities = WatchStream::from_changes(context.authorities.clone()).map(|_| ());
    Controller::new(guarded, all.clone())
        // A controller of many objects must not ask the API server for all of them at once.
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        // Somebody changed or deleted the policy: it comes back.
        .owns(Api::<NetworkPolicy>::all(client.clone()), ours.clone())
        // Its pods became ready or are no longer, or somebody changed or deleted it.
        .owns(Api::<Deployment>::all(client.clone()), ours.clone())
        .owns(Api::<Service>::all(client.clone()), ours)
        // A pod came, went, or was reported on. Only metadata travels.
        .watches(metadata::<Pod>(&client), all.clone(), move |pod| of_pod(&for_pods, &pod))
        // An allowlist was edited.
        .watches(metadata::<ConfigMap>(&client), all.clone(), move |map| of_map(&for_maps, &map))
        // Its vault came, went, or has another client or certificate.
        .watches(Api::<DeserializeGuard<TokenVault>>::all(client.clone()), all.clone(), move |vault| {
            of_vault(&for_vaults, &vault)
        })
        // Two proxies may select the same pods; what one does matters to the other.
        .watches(Api::<DeserializeGuard<GlobusAuthProxy>>::all(client.clone()), all, move |other| {
            siblings(&for_siblings, &other)
        })
        // The sidecars must learn of new certificate authorities.
        .reconcile_all_on(authorities)
        .run(
            {
                let failures = Arc::clone(&failures);
                move |proxy, context| guarded_reconcile(proxy, context, Arc::clone(&failures))
            },
            move |proxy, error, context| failures.back_off(&proxy, error, &context),
            context,
        )
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::debug!(error = %Chain(&error), "the controller's stream reported an error");
            }
        })
        .await;
}

fn metadata<K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(
    client: &Client,
) -> Api<PartialObjectMeta<K>> {
    Api::all(client.clone())
}

/// An object that is stored and cannot be read is left alone, loudly; the others go on.
async fn guarded_reconcile(
    proxy: Arc<DeserializeGuard<GlobusAuthProxy>>,
    context: Arc<Context>,
    failures: Arc<Failures>,
) -> Result<Action, ReconcileError> {
    match &proxy.0 {
        Ok(readable) => {
            let readable = Arc::new(readable.clone());
            let action = Box::pin(reconcile(readable, Arc::clone(&context))).await?;
            failures.forget(&proxy);
            context.metrics.reconciled("success");
            Ok(action)
        }
        Err(invalid) => {
            let message = format!("the stored object cannot be read: {}", invalid.error);
            tracing::error!(
                object.name = proxy.name_any(),
                object.namespace = proxy.namespace(),
                "{message}"
            );
            context.metrics.reconciled("unreadable");
            context
                .events
                .warning(&proxy.object_ref(&()), "Invalid", &message)
                .await;
            Ok(Action::await_change())
        }
    }
}

/// How often each proxy has failed in a row.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<ObjectRef<DeserializeGuard<GlobusAuthProxy>>, u32>>);

impl Failures {
    fn forget(&self, proxy: &DeserializeGuard<GlobusAuthProxy>) {
        self.0.lock().remove(&ObjectRef::from_obj(proxy));
    }

    /// Logs a failure once, and waits longer each time.
    fn back_off(
        &self,
        proxy: &DeserializeGuard<GlobusAuthProxy>,
        error: &ReconcileError,
        context: &Context,
    ) -> Action {
        let count = {
            let mut failures = self.0.lock();
            let count = failures.entry(ObjectRef::from_obj(proxy)).or_default();
            *count = count.saturating_add(1);
            *count
        };
        tracing::warn!(
            error = %Chain(error),
            object.name = proxy.name_any(),
            object.namespace = proxy.namespace(),
            attempt = count,
            "failed to reconcile"
        );
        context.metrics.reconciled(error.category());
        Action::requeue(delay(count))
    }
}

/// How long to wait after so many failures in a row, of which there is at least one.
fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(9);
    FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY)
}

type Proxies = Store<GlobusAuthProxy>;
type ProxyRef = ObjectRef<DeserializeGuard<GlobusAuthProxy>>;

fn references(proxies: &Proxies, wanted: impl Fn(&GlobusAuthProxy) -> bool) -> Vec<ProxyRef> {
    let found = proxies.state_filter(|proxy| wanted(proxy));
    found
        .iter()
        .map(|proxy| ObjectRef::from_obj(&DeserializeGuard(Ok((**proxy).clone()))))
        .collect()
}

fn of_pod(proxies: &Proxies, pod: &PartialObjectMeta<Pod>) -> Vec<ProxyRef> {
    references(proxies, |proxy| {
        proxy.namespace() == pod.namespace() && selection::selects(proxy, pod.labels())
    })
}

fn of_map(proxies: &Proxies, map: &PartialObjectMeta<ConfigMap>) -> Vec<ProxyRef> {
    references(proxies, |proxy| {
        let named = proxy
            .spec
            .access
            .emails_from
            .as_ref()
            .map(|from| &from.config_map_key_ref.name);
        proxy.namespace() == map.namespace() && named == Some(&map.name_any())
    })
}

fn of_vault(proxies: &Proxies, vault: &DeserializeGuard<TokenVault>) -> Vec<ProxyRef> {
    references(proxies, |proxy| {
        proxy.spec.vault_ref.as_ref().is_some_and(|reference| {
            reference.name == vault.name_any()
                && Some(super::vault::namespace(proxy, reference)) == vault.namespace()
        })
    })
}

/// The other proxies of the namespace that can select a pod that `other` selects.
fn siblings(proxies: &Proxies, other: &DeserializeGuard<GlobusAuthProxy>) -> Vec<ProxyRef> {
    let Ok(other) = &other.0 else { return vec![] };
    references(proxies, |proxy| {
        proxy.namespace() == other.namespace()
            && proxy.name_any() != other.name_any()
            && selection::can_overlap(proxy, other)
    })
}

/// Changes that come together are carried out together; an edit still acts within seconds.
const DEBOUNCE: Duration = Duration::from_millis(100);
const CONCURRENCY: u16 = 8;
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use kube::core::PartialObjectMetaExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::{proxy_with, store_of};

    fn metadata_of<K>(metadata: &Value) -> PartialObjectMeta<K> {
        let metadata: kube::api::ObjectMeta = serde_json::from_value(metadata.clone()).unwrap();
        metadata.into_response_partial()
    }

    fn proxy(namespace: &str, name: &str, spec: &Value) -> GlobusAuthProxy {
        proxy_with(&json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}))
    }

    fn names(references: Vec<ProxyRef>) -> Vec<String> {
        let mut names: Vec<String> = references.into_iter().map(|one| one.name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_pod_concerns_the_proxies_of_its_namespace_that_select_it() {
        let proxies = store_of(vec![
            proxy("ml", "one", &json!({})),
            proxy(
                "ml",
                "two",
                &json!({"selector": {"matchLabels": {"tier": "web"}}}),
            ),
            proxy(
                "ml",
                "three",
                &json!({"selector": {"matchLabels": {"app": "other"}}}),
            ),
            proxy("dev", "four", &json!({})),
        ]);
        let labels = json!({"app": "mlflow", "tier": "web"});
        let pod = metadata_of(&json!({"namespace": "ml", "name": "p", "labels": labels}));
        assert_eq!(names(of_pod(&proxies, &pod)), ["one", "two"]);
    }

    #[test]
    fn a_config_map_concerns_the_proxies_of_its_namespace_that_name_it() {
        let from = |name: &str| {
            let reference = json!({"configMapKeyRef": {"name": name, "key": "emails"}});
            json!({"access": {"emailsFrom": reference}})
        };
        let proxies = store_of(vec![
            proxy("ml", "one", &from("users")),
            proxy("ml", "two", &from("others")),
            proxy("ml", "three", &json!({})),
            proxy("dev", "four", &from("users")),
        ]);
        let map = metadata_of(&json!({"namespace": "ml", "name": "users"}));
        assert_eq!(names(of_map(&proxies, &map)), ["one"]);
    }

    #[test]
    fn a_proxy_concerns_the_others_that_can_select_its_pods() {
        let proxies = store_of(vec![
            proxy("ml", "one", &json!({})),
            proxy("ml", "two", &json!({})),
            proxy(
                "ml",
                "three",
                &json!({"selector": {"matchLabels": {"app": "other"}}}),
            ),
            proxy("dev", "four", &json!({})),
        ]);
        let changed = DeserializeGuard(Ok(proxy("ml", "one", &json!({}))));
        assert_eq!(names(siblings(&proxies, &changed)), ["two"]);
    }

    #[rstest]
    #[case(1, 500)]
    #[case(2, 1000)]
    #[case(3, 2000)]
    #[case(8, 64_000)]
    #[case(9, 120_000)]
    #[case(u32::MAX, 120_000)]
    fn each_failure_doubles_the_wait_up_to_a_bound(#[case] failures: u32, #[case] millis: u64) {
        assert_eq!(delay(failures), Duration::from_millis(millis));
    }
}

//! The endpoint where sidecars say which sessions ended, and the list that comes of it for all of them.
//!
//! A sidecar speaks for its own proxy only: which one that is follows from its token, never from what it
//! says. So a sidecar that was taken over can log out its own users, and nobody else's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::ended::{EndSessions, EndedList, FILE_NAME, MAX_IN_MESSAGE};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::sidecar_config;
use globus_auth_crds::GlobusAuthProxy;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use crate::metrics::Metrics;
use crate::proxy::{fetch, names};
use crate::reporter::{self, NotAReporter};
use crate::selection;

/// What it takes to end sessions.
pub struct Endings {
    client: Client,
    proxies: Store<GlobusAuthProxy>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// Each message makes us ask the API server whose it is.
    places: Semaphore,
    /// What is waiting to be written, by proxy. Whoever finds no batch starts one.
    batches: Mutex<HashMap<ObjectRef<GlobusAuthProxy>, Batch>>,
}

/// What several sidecars said within [`COLLECT`], written at once.
#[derive(Default)]
struct Batch {
    message: EndSessions,
    waiting: Vec<oneshot::Sender<bool>>,
}

impl Endings {
    /// Ends sessions of this cluster's proxies.
    pub fn new(
        client: Client,
        proxies: Store<GlobusAuthProxy>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            proxies,
            metrics,
            clock,
            places: Semaphore::new(AT_ONCE),
            batches: Mutex::default(),
        }
    }
}

/// `POST /v1/sessions/end`: adds to the list of the proxy that protects the pod that the token names. 204
/// once it is written.
pub async fn receive(
    State(endings): State<Arc<Endings>>,
    headers: HeaderMap,
    Json(message): Json<EndSessions>,
) -> StatusCode {
    let (result, status) = match handle(&endings, &headers, message).await {
        Ok(()) => ("success", StatusCode::NO_CONTENT),
        Err(EndError::TooMany) => ("too_many", StatusCode::PAYLOAD_TOO_LARGE),
        Err(EndError::Reporter(NotAReporter::Unauthenticated)) => {
            ("unauthenticated", StatusCode::UNAUTHORIZED)
        }
        Err(error @ (EndError::Reporter(NotAReporter::OtherPod) | EndError::Unprotected)) => {
            tracing::info!(error = %error, "refused to end sessions");
            ("other_pod", StatusCode::FORBIDDEN)
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "failed to end sessions; the sidecar tells again");
            ("error", StatusCode::SERVICE_UNAVAILABLE)
        }
    };
    endings.metrics.ended(result);
    status
}

async fn handle(
    endings: &Arc<Endings>,
    headers: &HeaderMap,
    message: EndSessions,
) -> Result<(), EndError> {
    if message.ended.len() > MAX_IN_MESSAGE {
        return Err(EndError::TooMany);
    }
    let pod = {
        // The semaphore is never closed. Whoever waits here for long tells again.
        let _place = endings.places.acquire().await;
        let asked = reporter::of(&endings.client, headers).await;
        let (_reporter, pod) = asked.map_err(EndError::Reporter)?;
        pod
    };
    let proxy = protector(&endings.proxies, &pod).ok_or(EndError::Unprotected)?;
    let (written, waiting) = oneshot::channel();
    endings.add(&proxy, message, written);
    match waiting.await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(EndError::NotWritten),
    }
}

fn protector(proxies: &Store<GlobusAuthProxy>, pod: &Pod) -> Option<Arc<GlobusAuthProxy>> {
    let siblings = proxies.state_filter(|proxy| proxy.namespace() == pod.namespace());
    selection::protector(&siblings, pod.labels(), pod.annotations()).map(Arc::clone)
}

impl Endings {
    fn add(
        self: &Arc<Self>,
        proxy: &Arc<GlobusAuthProxy>,
        message: EndSessions,
        written: oneshot::Sender<bool>,
    ) {
        let key = ObjectRef::from_obj(&**proxy);
        let mut batches = self.batches.lock();
        let is_first = !batches.contains_key(&key);
        let batch = batches.entry(key.clone()).or_default();
        batch.message.ended.extend(message.ended);
        batch.waiting.push(written);
        drop(batches);
        if is_first {
            let (endings, proxy) = (Arc::clone(self), Arc::clone(proxy));
            tokio::spawn(async move {
                tokio::time::sleep(COLLECT).await;
                let Some(batch) = endings.batches.lock().remove(&key) else {
                    return;
                };
                let outcome = endings.write(&proxy, &batch.message).await;
                if let Err(error) = &outcome {
                    tracing::warn!(
                        error = %Chain(error),
                        object.name = proxy.name_any(),
                        object.namespace = proxy.namespace(),
                        "failed to write which sessions ended"
                    );
                }
                for waiting in batch.waiting {
                    // Whoever does not wait any more tells again.
                    waiting.send(outcome.is_ok()).unwrap_or_default();
                }
            });
        }
    }

    async fn write(
        &self,
        proxy: &GlobusAuthProxy,
        message: &EndSessions,
    ) -> Result<(), WriteError> {
        let namespace = proxy.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let name = names::secret(&proxy.name_any());
        let mut attempts = 0_u32;
        let hash = loop {
            let secret = secrets.get(&name).await.map_err(WriteError::Read)?;
            let uid = proxy.uid().unwrap_or_default();
            if !secret
                .owner_references()
                .iter()
                .any(|owner| owner.uid == uid)
            {
                return Err(WriteError::Foreign);
            }
            let Some(list) = updated(&secret, message, self.clock.now()) else {
                return Ok(());
            };
            let json = serde_json::to_vec(&list).map_err(WriteError::Encode)?;
            let hash = sidecar_config::hash(&json);
            // Another replica of ours may write at the same time; the version tells.
            let patch = json!({
                "metadata": {"resourceVersion": secret.resource_version()},
                "data": {FILE_NAME: ByteString(json)},
            });
            let parameters = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match secrets
                .patch(&name, &parameters, &Patch::Merge(patch))
                .await
            {
                Ok(_) => break hash,
                Err(kube::Error::Api(status)) if status.is_conflict() && attempts < ATTEMPTS => {
                    attempts += 1;
                }
                Err(error) => return Err(WriteError::Write(error)),
            }
        };
        self.tell_pods(proxy, &namespace, &hash).await
    }

    /// Makes the kubelets fetch the Secret at once. They would within a minute anyway, so one pod that
    /// cannot be told keeps none of the others from it.
    async fn tell_pods(
        &self,
        proxy: &GlobusAuthProxy,
        namespace: &str,
        hash: &str,
    ) -> Result<(), WriteError> {
        let pods = fetch::pods(&self.client, proxy)
            .await
            .map_err(WriteError::Pods)?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {ENDED_ANNOTATION: hash}}}));
        for pod in pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        {
            let told = api
                .patch_metadata(&pod.name_any(), &PatchParams::default(), &patch)
                .await;
            if let Err(error) = told {
                tracing::warn!(%error, object.name = pod.name_any(), object.namespace = namespace, "failed to tell a pod that sessions ended; its kubelet looks within a minute");
            }
        }
        Ok(())
    }
}

/// The list of `secret` with what `message` adds; none if it says so already. A list that cannot be read
/// becomes one that ends everything: nothing may come back to life.
fn updated(secret: &Secret, message: &EndSessions, now: UnixSeconds) -> Option<EndedList> {
    let present = secret.data.as_ref().and_then(|data| data.get(FILE_NAME));
    let before = present.map(|json| EndedList::parse(&json.0));
    let mut list = match &before {
        None => EndedList::default(),
        Some(Ok(list)) => list.clone(),
        Some(Err(error)) => {
            tracing::error!(%error, "failed to read which sessions ended before; all that began until now end");
            EndedList::of_everything(now)
        }
    };
    for (ended, until) in &message.ended {
        list.add(*ended, *until, now);
    }
    list.prune(now);
    match before {
        Some(Ok(before)) if before == list => None,
        None if list.is_empty() => None,
        Some(_) | None => Some(list),
    }
}

/// The annotation by which a pod is told that sessions ended.
pub const ENDED_ANNOTATION: &str = "globus-auth.dev/ended";
const FIELD_MANAGER: &str = "globus-auth-ended";
/// Sign-outs within this time are written at once.
const COLLECT: Duration = Duration::from_millis(250);
const ATTEMPTS: u32 = 5;
const AT_ONCE: usize = 16;

/// Why sessions were not ended.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("the list was not written")]
    NotWritten,
    #[error("failed to tell who says so")]
    Reporter(#[source] NotAReporter),
    #[error("too many sessions in one message")]
    TooMany,
    #[error("no GlobusAuthProxy protects the pod of the token")]
    Unprotected,
}

/// Why the list was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("failed to write the list as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("the Secret is not of this GlobusAuthProxy")]
    Foreign,
    #[error("failed to list the pods")]
    Pods(#[source] fetch::FetchError),
    #[error("failed to read the Secret")]
    Read(#[source] kube::Error),
    #[error("failed to write the Secret")]
    Write(#[source] kube::Error),
}

#[cfg(test)]
mod tests;

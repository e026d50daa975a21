//! What the pods of a vault say about themselves.

use std::net::{IpAddr, SocketAddr};

use axum::http::Request;
use futures_util::future;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::vault_status::{PATH, VaultStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::build::{ADMIN_PORT, VAULT_LABEL};

/// The pods of a vault, and what those said that answered.
#[derive(Debug, Default)]
pub struct Observed {
    /// The names of the pods.
    pub pods: Vec<String>,
    /// One for each pod that answered.
    pub replicas: Vec<VaultStatus>,
}

/// Asks every pod of the vault.
///
/// # Errors
/// The API server does not list pods. A pod that does not answer is no error.
pub async fn observe(
    client: &Client,
    http: &HttpClient,
    namespace: &str,
    vault: &str,
) -> Result<Observed, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labels = ListParams::default().labels(&format!("{VAULT_LABEL}={vault}"));
    let mut pods = api.list(&labels).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let replicas = future::join_all(pods.iter().map(|pod| ask(http, pod))).await;
    Ok(Observed {
        pods: pods.iter().map(ResourceExt::name_any).collect(),
        replicas: replicas.into_iter().flatten().collect(),
    })
}

async fn ask(http: &HttpClient, pod: &Pod) -> Option<VaultStatus> {
    let address = pod.status.as_ref()?.pod_ip.as_ref()?;
    let address: IpAddr = address.parse().ok()?;
    let address = SocketAddr::new(address, ADMIN_PORT);
    let request = Request::get(format!("http://{address}{PATH}")).body(Vec::new());
    match http.send(request.ok()?).await {
        Ok(response) => serde_json::from_slice(response.body()).ok(),
        Err(error) => {
            tracing::debug!(object.name = pod.name_any(), error = %Chain(&error), "a vault does not say how it is");
            None
        }
    }
}

/// Makes the kubelets fetch the key ring at once. They would within a minute anyway.
pub async fn nudge(client: &Client, namespace: &str, pods: &[String], value: &str) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {KEYRING_ANNOTATION: value}}}));
    for pod in pods {
        let told = api
            .patch_metadata(pod, &PatchParams::default(), &patch)
            .await;
        if let Err(error) = told {
            tracing::warn!(%error, object.name = pod, object.namespace = namespace, "failed to tell a vault of its keys; its kubelet looks within a minute");
        }
    }
}

const KEYRING_ANNOTATION: &str = "globus-auth.dev/keyring";

//! Reads what a proxy refers to, each object by its name.

use globus_auth_crds::GlobusAuthProxy;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::names;
use super::validate::{ClusterIssuer, Fetched};

/// Reads the Secrets and the ConfigMap of `proxy`.
///
/// # Errors
/// [`FetchError`] if the API server does not answer; an object that is missing is no error.
pub async fn references(client: &Client, proxy: &GlobusAuthProxy) -> Result<Fetched, FetchError> {
    let namespace = proxy.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let client_secret = &proxy.spec.provider.client_secret_ref.name;
    let rendered = names::secret(&proxy.name_any());
    let (client_secret, rendered) =
        tokio::try_join!(secrets.get_opt(client_secret), secrets.get_opt(&rendered))
            .map_err(FetchError::Secret)?;
    let allowlist = match &proxy.spec.access.emails_from {
        Some(from) => config_maps
            .get_opt(&from.config_map_key_ref.name)
            .await
            .map_err(FetchError::ConfigMap)?,
        None => None,
    };
    let cluster = if proxy.spec.access.service_accounts.is_empty() {
        None
    } else {
        Some(cluster_issuer(client).await?)
    };
    let shared_secret = proxy.spec.identity_headers.as_ref();
    let shared_secret = match shared_secret.and_then(|headers| headers.shared_secret.as_ref()) {
        Some(shared) => secrets
            .get_opt(&shared.secret_key_ref.name)
            .await
            .map_err(FetchError::Secret)?,
        None => None,
    };
    Ok(Fetched {
        client_secret,
        allowlist,
        shared_secret,
        rendered,
        cluster,
    })
}

/// Asks the API server who signs the tokens of ServiceAccounts (OpenID Connect Discovery, as Kubernetes
/// serves it).
async fn cluster_issuer(client: &Client) -> Result<ClusterIssuer, FetchError> {
    let get = async |path: &str| -> Result<serde_json::Value, FetchError> {
        let request = axum::http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| FetchError::ClusterIssuer(kube::Error::HttpError(error)))?;
        let text = client.request_text(request).await;
        serde_json::from_str(&text.map_err(FetchError::ClusterIssuer)?)
            .map_err(|error| FetchError::ClusterIssuer(kube::Error::SerdeError(error)))
    };
    let document = get("/.well-known/openid-configuration").await?;
    let keys = get("/openid/v1/jwks").await?;
    let issuer = document.get("issuer").and_then(serde_json::Value::as_str);
    let issuer = issuer.unwrap_or_default().to_owned();
    Ok(ClusterIssuer { issuer, keys })
}

/// Reads the pods that `proxy` selects.
///
/// # Errors
/// [`FetchError`].
pub async fn pods(client: &Client, proxy: &GlobusAuthProxy) -> Result<Vec<Pod>, FetchError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &proxy.namespace().unwrap_or_default());
    let labels: Vec<String> = proxy
        .spec
        .selector
        .match_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let selected = ListParams::default().labels(&labels.join(","));
    Ok(api.list(&selected).await.map_err(FetchError::Pods)?.items)
}

/// Why the API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// About the issuer of ServiceAccount tokens.
    #[error("failed to read the cluster's keys for ServiceAccount tokens")]
    ClusterIssuer(#[source] kube::Error),
    /// About a ConfigMap.
    #[error("failed to read the ConfigMap of spec.access.emailsFrom")]
    ConfigMap(#[source] kube::Error),
    /// About pods.
    #[error("failed to list the pods of spec.selector")]
    Pods(#[source] kube::Error),
    /// About a Secret.
    #[error("failed to read a Secret")]
    Secret(#[source] kube::Error),
}

//! Reads what a proxy refers to, each object by its name.

use globus_auth_crds::proxy::Mode;
use globus_auth_crds::{GlobusAuthProxy, TokenVault};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};

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
    let shared_secret = shared_secret.and_then(|headers| headers.shared_secret.as_ref());
    let shared_secret = shared_secret.map(|shared| &shared.secret_key_ref.name);
    let tls = proxy.spec.proxy.tls_secret_ref.as_ref();
    let named = async |name: Option<&String>| match name {
        Some(name) => secrets.get_opt(name).await.map_err(FetchError::Secret),
        None => Ok(None),
    };
    let shared_secret = named(shared_secret).await?;
    let tls = named(tls.map(|tls| &tls.name)).await?;
    Ok(Fetched {
        client_secret,
        allowlist,
        shared_secret,
        vault: vault(client, proxy).await?,
        tls,
        rendered,
        cluster,
        foreign: foreign(client, proxy).await?,
    })
}

async fn vault(client: &Client, proxy: &GlobusAuthProxy) -> Result<Option<TokenVault>, FetchError> {
    let Some(reference) = &proxy.spec.vault_ref else {
        return Ok(None);
    };
    let namespace = super::vault::namespace(proxy, reference);
    let api: Api<TokenVault> = Api::namespaced(client.clone(), &namespace);
    api.get_opt(&reference.name)
        .await
        .map_err(FetchError::Vault)
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

/// What a proxy with a Deployment of its own needs the names of, and somebody else has made.
async fn foreign(client: &Client, proxy: &GlobusAuthProxy) -> Result<Vec<String>, FetchError> {
    if proxy.spec.mode != Mode::Standalone {
        return Ok(vec![]);
    }
    let name = names::standalone(&proxy.name_any());
    let nginx = names::nginx(&proxy.name_any());
    let found = tokio::try_join!(
        foreign_one::<ServiceAccount>(client, proxy, &name),
        foreign_one::<Service>(client, proxy, &name),
        foreign_one::<PodDisruptionBudget>(client, proxy, &name),
        foreign_one::<ConfigMap>(client, proxy, &nginx),
        foreign_one::<Deployment>(client, proxy, &name),
    )
    .map_err(FetchError::Standalone)?;
    let found = [found.0, found.1, found.2, found.3, found.4];
    Ok(found.into_iter().flatten().collect())
}

async fn foreign_one<K>(
    client: &Client,
    proxy: &GlobusAuthProxy,
    name: &str,
) -> Result<Option<String>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &proxy.namespace().unwrap_or_default());
    let Some(present) = api.get_metadata_opt(name).await? else {
        return Ok(None);
    };
    let uid = proxy.uid().unwrap_or_default();
    let is_ours = present.owner_references().iter().any(|one| one.uid == uid);
    Ok((!is_ours).then(|| format!("{} {name:?}", K::kind(&()))))
}

/// Reads the pods that `proxy` selects.
///
/// # Errors
/// [`FetchError`].
pub async fn pods(client: &Client, proxy: &GlobusAuthProxy) -> Result<Vec<Pod>, FetchError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &proxy.namespace().unwrap_or_default());
    let labels: Vec<String> = proxy
        .spec
        .pod_labels(&proxy.name_any())
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
    /// About what a proxy with a Deployment of its own needs.
    #[error("failed to read what the proxy's own Deployment consists of")]
    Standalone(#[source] kube::Error),
    /// About a Secret.
    #[error("failed to read a Secret")]
    Secret(#[source] kube::Error),
    /// About the vault.
    #[error("failed to read the TokenVault of spec.vaultRef")]
    Vault(#[source] kube::Error),
}

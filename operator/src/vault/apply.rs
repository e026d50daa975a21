//! Brings the objects of a vault into the cluster, and its status.

use globus_auth_crds::vault::TokenVaultStatus;
use globus_auth_crds::{GROUP, TokenVault};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::build::{self, Resources, Workload};
use super::names;
use super::status::Availability;
use crate::proxy::apply::STATUS_FIELD_MANAGER;

/// Applies everything, and says whether the vault serves.
///
/// # Errors
/// The API server does not take an object; what was applied before stays.
pub async fn apply(
    client: &Client,
    namespace: &str,
    resources: &Resources,
) -> Result<Availability, kube::Error> {
    let Resources {
        service_account,
        reviewer,
        config,
        network_policy,
        service,
        disruption_budget,
        workload,
    } = resources;
    one(client, namespace, service_account).await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    bindings
        .patch(&reviewer.name_any(), &parameters, &Patch::Apply(reviewer))
        .await?;
    one(client, namespace, config).await?;
    one(client, namespace, network_policy).await?;
    one(client, namespace, service).await?;
    one(client, namespace, disruption_budget).await?;
    Ok(match workload {
        Workload::StatefulSet(set) => {
            Availability::of_stateful_set(&one(client, namespace, &**set).await?)
        }
        Workload::Deployment(deployment) => {
            Availability::of_deployment(&one(client, namespace, &**deployment).await?)
        }
    })
}

async fn one<K>(client: &Client, namespace: &str, object: &K) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
}

/// Creates a Secret that is never changed. If somebody else was first, theirs stays.
///
/// # Errors
/// The API server does not take it.
pub async fn create(client: &Client, namespace: &str, secret: &Secret) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.create(&PostParams::default(), secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what no owner reference can reach: the one object that belongs to no namespace.
///
/// # Errors
/// The API server does not remove it.
pub async fn remove_reviewer(
    client: &Client,
    namespace: &str,
    vault: &str,
) -> Result<(), kube::Error> {
    let api: Api<ClusterRoleBinding> = Api::all(client.clone());
    let name = names::reviewer(namespace, vault);
    match api.delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets the encryption keys go with the vault, or stay. With them goes what was stored under them.
///
/// # Errors
/// The API server does not take it.
pub async fn let_keyring(
    client: &Client,
    vault: &TokenVault,
    goes: bool,
) -> Result<(), kube::Error> {
    let namespace = vault.namespace().unwrap_or_default();
    let name = names::keyring(&vault.name_any());
    let metadata = build::owned(vault, name.clone());
    let owners = metadata.owner_references.filter(|_| goes);
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    match api
        .patch_metadata(&name, &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Holds the resource until what no owner reference can reach is done, or lets it go.
///
/// # Errors
/// The API server does not take it.
pub async fn set_finalizer(
    client: &Client,
    vault: &TokenVault,
    is_held: bool,
) -> Result<(), kube::Error> {
    let others = vault.finalizers().iter().filter(|one| *one != FINALIZER);
    let mut finalizers: Vec<&str> = others.map(String::as_str).collect();
    if is_held {
        finalizers.push(FINALIZER);
    }
    // Somebody who changed it meanwhile is not overwritten.
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": vault.metadata.resource_version,
    }});
    let api: Api<TokenVault> =
        Api::namespaced(client.clone(), &vault.namespace().unwrap_or_default());
    let parameters = PatchParams::default();
    match api
        .patch(&vault.name_any(), &parameters, &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the resource is held.
pub fn is_held(vault: &TokenVault) -> bool {
    vault.finalizers().iter().any(|one| one == FINALIZER)
}

/// Writes `status`, unless it says what is there.
///
/// # Errors
/// The API server does not take it.
pub async fn status(
    client: &Client,
    vault: &TokenVault,
    status: &TokenVaultStatus,
) -> Result<(), kube::Error> {
    if vault.status.as_ref() == Some(status) {
        return Ok(());
    }
    let api: Api<TokenVault> =
        Api::namespaced(client.clone(), &vault.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "TokenVault", "status": status,
    });
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match api
        .patch_status(&vault.name_any(), &parameters, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(()),
        // Deleted meanwhile: there is nothing left to say.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

const FIELD_MANAGER: &str = "globus-auth";
const FINALIZER: &str = "globus-auth.dev/tokenvault";

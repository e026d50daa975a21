//! Brings the objects of a proxy into the cluster, and its status.

use std::collections::BTreeMap;

use globus_auth_core::sidecar_config;
use globus_auth_crds::proxy::GlobusAuthProxyStatus;
use globus_auth_crds::{GROUP, GlobusAuthProxy};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::build::{Applied, Prepared, Resources};
use super::names;
use super::pods::{CONFIG_ANNOTATION, PodFacts};
use super::standalone::Objects;

/// Applies everything, in the order in which it must be there.
///
/// # Errors
/// [`ApplyError`]; what was applied before stays.
pub async fn apply(
    client: &Client,
    proxy: &GlobusAuthProxy,
    present: Option<&Secret>,
    resources: Resources<Prepared>,
) -> Result<Resources<Applied>, ApplyError> {
    let namespace = proxy.namespace().unwrap_or_default();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    // 1. The NetworkPolicy: no pod is open for longer than it must be.
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let policy_name = names::network_policy(&proxy.name_any());
    match &resources.network_policy {
        Some(policy) => {
            policies
                .patch(&policy_name, &parameters, &Patch::Apply(policy))
                .await
                .map_err(ApplyError::NetworkPolicy)?;
        }
        None => remove_policy(&policies, &policy_name, proxy).await?,
    }
    // 2. The configuration, for which pods that are starting wait. Written only if it differs, because
    // each write makes every kubelet look.
    if present.is_none_or(|present| !is_same(present, &resources.secret)) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        secrets
            .patch(
                &resources.secret.name_any(),
                &parameters,
                &Patch::Apply(&resources.secret),
            )
            .await
            .map_err(ApplyError::Secret)?;
    }
    Ok(resources.applied())
}

/// Applies what runs a proxy of mode Standalone, once its configuration is there, and returns the
/// Deployment with its status.
///
/// # Errors
/// [`ApplyError::Standalone`]; what was applied before stays.
pub async fn standalone(
    client: &Client,
    namespace: &str,
    objects: &Objects,
) -> Result<Deployment, ApplyError> {
    let Objects {
        service_account,
        service,
        disruption_budget,
        nginx,
        deployment,
    } = objects;
    one(client, namespace, service_account).await?;
    one(client, namespace, service).await?;
    one(client, namespace, disruption_budget).await?;
    one(client, namespace, nginx).await?;
    one(client, namespace, deployment).await
}

async fn one<K>(client: &Client, namespace: &str, object: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
        .map_err(ApplyError::Standalone)
}

fn is_same(present: &Secret, wanted: &Secret) -> bool {
    let owners = |secret: &Secret| -> Vec<String> {
        secret
            .owner_references()
            .iter()
            .map(|owner| owner.uid.clone())
            .collect()
    };
    // Beside the configuration lies the list of ended sessions, which is written elsewhere.
    let data = |secret: &Secret| {
        let data = secret.data.as_ref()?;
        data.get(sidecar_config::FILE_NAME).cloned()
    };
    data(present) == data(wanted)
        && owners(present) == owners(wanted)
        && has_all(present.labels(), wanted.labels())
        && has_all(present.annotations(), wanted.annotations())
}

fn has_all(present: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| present.get(key) == Some(value))
}

/// Removes the policy that we wrote when one was wanted; one of somebody else stays.
async fn remove_policy(
    policies: &Api<NetworkPolicy>,
    name: &str,
    proxy: &GlobusAuthProxy,
) -> Result<(), ApplyError> {
    let present = policies
        .get_opt(name)
        .await
        .map_err(ApplyError::NetworkPolicy)?;
    let uid = proxy.uid().unwrap_or_default();
    let ours = present.filter(|policy| policy.owner_references().iter().any(|o| o.uid == uid));
    let Some(ours) = ours else { return Ok(()) };
    let exactly_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: ours.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match policies.delete(name, &exactly_this).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError::NetworkPolicy(error)),
    }
}

/// Tells the pods of a new configuration, so that their kubelets fetch it at once.
///
/// # Errors
/// [`ApplyError::Pod`]; a pod that is gone is no error.
pub async fn tell_pods(
    client: &Client,
    namespace: &str,
    pods: &[PodFacts],
    config: &Resources<Applied>,
) -> Result<(), ApplyError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let hash = config.config_hash.as_str();
    let untold = pods
        .iter()
        .filter(|pod| pod.sidecar_image.is_some() && pod.told_config.as_deref() != Some(hash));
    for pod in untold {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {CONFIG_ANNOTATION: hash}}}));
        match api
            .patch_metadata(&pod.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(ApplyError::Pod(error)),
        }
    }
    Ok(())
}

/// Writes `status`, unless it says what is there.
///
/// # Errors
/// [`ApplyError::Status`].
pub async fn status(
    client: &Client,
    proxy: &GlobusAuthProxy,
    status: &GlobusAuthProxyStatus,
) -> Result<(), ApplyError> {
    if proxy.status.as_ref() == Some(status) {
        return Ok(());
    }
    let api: Api<GlobusAuthProxy> =
        Api::namespaced(client.clone(), &proxy.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "GlobusAuthProxy",
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match api
        .patch_status(&proxy.name_any(), &parameters, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(()),
        // Deleted meanwhile: there is nothing left to say.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError::Status(error)),
    }
}

const FIELD_MANAGER: &str = "globus-auth";
/// Also of the webhook, which writes one condition.
pub const STATUS_FIELD_MANAGER: &str = "globus-auth-status";

/// Why something could not be brought into the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The NetworkPolicy.
    #[error("failed to apply the NetworkPolicy")]
    NetworkPolicy(#[source] kube::Error),
    /// A pod's annotation.
    #[error("failed to tell a pod of its configuration")]
    Pod(#[source] kube::Error),
    /// The sidecar's configuration.
    #[error("failed to apply the sidecar's Secret")]
    Secret(#[source] kube::Error),
    /// What runs a proxy of mode Standalone.
    #[error("failed to apply the proxy's own Deployment and what belongs to it")]
    Standalone(#[source] kube::Error),
    /// The status.
    #[error("failed to write the status")]
    Status(#[source] kube::Error),
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use rstest::rstest;

    use super::*;
    use crate::proxy::fixtures::secret;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    fn rendered() -> Secret {
        let mut secret = secret(&[("config.json", b"{}")]);
        secret.metadata.labels = Some(BTreeMap::from([("made-by".to_owned(), "us".to_owned())]));
        secret.metadata.annotations = Some(BTreeMap::from([("keys".to_owned(), "1".to_owned())]));
        secret.metadata.owner_references = Some(vec![owner("u-1")]);
        secret
    }

    #[rstest]
    #[case::as_it_was_written(|_: &mut Secret| {}, true)]
    #[case::what_the_api_server_adds(
        |secret: &mut Secret| secret.metadata.resource_version = Some("7".to_owned()), true)]
    #[case::a_label_of_somebody_else(
        |secret: &mut Secret| drop(secret.labels_mut().insert("team".to_owned(), "ml".to_owned())), true)]
    #[case::a_label_that_was_changed(
        |secret: &mut Secret| drop(secret.labels_mut().insert("made-by".to_owned(), "me".to_owned())), false)]
    #[case::a_label_that_was_removed(|secret: &mut Secret| secret.metadata.labels = None, false)]
    #[case::an_annotation_of_somebody_else(
        |secret: &mut Secret| drop(secret.annotations_mut().insert("team".to_owned(), "ml".to_owned())), true)]
    #[case::an_annotation_that_was_removed(|secret: &mut Secret| secret.metadata.annotations = None, false)]
    #[case::another_configuration(
        |secret: &mut Secret| secret.data = Some(BTreeMap::from([("config.json".to_owned(), ByteString(b"[]".to_vec()))])),
        false)]
    #[case::no_configuration(|secret: &mut Secret| secret.data = None, false)]
    #[case::no_owner(|secret: &mut Secret| secret.metadata.owner_references = None, false)]
    #[case::another_owner(|secret: &mut Secret| secret.metadata.owner_references = Some(vec![owner("u-2")]), false)]
    fn a_secret_is_written_only_if_ours_differs(
        #[case] change: fn(&mut Secret),
        #[case] same: bool,
    ) {
        let mut present = rendered();
        change(&mut present);
        assert_eq!(is_same(&present, &rendered()), same);
    }
}

//! From a validated proxy to the objects that carry it out. Pure.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use globus_auth_core::sidecar_config::{self as config, Operator, SessionKey, SidecarConfig};
use globus_auth_crds::GlobusAuthProxy;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

use super::names;
use super::validate::Validated;

/// The objects of one proxy.
#[derive(Clone, Debug)]
pub struct Resources<State> {
    /// The sidecar's configuration.
    pub secret: Secret,
    /// Names the configuration.
    pub config_hash: String,
    /// What admits the sidecar's port only, if it is wanted.
    pub network_policy: Option<NetworkPolicy>,
    state: PhantomData<State>,
}

/// Built, but not in the cluster yet.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// In the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

impl Resources<Prepared> {
    /// Called by [`super::apply`] when everything is in the cluster.
    pub(super) fn applied(self) -> Resources<Applied> {
        let Self {
            secret,
            config_hash,
            network_policy,
            state: _,
        } = self;
        Resources {
            secret,
            config_hash,
            network_policy,
            state: PhantomData,
        }
    }
}

/// Builds the objects of `validated`.
///
/// # Errors
/// The configuration cannot be written as JSON; a bug.
pub fn build(
    proxy: &GlobusAuthProxy,
    validated: Validated,
    session_keys: Vec<SessionKey>,
    operator: Operator,
) -> Result<Resources<Prepared>, serde_json::Error> {
    let network_policy = validated
        .network_policy
        .then(|| network_policy(proxy, &validated));
    let config = SidecarConfig {
        version: config::VERSION,
        proxy: validated.proxy,
        external_url: validated.external_url,
        provider: validated.provider,
        access: validated.access,
        session: validated.session,
        bearer: validated.bearer,
        upstream: validated.upstream,
        identity_headers: validated.identity_headers,
        tls: validated.tls,
        tracing: validated.tracing,
        vault: validated.vault,
        session_keys,
        operator,
        log_level: validated.log_level,
    };
    let json = serde_json::to_vec_pretty(&config)?;
    let config_hash = config::hash(&json);
    let name = names::secret(&config.proxy.name);
    Ok(Resources {
        secret: Secret {
            metadata: metadata(proxy, name),
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(
                config::FILE_NAME.to_owned(),
                ByteString(json),
            )])),
            ..Secret::default()
        },
        config_hash,
        network_policy,
        state: PhantomData,
    })
}

/// Admits the sidecar's port and nothing else, from anywhere. It selects every pod that the proxy
/// selects, also one without sidecar: such a pod is reached by nobody if the workload's port goes by its
/// name. One that goes by its number stays open there; the condition `Injected` says so.
fn network_policy(proxy: &GlobusAuthProxy, validated: &Validated) -> NetworkPolicy {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(validated.admitted_port.into())),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicy {
        metadata: metadata(proxy, names::network_policy(&validated.proxy.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(validated.pod_labels.clone()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![port]),
                ..NetworkPolicyIngressRule::default()
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}

pub(super) fn metadata(proxy: &GlobusAuthProxy, name: String) -> ObjectMeta {
    let owner = proxy.controller_owner_ref(&()).map(|owner| OwnerReference {
        block_owner_deletion: None,
        ..owner
    });
    ObjectMeta {
        name: Some(name),
        namespace: proxy.metadata.namespace.clone(),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            (
                PROXY_LABEL.to_owned(),
                proxy.metadata.name.clone().unwrap_or_default(),
            ),
        ])),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The label on everything that the operator makes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "globus-auth";
const PROXY_LABEL: &str = "globus-auth.dev/proxy";

#[cfg(test)]
mod tests;

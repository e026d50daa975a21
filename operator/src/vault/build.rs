//! From a validated vault to the objects that carry it out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use globus_auth_core::sidecar_config::hash;
use globus_auth_core::vault_config::{FILE_NAME, VaultConfig};
use globus_auth_crds::TokenVault;
use globus_auth_crds::vault::{DeletionPolicy, StorageType};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::names;
use crate::proxy::build::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::settings::SidecarSettings;
use crate::webhook::inject;

/// The objects of a vault, in the order in which they must be there.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Who the vault is.
    pub service_account: ServiceAccount,
    /// What it may do: have tokens reviewed.
    pub reviewer: ClusterRoleBinding,
    /// What it is told.
    pub config: Secret,
    /// Admits the namespaces of its consumers; on the admin port, which has counts only, whoever collects metrics.
    pub network_policy: NetworkPolicy,
    /// Where sidecars find it.
    pub service: Service,
    /// Keeps all but one pod while nodes are drained.
    pub disruption_budget: PodDisruptionBudget,
    /// Runs it.
    pub workload: Workload,
}

/// What runs the vault.
#[derive(Clone, Debug)]
pub enum Workload {
    /// One pod with a volume.
    StatefulSet(Box<StatefulSet>),
    /// Pods that share a database.
    Deployment(Box<Deployment>),
}

/// Nobody is admitted where there are no consumers: a rule without `from` would admit all.
fn ingress(config: &VaultConfig) -> Value {
    let admin = json!({"ports": [{"port": ADMIN_PORT, "protocol": "TCP"}]});
    let namespaces: BTreeSet<&str> = config
        .consumers
        .iter()
        .map(|consumer| consumer.namespace.as_str())
        .collect();
    if namespaces.is_empty() {
        return json!([admin]);
    }
    let named =
        json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces});
    let from = json!([{"namespaceSelector": {"matchExpressions": [named]}}]);
    json!([{"from": from, "ports": [{"port": PORT, "protocol": "TCP"}]}, admin])
}

/// Builds the objects of `vault`.
///
/// # Errors
/// An object is not what its type says; a bug.
pub fn build(
    vault: &TokenVault,
    config: &VaultConfig,
    settings: &SidecarSettings,
) -> Result<Resources, serde_json::Error> {
    let name = vault.name_any();
    let namespace = vault.namespace().unwrap_or_default();
    let child = names::workload(&name);
    let labels = json!({VAULT_LABEL: name});
    let metadata = |name: String| owned(vault, name);
    let json = serde_json::to_vec_pretty(config)?;
    let reviewer = json!({
        "metadata": {"name": names::reviewer(&namespace, &name), "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": REVIEWER_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": child, "namespace": namespace}],
    });
    Ok(Resources {
        service_account: ServiceAccount {
            metadata: metadata(child.clone()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        reviewer: serde_json::from_value(reviewer)?,
        network_policy: NetworkPolicy {
            metadata: metadata(child.clone()),
            spec: serde_json::from_value(json!({
                "podSelector": {"matchLabels": labels},
                "policyTypes": ["Ingress"],
                "ingress": ingress(config),
            }))?,
        },
        service: Service {
            metadata: metadata(child.clone()),
            spec: serde_json::from_value(json!({
                "selector": labels,
                "ports": [{"name": "https", "port": 443, "targetPort": PORT, "protocol": "TCP"}],
            }))?,
            ..Service::default()
        },
        disruption_budget: PodDisruptionBudget {
            metadata: metadata(child),
            spec: serde_json::from_value(
                json!({"maxUnavailable": 1, "selector": {"matchLabels": labels}}),
            )?,
            ..PodDisruptionBudget::default()
        },
        workload: workload(vault, settings, &hash(&json))?,
        config: Secret {
            metadata: metadata(names::config(&name)),
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(FILE_NAME.to_owned(), ByteString(json))])),
            ..Secret::default()
        },
    })
}

fn workload(
    vault: &TokenVault,
    settings: &SidecarSettings,
    config_hash: &str,
) -> Result<Workload, serde_json::Error> {
    let name = vault.name_any();
    let child = names::workload(&name);
    let labels = json!({VAULT_LABEL: name});
    let template = pod_template(vault, settings, config_hash);
    let metadata = owned(vault, child.clone());
    if vault.spec.storage.kind == StorageType::PostgreSQL {
        let spec = json!({
            "replicas": vault.spec.replicas,
            "selector": {"matchLabels": labels},
            "template": template,
        });
        return Ok(Workload::Deployment(Box::new(Deployment {
            metadata,
            spec: serde_json::from_value(spec)?,
            ..Deployment::default()
        })));
    }
    let sqlite = vault.spec.storage.sqlite.as_ref();
    let size = sqlite.map_or("1Gi", |sqlite| &sqlite.size);
    let when_deleted = match vault.spec.deletion_policy {
        DeletionPolicy::Delete | DeletionPolicy::Revoke => "Delete",
        DeletionPolicy::Retain => "Retain",
    };
    let spec = json!({
        "replicas": 1,
        "serviceName": child,
        "selector": {"matchLabels": labels},
        "template": template,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": "Retain"},
        "volumeClaimTemplates": [{
            "metadata": {"name": DATA_VOLUME},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": sqlite.and_then(|sqlite| sqlite.storage_class_name.as_ref()),
                "resources": {"requests": {"storage": size}},
            },
        }],
    });
    Ok(Workload::StatefulSet(Box::new(StatefulSet {
        metadata,
        spec: serde_json::from_value(spec)?,
        ..StatefulSet::default()
    })))
}

fn pod_template(vault: &TokenVault, settings: &SidecarSettings, config_hash: &str) -> Value {
    let name = vault.name_any();
    let mut pod_security =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    if let (Some(user), Some(members)) = (settings.run_as_user, pod_security.as_object_mut()) {
        members.insert("fsGroup".to_owned(), user.into());
    }
    let Folders {
        arguments,
        mounts,
        volumes,
    } = folders(vault);
    json!({
        "metadata": {
            "labels": {VAULT_LABEL: name},
            // The program reads its configuration when it starts.
            "annotations": {"globus-auth.dev/config": config_hash},
        },
        "spec": {
            "serviceAccountName": names::workload(&name),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security,
            "containers": [{
                "name": CONTAINER,
                "image": settings.vault_image,
                "imagePullPolicy": settings.image_pull_policy,
                "args": arguments,
                "ports": [{"name": "https", "containerPort": PORT}, {"name": "admin", "containerPort": ADMIN_PORT}],
                "resources": {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
                "securityContext": inject::security_context(settings),
                "startupProbe": inject::probe("/livez", ADMIN_PORT, 1, 60),
                "readinessProbe": inject::probe("/readyz", ADMIN_PORT, 2, 2),
                "livenessProbe": inject::probe("/livez", ADMIN_PORT, 10, 3),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}

/// What is mounted, and how the program is told.
struct Folders {
    arguments: Vec<String>,
    mounts: Vec<Value>,
    volumes: Vec<Value>,
}

fn folders(vault: &TokenVault) -> Folders {
    let name = vault.name_any();
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let secret = |volume: &str, name: String| json!({"name": volume, "secret": {"secretName": name, "defaultMode": 0o440}});
    let mut folders = Folders {
        arguments: vec![
            format!("--config={CONFIG_FOLDER}"),
            format!("--keys={KEYS_FOLDER}/{}", super::secrets::KEYRING),
            format!("--certificate={CERTIFICATE_FOLDER}"),
            format!("--listen-port={PORT}"),
            format!("--admin-port={ADMIN_PORT}"),
        ],
        mounts: vec![
            mount("config", CONFIG_FOLDER),
            mount("keys", KEYS_FOLDER),
            mount("certificate", CERTIFICATE_FOLDER),
            mount("identity", IDENTITY_FOLDER),
        ],
        volumes: vec![
            secret("config", names::config(&name)),
            secret("keys", names::keyring(&name)),
            secret("certificate", names::certificate(&name)),
            json!({"name": "identity", "projected": {"defaultMode": 0o440, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3600, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}}),
        ],
    };
    let Folders {
        arguments,
        mounts,
        volumes,
    } = &mut folders;
    if let Some(postgresql) = &vault.spec.storage.postgresql {
        let reference = &postgresql.url_secret_ref;
        arguments.push(format!(
            "--database-file={DATABASE_FOLDER}/{}",
            reference.key
        ));
        mounts.push(mount("database", DATABASE_FOLDER));
        volumes.push(secret("database", reference.name.clone()));
        // Only for tokens that come while the database takes no writes.
        volumes.push(json!({"name": DATA_VOLUME, "emptyDir": {"sizeLimit": "128Mi"}}));
    } else {
        arguments.push(format!("--database=sqlite:{DATA_FOLDER}/vault.db"));
    }
    mounts.push(json!({"name": DATA_VOLUME, "mountPath": DATA_FOLDER}));
    folders
}

/// Metadata of an object that goes with the vault.
pub fn owned(vault: &TokenVault, name: String) -> ObjectMeta {
    let owner = vault.controller_owner_ref(&()).map(|owner| OwnerReference {
        block_owner_deletion: None,
        ..owner
    });
    ObjectMeta {
        owner_references: owner.map(|owner| vec![owner]),
        ..kept(vault, name)
    }
}

/// Metadata of an object that stays when the vault goes.
pub fn kept(vault: &TokenVault, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: vault.namespace(),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            (VAULT_LABEL.to_owned(), vault.name_any()),
        ])),
        ..ObjectMeta::default()
    }
}

/// On the objects and the pods of a vault: its name.
pub const VAULT_LABEL: &str = "globus-auth.dev/tokenvault";
/// Of the chart.
const REVIEWER_ROLE: &str = "globus-auth-tokenvault";
const CONTAINER: &str = "globus-auth-vault";
const PORT: u16 = 8443;
/// Where the vault says how it is.
pub const ADMIN_PORT: u16 = 4181;
const DATA_VOLUME: &str = "data";
const DATA_FOLDER: &str = "/var/lib/globus-auth-vault";
const CONFIG_FOLDER: &str = "/etc/globus-auth-vault";
const KEYS_FOLDER: &str = "/etc/globus-auth-vault-keys";
const CERTIFICATE_FOLDER: &str = "/etc/globus-auth-vault-tls";
const DATABASE_FOLDER: &str = "/etc/globus-auth-vault-database";
const IDENTITY_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(consumers: &[&str]) -> Value {
        let consumers = consumers.iter().map(|namespace| {
            json!({"namespace": namespace, "serviceAccount": "app", "resourceServers": ["r"]})
        });
        let config = json!({
            "version": 1, "vault": {"namespace": "auth", "name": "tokens"}, "issuers": [],
            "consumers": consumers.collect::<Vec<_>>(), "logLevel": "info",
            "refresh": {"keepAliveSeconds": 1, "maxConcurrentPerIssuer": 1},
        });
        let config = VaultConfig::parse(config.to_string().as_bytes()).unwrap();
        ingress(&config)
    }

    #[test]
    fn only_namespaces_of_consumers_reach_the_vault() {
        let rules = admitted(&["ml", "jobs", "ml"]);
        let selector = &rules[0]["from"][0]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(selector["values"], json!(["jobs", "ml"]));
        assert_eq!(rules[0]["ports"][0]["port"], PORT);
        assert_eq!(rules[1]["ports"][0]["port"], ADMIN_PORT);
        // A rule without `from` would be for everybody.
        let rules = admitted(&[]);
        assert_eq!(rules.as_array().unwrap().len(), 1);
        assert_eq!(rules[0]["ports"][0]["port"], ADMIN_PORT);
    }
}

//! What runs a proxy of mode `Standalone`: a Deployment with what belongs to it. Pure.

use std::collections::BTreeMap;

use globus_auth_core::url::UpstreamUrl;
use globus_auth_crds::{CONTAINER, GlobusAuthProxy};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::build::{MANAGED_BY, MANAGED_BY_LABEL, metadata};
use super::names;
use crate::settings::SidecarSettings;
use crate::webhook::inject;

/// What only a proxy with a Deployment of its own has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standalone {
    /// The port on which its pods serve users.
    pub listen_port: u16,
    /// The workload; none if an ingress forwards by itself.
    pub upstream: Option<UpstreamUrl>,
}

/// The objects, in the order in which they must be there.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Has no rights, and its token is not mounted.
    pub service_account: ServiceAccount,
    /// Where an ingress finds the proxy.
    pub service: Service,
    /// Keeps all but one pod while nodes are drained.
    pub disruption_budget: PodDisruptionBudget,
    /// What nginx needs to ask the proxy.
    pub nginx: ConfigMap,
    /// Runs the proxy.
    pub deployment: Deployment,
}

/// Builds the objects of `proxy`.
///
/// # Errors
/// An object is not what its type says; a bug.
pub fn build(
    proxy: &GlobusAuthProxy,
    standalone: &Standalone,
    settings: &SidecarSettings,
) -> Result<Objects, serde_json::Error> {
    let name = proxy.name_any();
    let child = names::standalone(&name);
    let labels = proxy.spec.pod_labels(&name);
    let service = json!({
        "selector": labels,
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    });
    // With one pod, `minAvailable` would keep a node from ever being drained.
    let budget = json!({"maxUnavailable": 1, "selector": {"matchLabels": labels}});
    let mut deployment = json!({
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": pod_template(proxy, standalone, settings, &labels),
    });
    // Named only if it is wanted: what the operator does not name, an autoscaler may set.
    let replicas = proxy
        .spec
        .standalone
        .and_then(|standalone| standalone.replicas);
    if let (Some(replicas), Some(spec)) = (replicas, deployment.as_object_mut()) {
        spec.insert("replicas".to_owned(), Value::from(replicas));
    }
    Ok(Objects {
        service_account: ServiceAccount {
            metadata: metadata(proxy, child.clone()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        service: Service {
            metadata: metadata(proxy, child.clone()),
            spec: serde_json::from_value(service)?,
            status: None,
        },
        disruption_budget: PodDisruptionBudget {
            metadata: metadata(proxy, child.clone()),
            spec: serde_json::from_value(budget)?,
            status: None,
        },
        nginx: ConfigMap {
            metadata: metadata(proxy, names::nginx(&name)),
            data: Some(BTreeMap::from([(
                NGINX_KEY.to_owned(),
                nginx(proxy, &child),
            )])),
            ..ConfigMap::default()
        },
        deployment: Deployment {
            metadata: metadata(proxy, child),
            spec: serde_json::from_value(deployment)?,
            status: None,
        },
    })
}

fn pod_template(
    proxy: &GlobusAuthProxy,
    standalone: &Standalone,
    settings: &SidecarSettings,
    labels: &BTreeMap<String, String>,
) -> Value {
    let name = proxy.name_any();
    let mut all_labels = labels.clone();
    all_labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    json!({
        "metadata": {"labels": all_labels},
        "spec": {
            "serviceAccountName": names::standalone(&name),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // Open requests have 20 seconds to finish.
            "terminationGracePeriodSeconds": 30,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }],
            "containers": [container(proxy, standalone, settings)],
            "volumes": inject::volumes(&names::secret(&name)),
        },
    })
}

fn container(
    proxy: &GlobusAuthProxy,
    standalone: &Standalone,
    settings: &SidecarSettings,
) -> Value {
    let port = standalone.listen_port;
    let admin_port = port.saturating_add(1);
    let upstream = match &standalone.upstream {
        Some(url) => format!("--upstream-url={url}"),
        None => "--no-upstream".to_owned(),
    };
    let mut arguments = vec![
        format!("--listen-port={port}"),
        format!("--admin-port={admin_port}"),
        upstream,
    ];
    arguments.extend(inject::common_arguments());
    json!({
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": arguments,
        "ports": [
            {"name": "http", "containerPort": port, "protocol": "TCP"},
            {"name": inject::ADMIN_PORT_NAME, "containerPort": admin_port, "protocol": "TCP"},
        ],
        "resources": inject::resources(proxy.spec.proxy.resources.as_ref()),
        "securityContext": inject::security_context(settings),
        "startupProbe": inject::probe("/livez", admin_port, 1, 60),
        "readinessProbe": inject::probe("/readyz", admin_port, 2, 2),
        "livenessProbe": inject::probe("/livez", admin_port, 10, 3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": inject::volume_mounts(),
    })
}

/// What an nginx includes in a `server` to ask the proxy about each request.
fn nginx(proxy: &GlobusAuthProxy, service: &str) -> String {
    let namespace = proxy.namespace().unwrap_or_default();
    let scheme = match proxy.spec.proxy.tls_secret_ref {
        Some(_) => "https",
        None => "http",
    };
    include_str!("nginx.conf").replace("SERVICE", &format!("{scheme}://{service}.{namespace}.svc"))
}

const NGINX_KEY: &str = "globus-auth.conf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::fixtures::standalone_with;

    fn settings() -> SidecarSettings {
        SidecarSettings {
            vault_image: String::new(),
            image: "sidecar:1".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            run_as_user: Some(65_532),
        }
    }

    fn built(spec: &Value, upstream: Option<&str>) -> Objects {
        let standalone = Standalone {
            listen_port: 4180,
            upstream: upstream.map(|url| url.parse().unwrap()),
        };
        build(&standalone_with(spec), &standalone, &settings()).unwrap()
    }

    fn pod(objects: &Objects) -> Value {
        let deployment = serde_json::to_value(&objects.deployment).unwrap();
        deployment["spec"]["template"].clone()
    }

    #[test]
    fn the_replicas_are_the_autoscalers_unless_somebody_names_them() {
        let spec = |objects: &Objects| serde_json::to_value(&objects.deployment).unwrap();
        assert_eq!(spec(&built(&json!({}), None))["spec"].get("replicas"), None);
        let two = built(&json!({"standalone": {"replicas": 2}}), None);
        assert_eq!(spec(&two)["spec"]["replicas"], 2);
    }

    #[test]
    fn what_is_behind_the_proxy_is_in_its_arguments() {
        let argument = |objects: &Objects| {
            let pod = pod(objects);
            pod["spec"]["containers"][0]["args"][2]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(argument(&built(&json!({}), None)), "--no-upstream");
        let url = "http://mlflow.ml.svc:5000";
        assert_eq!(
            argument(&built(&json!({}), Some(url))),
            format!("--upstream-url={url}")
        );
    }

    #[test]
    fn every_selector_finds_the_pods_and_nothing_else_of_the_namespace() {
        let objects = built(&json!({}), None);
        let labels = json!({"globus-auth.dev/standalone": "mlflow"});
        let pod_labels = pod(&objects)["metadata"]["labels"].clone();
        assert_eq!(pod_labels["globus-auth.dev/standalone"], "mlflow");
        let service = serde_json::to_value(&objects.service).unwrap();
        assert_eq!(service["spec"]["selector"], labels);
        let budget = serde_json::to_value(&objects.disruption_budget).unwrap();
        assert_eq!(budget["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
        let deployment = serde_json::to_value(&objects.deployment).unwrap();
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    }

    #[test]
    fn the_pods_pass_pod_security_restricted_and_have_no_rights() {
        let objects = built(&json!({}), None);
        let spec = pod(&objects)["spec"].clone();
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(
            objects.service_account.automount_service_account_token,
            Some(false)
        );
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            spec["containers"][0]["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": 65_532,
                "runAsGroup": 65_532,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
    }

    #[test]
    fn everything_goes_with_the_proxy() {
        let objects = built(&json!({}), None);
        let owners = [
            objects.service_account.owner_references(),
            objects.service.owner_references(),
            objects.disruption_budget.owner_references(),
            objects.nginx.owner_references(),
            objects.deployment.owner_references(),
        ];
        for owner in owners {
            assert_eq!(owner.first().map(|owner| owner.uid.as_str()), Some("u-1"));
        }
    }

    #[test]
    fn the_snippet_asks_the_service_of_the_proxy() {
        let objects = built(&json!({}), None);
        assert_eq!(objects.nginx.name_any(), "mlflow-globus-auth-nginx");
        let snippet = &objects.nginx.data.unwrap()[NGINX_KEY];
        assert!(
            snippet.contains("proxy_pass http://mlflow-globus-auth.ml.svc;"),
            "{snippet}"
        );
    }
}

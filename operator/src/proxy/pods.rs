//! What one pod says about its protection.

use globus_auth_crds::conditions::{POD_CONFIG_APPLIED, POD_UPSTREAM_PROTECTED};
use globus_auth_crds::proxy::Mode;
use globus_auth_crds::{CONTAINER, GlobusAuthProxy};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::names;
use crate::selection;
use crate::webhook::inject::CONFIG_VOLUME;

/// One pod that a proxy selects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The proxy that must protect it.
    pub protector: Option<String>,
    /// The image of the sidecar that protects it on behalf of that proxy, if there is one.
    pub sidecar_image: Option<String>,
    /// What the sidecar said of the workload's listeners.
    pub upstream: Reported,
    /// What the sidecar said of its configuration.
    pub config: Reported,
    /// Names the configuration that the sidecar said is in force.
    pub config_in_force: Option<String>,
    /// The annotation with the configuration that the pod was told of.
    pub told_config: Option<String>,
}

/// What a sidecar reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reported {
    /// Nothing yet.
    Nothing,
    /// All is well.
    Good,
    /// Something is wrong.
    Bad(String),
}

/// The annotation by which a pod is told of a new configuration. Changing it makes the kubelet bring the
/// mounted Secret up to date at once, instead of within a minute.
pub const CONFIG_ANNOTATION: &str = "globus-auth.dev/config";

impl PodFacts {
    /// Reads `pod`; `proxies` are those of its namespace. None if the pod is on its way out, or done.
    pub fn of<P: AsRef<GlobusAuthProxy>>(pod: &Pod, proxies: &[P]) -> Option<Self> {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some()
            || matches!(phase, Some("Succeeded" | "Failed"))
        {
            return None;
        }
        let protector = selection::protector(proxies, pod.labels(), pod.annotations());
        let sidecar_image = protector.and_then(|proxy| sidecar_image(pod, proxy.as_ref()));
        let protector = protector.map(|proxy| proxy.as_ref().name_any());
        Some(Self {
            name: pod.name_any(),
            created_at: pod.creation_timestamp().map(|time| time.0),
            protector,
            sidecar_image,
            upstream: reported(pod, POD_UPSTREAM_PROTECTED),
            config: reported(pod, POD_CONFIG_APPLIED),
            config_in_force: config_in_force(pod),
            told_config: pod.annotations().get(CONFIG_ANNOTATION).cloned(),
        })
    }
}

/// The image of the sidecar, if it is there with the configuration of `proxy`: as a native sidecar, or as
/// the container of a pod of our own.
fn sidecar_image(pod: &Pod, proxy: &GlobusAuthProxy) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_ours = |container: &&Container| container.name == CONTAINER;
    let is_native = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecar = match proxy.spec.mode {
        Mode::Sidecar => {
            let containers = spec.init_containers.as_ref()?.iter();
            containers.filter(is_ours).find(is_native)?
        }
        Mode::Standalone => spec.containers.iter().find(is_ours)?,
    };
    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == CONFIG_VOLUME)?;
    let secret = volume.secret.as_ref()?.secret_name.as_deref()?;
    (secret == names::secret(&proxy.name_any()))
        .then(|| sidecar.image.clone())
        .flatten()
}

/// The message of the condition `ConfigApplied` while it is True.
pub fn in_force(hash: &str) -> String {
    format!("{IN_FORCE_BEFORE}{hash}{IN_FORCE_AFTER}")
}

const IN_FORCE_BEFORE: &str = "configuration ";
const IN_FORCE_AFTER: &str = " is in force";

/// What [`in_force`] said.
fn config_in_force(pod: &Pod) -> Option<String> {
    let condition = condition(pod, POD_CONFIG_APPLIED).filter(|one| one.status == "True")?;
    let message = condition.message.as_deref()?;
    let hash = message
        .strip_prefix(IN_FORCE_BEFORE)?
        .strip_suffix(IN_FORCE_AFTER)?;
    Some(hash.to_owned())
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn reported(pod: &Pod, type_: &str) -> Reported {
    match condition(pod, type_) {
        None => Reported::Nothing,
        Some(condition) if condition.status == "True" => Reported::Good,
        Some(condition) => Reported::Bad(condition.message.clone().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::{proxy, proxy_with, standalone_with};

    /// A pod as the webhook makes it, with `patch` merged in.
    fn pod(patch: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "mlflow-0",
                "namespace": "ml",
                "creationTimestamp": "2026-03-02T00:00:00Z",
                "labels": {"app": "mlflow"},
                "annotations": {"globus-auth.dev/config": "hash"},
            },
            "spec": {
                "containers": [{"name": "mlflow"}],
                "initContainers": [
                    {"name": "migrate", "image": "mlflow"},
                    {"name": "globus-auth-proxy", "image": "sidecar:1", "restartPolicy": "Always"},
                ],
                "volumes": [
                    {"name": "data", "emptyDir": {}},
                    {"name": "globus-auth-config", "secret": {"secretName": "mlflow-globus-auth"}},
                ],
            },
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "False", "message": "not ours"},
                    {"type": "globus-auth.dev/UpstreamProtected", "status": "True"},
                    {"type": "globus-auth.dev/ConfigApplied", "status": "True", "message": in_force("hash")},
                ],
            },
        });
        json_patch::merge(&mut pod, patch);
        serde_json::from_value(pod).unwrap()
    }

    fn facts(patch: &Value) -> PodFacts {
        PodFacts::of(&pod(patch), &[Arc::new(proxy())]).unwrap()
    }

    fn condition(type_: &str, status: &str, message: Option<&str>) -> Value {
        json!({"status": {"conditions": [{"type": type_, "status": status, "message": message}]}})
    }

    #[test]
    fn a_protected_pod_says_everything() {
        assert_eq!(
            facts(&json!({})),
            PodFacts {
                name: "mlflow-0".to_owned(),
                created_at: Some("2026-03-02T00:00:00Z".parse().unwrap()),
                protector: Some("mlflow".to_owned()),
                sidecar_image: Some("sidecar:1".to_owned()),
                upstream: Reported::Good,
                config: Reported::Good,
                config_in_force: Some("hash".to_owned()),
                told_config: Some("hash".to_owned()),
            }
        );
    }

    #[test]
    fn a_pod_that_is_new_says_nothing_of_itself() {
        let patch = json!({"status": null, "metadata": {"annotations": null}});
        assert_eq!(
            facts(&patch),
            PodFacts {
                upstream: Reported::Nothing,
                config: Reported::Nothing,
                config_in_force: None,
                told_config: None,
                ..facts(&json!({}))
            }
        );
    }

    #[rstest]
    #[case::on_its_way_out(json!({"metadata": {"deletionTimestamp": "2026-03-02T00:00:00Z"}}), false)]
    #[case::succeeded(json!({"status": {"phase": "Succeeded"}}), false)]
    #[case::failed(json!({"status": {"phase": "Failed"}}), false)]
    #[case::pending(json!({"status": {"phase": "Pending"}}), true)]
    #[case::unknown(json!({"status": {"phase": "Unknown"}}), true)]
    fn a_pod_that_serves_nobody_any_more_does_not_count(
        #[case] patch: Value,
        #[case] counts: bool,
    ) {
        let facts = PodFacts::of(&pod(&patch), &[Arc::new(proxy())]);
        assert_eq!(facts.is_some(), counts);
    }

    #[rstest]
    #[case::our_container(json!({}), Some("sidecar:1"))]
    #[case::another_container(json!({"containers": [{"name": "nginx", "image": "nginx"}]}), None)]
    #[case::another_secret(json!({"volumes": [{"name": "globus-auth-config", "secret": {"secretName": "other"}}]}), None)]
    fn a_pod_of_our_own_has_the_proxy_as_its_container(
        #[case] spec: Value,
        #[case] image: Option<&str>,
    ) {
        let mut pod = pod(&json!({
            "metadata": {"labels": {"app": null, "globus-auth.dev/standalone": "mlflow"}},
            "spec": {
                "initContainers": null,
                "containers": [{"name": "globus-auth-proxy", "image": "sidecar:1"}],
            },
        }));
        let mut value = serde_json::to_value(&pod).unwrap();
        json_patch::merge(&mut value["spec"], &spec);
        pod = serde_json::from_value(value).unwrap();
        let facts = PodFacts::of(&pod, &[Arc::new(standalone_with(&json!({})))]).unwrap();
        assert_eq!(facts.protector.as_deref(), Some("mlflow"));
        assert_eq!(facts.sidecar_image.as_deref(), image);
    }

    #[rstest]
    #[case::no_init_containers(json!({"initContainers": null}))]
    #[case::another_name(
        json!({"initContainers": [{"name": "sidecar", "image": "sidecar:1", "restartPolicy": "Always"}]}))]
    #[case::one_that_ends(json!({"initContainers": [{"name": "globus-auth-proxy", "image": "sidecar:1"}]}))]
    #[case::an_ordinary_container(json!({
        "initContainers": null,
        "containers": [{"name": "globus-auth-proxy", "image": "sidecar:1", "restartPolicy": "Always"}],
    }))]
    #[case::no_volumes(json!({"volumes": null}))]
    #[case::another_volume(
        json!({"volumes": [{"name": "config", "secret": {"secretName": "mlflow-globus-auth"}}]}))]
    #[case::no_secret(json!({"volumes": [{"name": "globus-auth-config", "emptyDir": {}}]}))]
    #[case::the_secret_of_another_proxy(
        json!({"volumes": [{"name": "globus-auth-config", "secret": {"secretName": "other-globus-auth"}}]}))]
    fn what_only_looks_like_our_sidecar_protects_nothing(#[case] spec: Value) {
        let facts = facts(&json!({"spec": spec}));
        assert_eq!(facts.sidecar_image, None);
        assert_eq!(facts.protector.as_deref(), Some("mlflow"));
    }

    #[test]
    fn the_sidecar_of_a_proxy_that_no_longer_protects_the_pod_does_not_count() {
        let older =
            json!({"metadata": {"name": "older", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let proxies = [Arc::new(proxy()), Arc::new(proxy_with(&older))];
        let facts = PodFacts::of(&pod(&json!({})), &proxies).unwrap();
        assert_eq!(
            (facts.protector.as_deref(), facts.sidecar_image),
            (Some("older"), None)
        );
    }

    #[test]
    fn a_pod_that_names_a_proxy_that_is_not_there_is_protected_by_nobody() {
        let patch = json!({"metadata": {"annotations": {"globus-auth.dev/proxy": "typo"}}});
        let facts = facts(&patch);
        assert_eq!((facts.protector, facts.sidecar_image), (None, None));
    }

    #[rstest]
    #[case::said("True", Some("configuration a-b is in force"), Some("a-b"))]
    #[case::said_before_it_was_refused("False", Some("configuration a-b is in force"), None)]
    #[case::another_message("True", Some("fine"), None)]
    #[case::no_message("True", None, None)]
    fn a_pod_has_the_configuration_that_it_says_is_in_force(
        #[case] status: &str,
        #[case] message: Option<&str>,
        #[case] hash: Option<&str>,
    ) {
        let facts = facts(&condition("globus-auth.dev/ConfigApplied", status, message));
        assert_eq!(facts.config_in_force.as_deref(), hash);
    }

    #[rstest]
    #[case("True", Some("fine"), Reported::Good)]
    #[case("False", Some("bad"), Reported::Bad("bad".to_owned()))]
    #[case("Unknown", Some("lost"), Reported::Bad("lost".to_owned()))]
    #[case("False", None, Reported::Bad(String::new()))]
    fn only_true_is_a_good_report(
        #[case] status: &str,
        #[case] message: Option<&str>,
        #[case] reported: Reported,
    ) {
        let upstream = facts(&condition(
            "globus-auth.dev/UpstreamProtected",
            status,
            message,
        ));
        assert_eq!(
            (upstream.upstream, upstream.config),
            (reported.clone(), Reported::Nothing)
        );
        let config = facts(&condition("globus-auth.dev/ConfigApplied", status, message));
        assert_eq!(
            (config.upstream, config.config),
            (Reported::Nothing, reported)
        );
    }
}

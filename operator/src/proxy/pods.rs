//! What one pod says about its protection.

use globus_auth_crds::conditions::{POD_CONFIG_APPLIED, POD_UPSTREAM_PROTECTED};
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
        let protector = selection::protector(proxies, pod.labels(), pod.annotations())
            .map(|proxy| proxy.as_ref().name_any());
        let sidecar_image = protector
            .as_deref()
            .and_then(|proxy| sidecar_image(pod, proxy));
        Some(Self {
            name: pod.name_any(),
            created_at: pod.creation_timestamp().map(|time| time.0),
            protector,
            sidecar_image,
            upstream: reported(pod, POD_UPSTREAM_PROTECTED),
            config: reported(pod, POD_CONFIG_APPLIED),
            told_config: pod.annotations().get(CONFIG_ANNOTATION).cloned(),
        })
    }
}

/// The image of the sidecar, if it is there as a native sidecar with the configuration of `proxy`.
fn sidecar_image(pod: &Pod, proxy: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |container: &&Container| {
        container.name == CONTAINER && container.restart_policy.as_deref() == Some("Always")
    };
    let sidecar = spec.init_containers.as_ref()?.iter().find(is_sidecar)?;
    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == CONFIG_VOLUME)?;
    let secret = volume.secret.as_ref()?.secret_name.as_deref()?;
    (secret == names::secret(proxy))
        .then(|| sidecar.image.clone())
        .flatten()
}

fn reported(pod: &Pod, type_: &str) -> Reported {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let condition: Option<&PodCondition> = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == type_);
    match condition {
        None => Reported::Nothing,
        Some(condition) if condition.status == "True" => Reported::Good,
        Some(condition) => Reported::Bad(condition.message.clone().unwrap_or_default()),
    }
}

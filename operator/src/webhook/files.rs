//! Files with tokens: a volume in memory that the sidecar writes and the workload reads. Pure.

use globus_auth_crds::{CONTAINER, ON_BEHALF_OF_ANNOTATION};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::policy::{Files, Policy};
use super::refusal::Refusal;

/// The user of the workload, as whom the sidecar runs, so that files that only their owner may read have the right
/// owner; none if there are no files.
///
/// # Errors
/// [`Refusal`].
pub(super) fn owner(pod: &Pod, policy: &Policy) -> Result<Option<i64>, Refusal> {
    let Some(files) = &policy.files else {
        return Ok(None);
    };
    let proxy = || policy.proxy.clone();
    let annotations = pod.metadata.annotations.as_ref();
    let user = annotations.and_then(|all| all.get(ON_BEHALF_OF_ANNOTATION));
    if files.need_user && user.is_none_or(|user| user.trim().is_empty()) {
        return Err(Refusal::NoUser { proxy: proxy() });
    }
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.share_process_namespace) == Some(true) {
        return Err(Refusal::SharedProcesses { proxy: proxy() });
    }
    let Some(first) = spec.and_then(|spec| spec.containers.first()) else {
        return Ok(None);
    };
    match run_as_user(pod, first) {
        Some(user) if user > 0 => Ok(Some(user)),
        Some(_) | None => Err(Refusal::UnknownUser {
            container: first.name.clone(),
            proxy: proxy(),
        }),
    }
}

fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref();
    let of_pod = pod.spec.as_ref()?.security_context.as_ref();
    own.and_then(|context| context.run_as_user)
        .or_else(|| of_pod?.run_as_user)
}

/// Mounts the files where containers run as `owner`, and names the first to them.
pub(super) fn mount(containers: &mut [Value], pod: &Pod, files: &Files, owner: i64) {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let all = spec.into_iter().flat_map(|spec| &spec.containers);
    let readers: Vec<&str> = all
        .chain(init.into_iter().flatten())
        .filter(|one| one.name != CONTAINER && run_as_user(pod, one) == Some(owner))
        .map(|one| one.name.as_str())
        .collect();
    for container in containers {
        let name = container.get("name").and_then(Value::as_str);
        if !name.is_some_and(|name| readers.contains(&name)) {
            continue;
        }
        let mount = json!({"name": VOLUME, "mountPath": FOLDER, "readOnly": true});
        put(container, "volumeMounts", mount, Present::Replaced);
        let variable =
            json!({"name": "BEARER_TOKEN_FILE", "value": format!("{FOLDER}/{}", files.first)});
        put(container, "env", variable, Present::Kept);
    }
}

/// What becomes of an entry of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Present {
    Kept,
    Replaced,
}

fn put(container: &mut Value, list: &str, entry: Value, present: Present) {
    let Some(members) = container.as_object_mut() else {
        return;
    };
    let found = members.entry(list).or_insert(Value::Null);
    if found.is_null() {
        *found = json!([]);
    }
    let Some(entries) = found.as_array_mut() else {
        return;
    };
    match entries
        .iter_mut()
        .find(|one| one.get("name") == entry.get("name"))
    {
        Some(same) if present == Present::Replaced => *same = entry,
        Some(_) => {}
        None => entries.push(entry),
    }
}

/// The volume: in memory, gone with the pod.
pub(super) fn volume() -> Value {
    json!({"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

/// Where the sidecar writes.
pub(super) fn sidecar_mount() -> Value {
    json!({"name": VOLUME, "mountPath": FOLDER})
}

/// What the sidecar is told.
pub(super) fn arguments() -> [String; 2] {
    [
        format!("--token-folder={FOLDER}"),
        format!("--on-behalf-of=$({VARIABLE})"),
    ]
}

/// The user whom the pod names, for [`arguments`].
pub(super) fn variable() -> Value {
    let path = format!("metadata.annotations['{ON_BEHALF_OF_ANNOTATION}']");
    json!({"name": VARIABLE, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}

const VARIABLE: &str = "ON_BEHALF_OF";
pub(super) const VOLUME: &str = "globus-auth-tokens";
const FOLDER: &str = "/var/run/globus-auth/tokens";

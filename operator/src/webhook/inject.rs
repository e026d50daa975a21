//! The injection: from a pod and a policy to the pod with its sidecar. Pure, and always on the raw
//! JSON: a typed round trip would drop fields that this program does not know.

use std::collections::BTreeSet;

use globus_auth_core::probe::Probe;
use globus_auth_core::report;
use globus_auth_crds::CONTAINER;
use globus_auth_crds::proxy::{ResourceList, Resources};
use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::files;
use super::policy::{Policy, Port};
use super::probes::{self, ProbedPort};
use super::refusal::Refusal;
use crate::settings::SidecarSettings;

/// What to change in a pod, and what its creator should know.
#[derive(Debug)]
#[must_use]
pub struct Injection {
    /// Empty if the pod is as it must be.
    pub patch: Patch,
    /// Shown by `kubectl`.
    pub warnings: Vec<String>,
}

/// Plans the injection into `pod` (a `v1.Pod` in JSON).
///
/// # Guarantees
/// A pod with the patch applied needs no further patch, also after the API server has filled in its
/// defaults. Nothing but what the sidecar needs is changed, and nothing is removed.
///
/// # Errors
/// [`Refusal`] if the workload's port cannot be guarded in this pod.
pub fn plan(
    pod: &Value,
    policy: &Policy,
    settings: &SidecarSettings,
) -> Result<Injection, Refusal> {
    let typed: Pod = serde_json::from_value(pod.clone()).map_err(|error| Refusal::Malformed {
        detail: error.to_string(),
    })?;
    check(&typed)?;
    check_volumes(&typed)?;
    let owner = files::owner(&typed, policy)?;
    let mut injected = pod.clone();
    let takeover = take_port_over(&mut injected, policy)?;
    check_free(&typed, policy, &takeover)?;
    let settings = SidecarSettings {
        run_as_user: owner.or(settings.run_as_user),
        ..settings.clone()
    };
    let container = container(policy, &settings, &takeover);
    put_container(&mut injected, container)?;
    put_volumes(&mut injected, policy)?;
    if let (Some(files), Some(owner)) = (&policy.files, owner) {
        for name in ["containers", "initContainers"] {
            files::mount(list(&mut injected, name)?, &typed, files, owner);
        }
    }
    annotate(&mut injected, &typed, policy)?;
    Ok(Injection {
        patch: json_patch::diff(pod, &injected),
        warnings: warnings(&typed),
    })
}

/// What the sidecar takes from the workload.
#[derive(Debug)]
struct Takeover {
    /// Where the workload listens.
    upstream_port: u16,
    /// The name that now is the sidecar's.
    name: Option<String>,
    /// Whether the sidecar listens on the workload's own number, on the pod's address.
    same_number: bool,
    probes: Vec<Probe>,
}

impl Takeover {
    fn listen_port(&self, policy: &Policy) -> u16 {
        if self.same_number {
            self.upstream_port
        } else {
            policy.listen_port
        }
    }
}

fn admin_port(policy: &Policy) -> u16 {
    policy.listen_port + 1
}

/// On loopback, where the workload asks other services as its users.
const fn outbound_port(policy: &Policy) -> u16 {
    // The last port has none after it; then the program says that it cannot listen there.
    policy.listen_port.saturating_add(2)
}

fn check(pod: &Pod) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else {
        return Err(Refusal::Malformed {
            detail: "it has no spec".to_owned(),
        });
    };
    if spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork);
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(Refusal::NotLinux);
    }
    if spec
        .containers
        .iter()
        .any(|container| container.name == CONTAINER)
    {
        return Err(Refusal::ContainerNameTaken);
    }
    Ok(())
}

/// What names the pod to others, and what the sidecar knows, is not for the workload.
fn check_volumes(pod: &Pod) -> Result<(), Refusal> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let all = spec.into_iter().flat_map(|spec| &spec.containers);
    for container in all.chain(init.into_iter().flatten()) {
        let mounts = container.volume_mounts.iter().flatten();
        let mut taken = mounts.filter(|mount| {
            [CONFIG_VOLUME, IDENTITY_VOLUME, VAULT_VOLUME].contains(&mount.name.as_str())
        });
        if container.name != CONTAINER
            && let Some(mount) = taken.next()
        {
            return Err(Refusal::VolumeTaken {
                volume: mount.name.clone(),
                container: container.name.clone(),
            });
        }
    }
    Ok(())
}

/// The name that a port of the workload has after its name went to the sidecar: at most 15 characters,
/// as Kubernetes asks.
fn workload_port_name(name: &str) -> String {
    let kept: String = name.chars().take(11).collect();
    format!("{}-app", kept.trim_end_matches('-'))
}

fn take_port_over(pod: &mut Value, policy: &Policy) -> Result<Takeover, Refusal> {
    let earlier = Earlier::of(pod);
    let containers = list(pod, "containers")?;
    let (upstream_port, name) = match &policy.port {
        Port::Name(name) => (
            find_named(containers, name, &earlier, policy)?,
            Some(name.clone()),
        ),
        Port::Number(number) => (*number, name_of(containers, *number, &earlier)),
    };
    let renamed = name.as_deref().map(workload_port_name);
    if let (Some(name), Some(renamed)) = (&name, &renamed) {
        for container in containers.iter_mut() {
            rename(container, name, renamed, upstream_port);
        }
    }
    let names: Vec<&str> = name.iter().chain(&renamed).map(String::as_str).collect();
    let port = ProbedPort {
        names: &names,
        number: upstream_port,
    };
    let move_probes =
        |container| probes::move_to_sidecar(container, port, admin_port(policy), &earlier.probes);
    let probes = containers.iter_mut().flat_map(move_probes).collect();
    let same_number = matches!(policy.port, Port::Number(_));
    Ok(Takeover {
        upstream_port,
        name,
        same_number,
        probes,
    })
}

/// What an earlier pass has done, read from the sidecar that it has put in. A pod's creator can write
/// the same, and gains nothing: it is about the names and probes of their own pod.
#[derive(Debug, Default)]
struct Earlier {
    /// The port name that the sidecar has.
    name: Option<String>,
    probes: Vec<Probe>,
}

impl Earlier {
    fn of(pod: &Value) -> Self {
        let containers = pod
            .pointer("/spec/initContainers")
            .and_then(Value::as_array);
        let Some(sidecar) = containers.into_iter().flatten().find(|c| is_sidecar(c)) else {
            return Self::default();
        };
        let text = |port: &Value| Some(port.get("name")?.as_str()?.to_owned());
        let args = sidecar
            .get("args")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let probes = args
            .filter_map(Value::as_str)
            .find_map(|arg| arg.strip_prefix(PROBES_ARGUMENT));
        Self {
            name: ports(sidecar)
                .filter_map(text)
                .find(|name| name != ADMIN_PORT_NAME),
            probes: probes
                .and_then(|json| serde_json::from_str(&json.replace("$$(", "$(")).ok())
                .unwrap_or_default(),
        }
    }

    /// What the workload's port `name` was called before.
    fn original_name(&self, name: &str) -> String {
        let taken = self
            .name
            .as_ref()
            .filter(|taken| workload_port_name(taken) == name);
        taken.cloned().unwrap_or_else(|| name.to_owned())
    }
}

/// The number of the port that is, or was before an earlier pass, called `name`.
fn find_named(
    containers: &[Value],
    name: &str,
    earlier: &Earlier,
    policy: &Policy,
) -> Result<u16, Refusal> {
    let all = || containers.iter().flat_map(ports);
    let is_called = |port: &&Value| {
        port.get("name")
            .and_then(Value::as_str)
            .is_some_and(|n| earlier.original_name(n) == name)
    };
    let mut found = all().filter(is_called);
    match (found.next(), found.next()) {
        (None, _) => Err(Refusal::UnknownPort {
            port: name.to_owned(),
            declared: describe_all(all()),
            proxy: policy.proxy.clone(),
        }),
        (Some(port), None) if has_host_port(port) => Err(Refusal::HostPort {
            port: describe(port),
        }),
        (Some(port), None) => number(port).ok_or_else(|| Refusal::Malformed {
            detail: format!("port {name:?} has no number"),
        }),
        (Some(_), Some(_)) => Err(Refusal::AmbiguousPort {
            port: name.to_owned(),
        }),
    }
}

/// The name that port `wanted` has, or had before an earlier pass.
fn name_of(containers: &[Value], wanted: u16, earlier: &Earlier) -> Option<String> {
    let declared = containers
        .iter()
        .flat_map(ports)
        .find(|port| number(port) == Some(wanted))?;
    Some(earlier.original_name(declared.get("name")?.as_str()?))
}

fn ports(container: &Value) -> impl Iterator<Item = &Value> {
    container
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port.get("containerPort")?.as_u64()?).ok()
}

fn has_host_port(port: &Value) -> bool {
    port.get("hostPort")
        .is_some_and(|port| port.as_u64() != Some(0))
}

fn describe(port: &Value) -> String {
    let number = number(port).unwrap_or_default();
    match port.get("name").and_then(Value::as_str) {
        Some(name) => format!("{name} ({number})"),
        None => number.to_string(),
    }
}

fn describe_all<'a>(ports: impl Iterator<Item = &'a Value>) -> String {
    let described: Vec<String> = ports.map(describe).collect();
    if described.is_empty() {
        "none".to_owned()
    } else {
        described.join(", ")
    }
}

fn rename(container: &mut Value, old: &str, new: &str, port: u16) {
    let mut has_port = false;
    for entry in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if number(entry) == Some(port)
            && entry.get("name").and_then(Value::as_str) == Some(old)
            && let Some(members) = entry.as_object_mut()
        {
            members.insert("name".to_owned(), Value::from(new));
            has_port = true;
        }
    }
    if has_port {
        probes::rename_port(container, old, new);
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.get("name").and_then(Value::as_str) == Some(CONTAINER)
}

/// Neither of the sidecar's ports may be anybody else's.
fn check_free(pod: &Pod, policy: &Policy, takeover: &Takeover) -> Result<(), Refusal> {
    let mut needed = BTreeSet::from([admin_port(policy)]);
    if policy.vault_audience.is_some() {
        needed.insert(outbound_port(policy));
    }
    if takeover.same_number {
        let host_port = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find(|container| {
                container.ports.iter().flatten().any(|port| {
                    port.container_port == i32::from(takeover.upstream_port)
                        && port.host_port.is_some_and(|port| port != 0)
                })
            });
        if host_port.is_some() {
            return Err(Refusal::HostPort {
                port: takeover.upstream_port.to_string(),
            });
        }
    } else {
        needed.insert(policy.listen_port);
    }
    let spec = pod.spec.as_ref();
    let init = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .into_iter()
        .flatten();
    let containers = spec
        .into_iter()
        .flat_map(|spec| &spec.containers)
        .chain(init);
    for container in containers.filter(|container| container.name != CONTAINER) {
        for port in container.ports.iter().flatten() {
            if let Ok(port) = u16::try_from(port.container_port)
                && needed.contains(&port)
            {
                return Err(Refusal::PortTaken {
                    port,
                    container: container.name.clone(),
                    proxy: policy.proxy.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The sidecar's container, with every field that the API server would fill in, so that a second pass
/// finds it unchanged, and with every field that matters to security, so that nobody can add one.
fn container(policy: &Policy, settings: &SidecarSettings, takeover: &Takeover) -> Value {
    let mut port = Map::from_iter([
        (
            "containerPort".to_owned(),
            Value::from(takeover.listen_port(policy)),
        ),
        ("protocol".to_owned(), Value::from("TCP")),
    ]);
    if let Some(name) = &takeover.name {
        port.insert("name".to_owned(), Value::from(name.as_str()));
    }
    let mut variables = vec![json!({
        "name": "POD_IPS",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIPs"}},
    })];
    // A pod that waits for its user's consent waits long.
    let startup = match &policy.files {
        Some(_) => probe("/startupz", admin_port(policy), 1, A_DAY_OF_SECONDS),
        None => probe("/livez", admin_port(policy), 1, 60),
    };
    variables.extend(policy.files.as_ref().map(|_| files::variable()));
    json!({
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "restartPolicy": "Always",
        "args": arguments(policy, takeover),
        "env": variables,
        "ports": [port, {"name": ADMIN_PORT_NAME, "containerPort": admin_port(policy), "protocol": "TCP"}],
        "resources": resources(policy.resources.as_ref()),
        "securityContext": security_context(settings),
        "startupProbe": startup,
        "readinessProbe": probe("/readyz", admin_port(policy), 2, 2),
        "livenessProbe": probe("/livez", admin_port(policy), 10, 3),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(policy),
    })
}

fn mounts(policy: &Policy) -> Value {
    let mut mounts = volume_mounts();
    if let (Some(_), Some(mounts)) = (&policy.vault_audience, mounts.as_array_mut()) {
        mounts.push(json!({"name": VAULT_VOLUME, "mountPath": VAULT_FOLDER, "readOnly": true}));
        mounts.extend(policy.files.as_ref().map(|_| files::sidecar_mount()));
    }
    mounts
}

/// Where the configuration and the token are.
pub(crate) fn volume_mounts() -> Value {
    json!([
        {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": true},
        {"name": IDENTITY_VOLUME, "mountPath": IDENTITY_FOLDER, "readOnly": true},
    ])
}

/// What the program is told of [`volume_mounts`].
pub(crate) fn common_arguments() -> [String; 2] {
    [
        format!("--config={CONFIG_FOLDER}"),
        format!("--identity-token={IDENTITY_FOLDER}/token"),
    ]
}

fn arguments(policy: &Policy, takeover: &Takeover) -> Vec<String> {
    let probes = serde_json::to_string(&takeover.probes).unwrap_or_default();
    let address = if takeover.same_number {
        "$(POD_IPS)"
    } else {
        "::"
    };
    let [config, identity_token] = common_arguments();
    let mut arguments = vec![
        format!("--listen-address={address}"),
        format!("--listen-port={}", takeover.listen_port(policy)),
        format!("--admin-port={}", admin_port(policy)),
        format!("--upstream-port={}", takeover.upstream_port),
        config,
        identity_token,
    ];
    if policy.vault_audience.is_some() {
        arguments.push(format!("--vault-token={VAULT_FOLDER}/token"));
        arguments.push(format!("--outbound-port={}", outbound_port(policy)));
        arguments.extend(policy.files.iter().flat_map(|_| files::arguments()));
    }
    // Kubernetes expands `$(NAME)` in arguments; a probe's path may have it.
    arguments.push(format!("{PROBES_ARGUMENT}{}", probes.replace("$(", "$$(")));
    arguments
}

pub(crate) fn probe(path: &str, port: u16, period_seconds: u32, failure_threshold: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 2,
        "successThreshold": 1,
        "failureThreshold": failure_threshold,
    })
}

/// What Pod Security `restricted` asks for, on the container itself, so that it holds whatever the pod
/// says.
pub(crate) fn security_context(settings: &SidecarSettings) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let (Some(user), Some(members)) = (settings.run_as_user, context.as_object_mut()) {
        members.insert("runAsUser".to_owned(), Value::from(user));
        members.insert("runAsGroup".to_owned(), Value::from(user));
    }
    context
}

pub(crate) fn resources(configured: Option<&Resources>) -> Value {
    let list = |list: &ResourceList| -> Map<String, Value> {
        [("cpu", &list.cpu), ("memory", &list.memory)]
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), Value::from(amount.clone()?))))
            .collect()
    };
    match configured {
        None => json!({"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}}),
        Some(Resources { requests, limits }) => {
            let mut lists = Map::new();
            for (name, amounts) in [("requests", list(requests)), ("limits", list(limits))] {
                if !amounts.is_empty() {
                    lists.insert(name.to_owned(), Value::from(amounts));
                }
            }
            Value::from(lists)
        }
    }
}

/// Puts the sidecar first, so that it runs before the workload's own init containers; one that is there
/// already is replaced where it stands.
fn put_container(pod: &mut Value, container: Value) -> Result<(), Refusal> {
    let containers = list(pod, "initContainers")?;
    match containers.iter_mut().find(|c| is_sidecar(c)) {
        Some(present) => *present = container,
        None => containers.insert(0, container),
    }
    Ok(())
}

/// The configuration with the list of ended sessions, which is not there until a session has ended and so
/// cannot be named here, and a token that names this pod to the operator and nobody else. It is mounted
/// where Kubernetes would otherwise mount the pod's own token, so that the sidecar never gets that.
pub(crate) fn volumes(secret: &str) -> [Value; 2] {
    [
        json!({
            "name": CONFIG_VOLUME,
            "secret": {"secretName": secret, "defaultMode": 0o444},
        }),
        json!({
            "name": IDENTITY_VOLUME,
            "projected": {
                "defaultMode": 0o444,
                "sources": [{"serviceAccountToken": {
                    "audience": report::AUDIENCE, "expirationSeconds": 3600, "path": "token",
                }}],
            },
        }),
    ]
}

/// A token that names this pod to its vault and nobody else; only the sidecar mounts it.
fn vault_volume(audience: &str) -> Value {
    json!({
        "name": VAULT_VOLUME,
        "projected": {
            "defaultMode": 0o444,
            "sources": [{"serviceAccountToken": {
                "audience": audience, "expirationSeconds": 600, "path": "token",
            }}],
        },
    })
}

fn put_volumes(pod: &mut Value, policy: &Policy) -> Result<(), Refusal> {
    let present = list(pod, "volumes")?;
    let vault = policy.vault_audience.as_deref().map(vault_volume);
    let files = policy.files.as_ref().map(|_| files::volume());
    for volume in volumes(&policy.secret)
        .into_iter()
        .chain(vault)
        .chain(files)
    {
        match present
            .iter_mut()
            .find(|present| present.get("name") == volume.get("name"))
        {
            Some(present) => *present = volume,
            None => present.push(volume),
        }
    }
    Ok(())
}

/// The list `name` of the pod's spec, made if it is not there.
fn list<'a>(pod: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    let malformed = || Refusal::Malformed {
        detail: format!("spec.{name} is not a list"),
    };
    let spec = pod
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .ok_or_else(malformed)?;
    let entry = spec.entry(name).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Array(vec![]);
    }
    entry.as_array_mut().ok_or_else(malformed)
}

/// Says which proxy was injected, and keeps `kubectl logs` and `exec` at the workload's container.
fn annotate(pod: &mut Value, typed: &Pod, policy: &Policy) -> Result<(), Refusal> {
    let malformed = || Refusal::Malformed {
        detail: "its metadata is not an object".to_owned(),
    };
    let metadata = pod
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or_else(malformed)?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = json!({});
    }
    let annotations = annotations.as_object_mut().ok_or_else(malformed)?;
    annotations.insert(
        INJECTED_ANNOTATION.to_owned(),
        Value::from(policy.proxy.as_str()),
    );
    if let Some(first) = typed.spec.as_ref().and_then(|spec| spec.containers.first()) {
        annotations
            .entry(DEFAULT_CONTAINER_ANNOTATION)
            .or_insert_with(|| Value::from(first.name.as_str()));
    }
    Ok(())
}

fn warnings(pod: &Pod) -> Vec<String> {
    let shares = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.share_process_namespace)
        == Some(true);
    let shared = "shareProcessNamespace lets the other containers see the globus-auth sidecar's process; \
                  containers with the same user could read its memory";
    shares.then(|| shared.to_owned()).into_iter().collect()
}

/// Written for people to read; never believed.
const INJECTED_ANNOTATION: &str = "globus-auth.dev/injected";
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
pub(crate) const ADMIN_PORT_NAME: &str = "globus-auth-adm";
/// The volume with the configuration.
pub const CONFIG_VOLUME: &str = "globus-auth-config";
const CONFIG_FOLDER: &str = "/etc/globus-auth";
const IDENTITY_VOLUME: &str = "globus-auth-identity";
const IDENTITY_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VAULT_VOLUME: &str = "globus-auth-vault";
const VAULT_FOLDER: &str = "/var/run/secrets/globus-auth-vault";
const A_DAY_OF_SECONDS: u32 = 86_400;
const PROBES_ARGUMENT: &str = "--probes=";

#[cfg(test)]
mod tests;

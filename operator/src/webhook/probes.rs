//! Pointing the probes of a workload's port at the sidecar, which asks the workload on loopback.

use globus_auth_core::probe::{Probe, ProbeAction, ProbeKind};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

/// A port of the workload, by both of its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbedPort<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) number: u16,
}

const KINDS: [(&str, ProbeKind); 3] = [
    ("livenessProbe", ProbeKind::Liveness),
    ("readinessProbe", ProbeKind::Readiness),
    ("startupProbe", ProbeKind::Startup),
];

/// Moves the HTTP and TCP probes of `container` that ask `port` to the sidecar's `admin_port`, and
/// returns what they asked. `known` are the probes that an earlier pass has moved.
pub(super) fn move_to_sidecar(
    container: &mut Value,
    port: ProbedPort<'_>,
    admin_port: u16,
    known: &[Probe],
) -> Vec<Probe> {
    let name = container
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let mut moved = Vec::new();
    for (field, kind) in KINDS {
        let Some(probe) = container.get_mut(field).and_then(Value::as_object_mut) else {
            continue;
        };
        let known = known
            .iter()
            .find(|known| known.container == name && known.kind == kind);
        if let Some(known) = known
            && probe
                .get("httpGet")
                .is_some_and(|get| asks(get, admin_port, &known.path()))
        {
            moved.push(known.clone());
            continue;
        }
        let Some(action) = action(probe, port) else {
            continue;
        };
        let timeout = probe
            .get("timeoutSeconds")
            .and_then(Value::as_u64)
            .unwrap_or(1);
        let timeout_seconds = u32::try_from(timeout).unwrap_or(1).max(1);
        let moved_probe = Probe {
            container: name.clone(),
            kind,
            action,
            timeout_seconds,
        };
        probe.remove("tcpSocket");
        probe.insert(
            "httpGet".to_owned(),
            json!({"path": moved_probe.path(), "port": admin_port, "scheme": "HTTP"}),
        );
        moved.push(moved_probe);
    }
    moved
}

/// Points the lifecycle hooks and gRPC-less probes that name the port at its new name.
pub(super) fn rename_port(container: &mut Value, old: &str, new: &str) {
    const HANDLERS: [&str; 5] = [
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    for handler in HANDLERS {
        for action in ["httpGet", "tcpSocket"] {
            let pointer = format!("{handler}/{action}/port");
            if let Some(port) = container.pointer_mut(&pointer)
                && port.as_str() == Some(old)
            {
                *port = Value::from(new);
            }
        }
    }
}

fn asks(get: &Value, port: u16, path: &str) -> bool {
    get.get("port").and_then(Value::as_u64) == Some(port.into())
        && get.get("path").and_then(Value::as_str) == Some(path)
}

fn action(probe: &serde_json::Map<String, Value>, port: ProbedPort<'_>) -> Option<ProbeAction> {
    if let Some(get) = probe.get("httpGet") {
        let is_http = get
            .get("scheme")
            .and_then(Value::as_str)
            .is_none_or(|scheme| scheme == "HTTP");
        let is_pod = get.get("host").is_none();
        if !is_http || !is_pod || !is_port(get.get("port")?, port) {
            return None;
        }
        let path = get.get("path").and_then(Value::as_str).unwrap_or("/");
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let header = |header: &Value| {
            let text = |member| Some(header.get(member)?.as_str()?.to_owned());
            Some((text("name")?, text("value")?))
        };
        let headers = get.get("httpHeaders").and_then(Value::as_array);
        let headers = headers.into_iter().flatten().filter_map(header).collect();
        return Some(ProbeAction::HttpGet { path, headers });
    }
    let socket = probe.get("tcpSocket")?;
    (socket.get("host").is_none() && is_port(socket.get("port")?, port))
        .then_some(ProbeAction::TcpSocket {})
}

fn is_port(value: &Value, port: ProbedPort<'_>) -> bool {
    match serde_json::from_value(value.clone()) {
        Ok(IntOrString::Int(number)) => number == i32::from(port.number),
        Ok(IntOrString::String(name)) => port.names.contains(&name.as_str()),
        Err(_malformed) => false,
    }
}

//! What is behind the proxy, and so in which mode it runs.

use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::plan::{Plan, duration};

/// `spec.mode`, `spec.upstream`, `spec.selector`.
pub(super) fn upstream(plan: &mut Plan<'_>, spec: &mut Map<String, Value>) {
    let upstreams = plan.texts("upstream");
    let answers =
        |upstream: &String| upstream.starts_with("static:") || upstream == "file:///dev/null";
    let host_passed = plan.switch("pass-host-header");
    if upstreams.iter().all(answers) {
        plan.note(
            "there is no workload behind it, so the ingress asks it about each request; docs/ingress.md says \
             how. Route /oauth2/ to the Service that the operator makes",
        );
        spec.insert("mode".to_owned(), json!("Standalone"));
        return;
    }
    let [upstream] = upstreams.as_slice() else {
        plan.refuse(
            "upstream",
            "there is more than one; make a GlobusAuthProxy for each",
        );
        return;
    };
    let parsed = Url::parse(upstream).ok();
    let Some(url) = parsed.filter(is_origin) else {
        plan.refuse(
            "upstream",
            "must be http(s)://HOST[:PORT] without user and path; a path would forward only what is below it, and \
             here everything is",
        );
        return;
    };
    if is_loopback(&url) && url.scheme() == "http" {
        let mut upstream = json!({"port": sidecar(plan, spec, &url)});
        if let (false, Some(members)) = (host_passed, upstream.as_object_mut()) {
            members.insert("hostHeader".to_owned(), json!("Localhost"));
        }
        timeout(plan, &mut upstream);
        spec.insert("upstream".to_owned(), upstream);
        return;
    }
    if is_loopback(&url) {
        plan.refuse(
            "upstream",
            "a workload beside the proxy is spoken to by http",
        );
    }
    if !host_passed {
        plan.note("--pass-host-header=false: the workload sees the host of externalUrl");
    }
    plan.note(
        "nothing but the proxy should be able to reach the workload; see to it with a NetworkPolicy, or run the \
         proxy beside it with mode Sidecar",
    );
    spec.insert("mode".to_owned(), json!("Standalone"));
    let url = url.as_str().trim_end_matches('/');
    let mut upstream = json!({"url": url});
    timeout(plan, &mut upstream);
    spec.insert("upstream".to_owned(), upstream);
}

/// How long to wait for an answer, if that was said.
fn timeout(plan: &mut Plan<'_>, upstream: &mut Value) {
    let Some(text) = plan.text("upstream-timeout") else {
        return;
    };
    match (duration(&text), upstream.as_object_mut()) {
        (Some(timeout), Some(members)) if (1..=LONGEST_TIMEOUT).contains(&timeout.as_secs()) => {
            members.insert(
                "responseTimeoutSeconds".to_owned(),
                json!(timeout.as_secs()),
            );
        }
        _ => plan.refuse("upstream-timeout", "must be a duration from 1s to 24h"),
    }
}

fn is_origin(url: &Url) -> bool {
    ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        None => false,
    }
}

/// The port beside the proxy, and whose pods they are.
fn sidecar(plan: &mut Plan<'_>, spec: &mut Map<String, Value>, url: &Url) -> Value {
    let number = i32::from(url.port_or_known_default().unwrap_or_default());
    let workload = plan.input.workload.as_ref();
    let known = workload.into_iter().flat_map(|workload| &workload.ports);
    let name = known
        .filter(|(port, _)| *port == number)
        .find_map(|(_, name)| name.clone());
    let labels = workload
        .map(|workload| &workload.labels)
        .filter(|labels| !labels.is_empty());
    let labels = labels.map(|labels| json!(labels));
    if labels.is_none() {
        let note = format!(
            "selector: the labels of the workload's pods are not in the files; app: {} is a guess",
            plan.name
        );
        plan.note(note);
    }
    plan.note(
        "remove the container of oauth2-proxy from the workload, give its pods the label \
         globus-auth.dev/inject: enabled, and let the Service's targetPort be upstream.port",
    );
    if name.is_none() {
        plan.note(
            "the workload must listen on 127.0.0.1, because the proxy listens on the same number of the pod's \
             address; or give the port a name, and write that in upstream.port",
        );
    }
    spec.insert("mode".to_owned(), json!("Sidecar"));
    let labels = labels.unwrap_or_else(|| json!({"app": plan.name}));
    spec.insert("selector".to_owned(), json!({"matchLabels": labels}));
    name.map_or_else(|| json!(number), |name| json!(name))
}

/// In seconds, as the schema has it.
const LONGEST_TIMEOUT: u64 = 86_400;

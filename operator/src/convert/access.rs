//! Who may enter, and what everybody may fetch.

use serde_json::{Map, Value, json};

use super::kubernetes::Mounted;
use super::plan::{Plan, quoted};

/// `spec.access`.
pub(super) fn access(plan: &mut Plan<'_>, provider: &Value) -> Value {
    let mut access = Map::new();
    let domains = plan.texts("email-domain");
    let file = plan.text("authenticated-emails-file");
    let mut groups = plan.texts("allowed-group");
    groups.extend(plan.texts("gitlab-group"));
    let is_open = domains.iter().any(|domain| domain == "*");
    if is_open && (file.is_some() || domains.len() > 1) {
        plan.refuse(
            "email-domain",
            "`*` beside --authenticated-emails-file or another domain makes oauth2-proxy admit everybody who \
             can log in, whatever the list says. Remove `*` if the list is meant, or the list if everybody is",
        );
    } else if !is_open && !groups.is_empty() && (file.is_some() || !domains.is_empty()) {
        plan.refuse(
            "allowed-group",
            "oauth2-proxy admits who is in a group and has an address of the list, but here either would \
             suffice. Remove the rule about addresses (--email-domain=*), or the groups",
        );
    } else if domains.is_empty() && file.is_none() {
        plan.refuse(
            "email-domain",
            "neither it nor --authenticated-emails-file says who may enter, and oauth2-proxy does not start so; \
             give the FILE that does",
        );
    } else if is_open && groups.is_empty() {
        plan.note(open(provider));
        access.insert("anyAuthenticated".to_owned(), json!("Enabled"));
    }
    if !is_open && !domains.is_empty() {
        access.insert("emailDomains".to_owned(), json!(below(&domains)));
    }
    if let Some(file) = file {
        let (name, key) = addresses(plan, &file);
        let reference = json!({"configMapKeyRef": {"name": name, "key": key}});
        access.insert("emailsFrom".to_owned(), reference);
    }
    if !groups.is_empty() {
        groups.sort_unstable();
        groups.dedup();
        access.insert("groups".to_owned(), json!(groups));
    }
    let public = public(plan);
    if !public.is_empty() {
        access.insert("public".to_owned(), json!(public));
    }
    Value::Object(access)
}

fn open(provider: &Value) -> &'static str {
    if provider.get("type").and_then(Value::as_str) == Some("Globus") {
        "WARNING: --email-domain=* admits everybody with any account of the world's universities, Google or \
         GitHub, as before; name addresses or groups in access instead of anyAuthenticated if that is not meant"
    } else {
        "WARNING: --email-domain=* admits everybody whom the provider knows, as before; name addresses, domains \
         or groups in access instead of anyAuthenticated if that is not meant"
    }
}

/// `.d` is there what `*.d` is here.
fn below(domains: &[String]) -> Vec<String> {
    let below = |domain: &String| match domain.strip_prefix('.') {
        Some(domain) => format!("*.{domain}"),
        None => domain.clone(),
    };
    domains.iter().map(below).collect()
}

/// The ConfigMap with the addresses of `file`, and the command that makes it if there is none.
fn addresses(plan: &mut Plan<'_>, file: &str) -> (String, String) {
    let workload = plan.input.workload.as_ref();
    plan.note(
        "--authenticated-emails-file: here each entry of the list must be an address; what is beside addresses \
         in a line (further columns) is to be removed",
    );
    let source = match workload.and_then(|workload| workload.mounted(file)) {
        Some(Mounted::ConfigMap { name, key }) => return (name, key),
        Some(Mounted::Secret { name, key }) => plan.secret_as_file(&name, &key),
        None => quoted(file),
    };
    let (kubectl, map) = (plan.kubectl(), format!("{}-emails", plan.name));
    plan.commands.push(format!(
        "{kubectl} create configmap {map} --from-file=emails={source}"
    ));
    (map, "emails".to_owned())
}

/// `access.public`: those rules that are plain paths. Whatever is left out needs a login.
fn public(plan: &mut Plan<'_>) -> Vec<Value> {
    let mut routes: Vec<Route> = Vec::new();
    for (flag, has_method) in [("skip-auth-route", true), ("skip-auth-regex", false)] {
        for rule in plan.texts(flag) {
            match Route::parse(&rule, has_method) {
                Some(route) if add(&mut routes, &route) => {
                    if route.methods == READING {
                        let note = format!("--{flag}: {} is public for GET and HEAD only", route.path);
                        plan.note(note);
                    }
                }
                _ => plan.note(format!(
                    "--{flag}: a rule is not carried over, because it is more than a path; what it left open \
                     needs a login now: {rule}"
                )),
            }
        }
    }
    if plan.switch("skip-auth-preflight") {
        let route = Route {
            path: "/".to_owned(),
            path_match: "Prefix",
            methods: vec!["OPTIONS"],
        };
        if !add(&mut routes, &route) {
            plan.note(
                "--skip-auth-preflight: not carried over, because / is public otherwise already",
            );
        }
    }
    let route = |route: &Route| json!({"path": route.path, "match": route.path_match, "methods": route.methods});
    routes.iter().map(route).collect()
}

#[derive(Clone)]
struct Route {
    path: String,
    path_match: &'static str,
    methods: Vec<&'static str>,
}

impl Route {
    /// `METHOD=^/path$`, `^/path`, `^/path/.*`. An expression that is not bound to the start of the path, or
    /// has any other sign of its kind, is none of these.
    fn parse(rule: &str, has_method: bool) -> Option<Self> {
        let (method, expression) = match rule.split_once('=') {
            Some((method, expression)) if has_method => (Some(method), expression),
            _ => (None, rule),
        };
        let methods = match method {
            None | Some("") => READING.to_vec(),
            Some(method) => vec![*METHODS.iter().find(|known| **known == method)?],
        };
        let path = expression.strip_prefix('^')?;
        let (path, path_match) = match path.strip_suffix('$') {
            Some(path) => match path.strip_suffix("/.*") {
                Some(path) => (path, "Prefix"),
                None => (path, "Exact"),
            },
            None => (path.strip_suffix(".*").unwrap_or(path), "Prefix"),
        };
        let path = path
            .replace("\\.", ".")
            .replace("\\-", "-")
            .replace("\\/", "/");
        let is_dot = |path: &str| path.split('/').any(|segment| segment.ends_with('.'));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_~@-.".contains(c);
        let is_sound = path.starts_with('/')
            && path.len() <= 256
            && path.chars().all(is_plain)
            && !path.contains("//")
            && !is_dot(&path)
            && path != "/oauth2"
            && !path.starts_with("/oauth2/")
            // `.` stands for any character there, unless it is escaped.
            && expression.matches('.').count() == expression.matches("\\.").count() + expression.matches(".*").count();
        // A prefix `/` would leave everything open; nobody should come to that unasked.
        (is_sound && (path != "/" || path_match == "Exact")).then_some(Self {
            path,
            path_match,
            methods,
        })
    }
}

/// A path is named once; methods add up.
fn add(routes: &mut Vec<Route>, route: &Route) -> bool {
    match routes.iter_mut().find(|known| known.path == route.path) {
        Some(known) if known.path_match == route.path_match => {
            let methods = route
                .methods
                .iter()
                .filter(|method| !known.methods.contains(method));
            let methods: Vec<_> = methods.copied().collect();
            known.methods.extend(methods);
            true
        }
        Some(_) => false,
        None => {
            routes.push(route.clone());
            true
        }
    }
}

const READING: [&str; 2] = ["GET", "HEAD"];
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

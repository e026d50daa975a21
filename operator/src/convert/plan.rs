//! From settings to a `GlobusAuthProxy`, with what is to be known about it.

use std::collections::BTreeMap;
use std::time::Duration;

use globus_auth_crds::GlobusAuthProxy;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Map, Value, json};

use super::flags::{Fate, by_name};
use super::read::Input;
use super::settings::Given;
use super::{access, provider, upstream};
use crate::proxy::validate::{Fetched, validate};

/// What the command line says about the result.
#[derive(Default)]
pub(super) struct Target {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) external_url: Option<String>,
}

/// A configuration, converted.
#[derive(Debug)]
pub(super) struct Conversion {
    /// The resource.
    pub(super) proxy: Value,
    /// What to run before it is applied.
    pub(super) commands: Vec<String>,
    /// What is otherwise than before, or is to be looked at.
    pub(super) notes: Vec<String>,
    /// Flags that were not carried over, and why.
    pub(super) absent: Vec<String>,
    /// Flags that nothing is needed for, and why.
    pub(super) needless: Vec<String>,
}

/// A conversion under way. Refusals are collected, so that nobody mends one to meet the next.
pub(super) struct Plan<'a> {
    pub(super) input: &'a Input,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) external_url: String,
    pub(super) commands: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) refusals: Vec<String>,
}

/// Converts `input`.
///
/// # Errors
/// Everything that keeps it from being converted.
pub(super) fn plan(input: &Input, target: &Target) -> Result<Conversion, Vec<String>> {
    let mut plan = Plan {
        input,
        name: String::new(),
        namespace: None,
        external_url: String::new(),
        commands: Vec::new(),
        notes: input.notes.clone(),
        refusals: told(input, Fate::Refused),
    };
    plan.complete();
    plan.external_url(target);
    plan.named(target);
    let mut spec = Map::from_iter([("externalUrl".to_owned(), json!(plan.external_url))]);
    upstream::upstream(&mut plan, &mut spec);
    let provider = provider::provider(&mut plan);
    provider::bearer(&mut plan, &provider, &mut spec);
    let access = access::access(&mut plan, &provider);
    spec.insert("provider".to_owned(), provider);
    spec.insert("access".to_owned(), access);
    plan.session(&mut spec);
    plan.container(&mut spec);
    let mut metadata = json!({"name": plan.name});
    if let (Some(namespace), Some(members)) = (&plan.namespace, metadata.as_object_mut()) {
        members.insert("namespace".to_owned(), json!(namespace));
    }
    let proxy = json!({
        "apiVersion": "globus-auth.dev/v1alpha1",
        "kind": "GlobusAuthProxy",
        "metadata": metadata,
        "spec": spec,
    });
    if plan.refusals.is_empty() {
        plan.refusals = check(&proxy);
    }
    if !plan.refusals.is_empty() {
        return Err(plan.refusals);
    }
    Ok(Conversion {
        proxy,
        commands: plan.commands,
        notes: plan.notes,
        absent: told(input, Fate::Absent),
        needless: told(input, Fate::Needless),
    })
}

fn told(input: &Input, fate: Fate) -> Vec<String> {
    let flags = input.settings.given(fate);
    flags
        .map(|flag| format!("--{}: {}", flag.name, flag.text))
        .collect()
}

/// What the operator says of the resource, once what it refers to is there.
fn check(proxy: &Value) -> Vec<String> {
    let mut proxy: GlobusAuthProxy = match serde_json::from_value(proxy.clone()) {
        Ok(proxy) => proxy,
        Err(error) => return vec![format!("the result does not fit its schema: {error}")],
    };
    // The certificate is not here to be judged.
    proxy.spec.proxy.tls_secret_ref = None;
    let credential = || ByteString(b"to be set".to_vec());
    let keys = ["client-id", "client-secret"].map(|key| (key.to_owned(), credential()));
    let from = proxy.spec.access.emails_from.iter();
    let keys_of_map = from.map(|from| (from.config_map_key_ref.key.clone(), String::new()));
    let fetched = Fetched {
        client_secret: Some(Secret {
            data: Some(BTreeMap::from(keys)),
            ..Secret::default()
        }),
        allowlist: Some(ConfigMap {
            data: Some(keys_of_map.collect()),
            ..ConfigMap::default()
        }),
        ..Fetched::default()
    };
    match validate(&proxy, &fetched) {
        Ok(_valid) => vec![],
        Err(problems) => problems
            .into_iter()
            .map(|problem| problem.message)
            .collect(),
    }
}

impl Plan<'_> {
    pub(super) fn refuse(&mut self, flag: &str, why: &str) {
        self.refusals.push(format!("--{flag}: {why}"));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The texts that `flag` was given. What is only referred to cannot be judged.
    pub(super) fn texts(&mut self, flag: &str) -> Vec<String> {
        match self.input.settings.get(flag) {
            None => vec![],
            Some(Given::Text(texts)) => texts.clone(),
            Some(Given::Secret { .. } | Given::Elsewhere | Given::Withheld) => {
                self.refuse(
                    flag,
                    "its value is not in the files; give it as a flag in a further FILE",
                );
                vec![]
            }
        }
    }

    /// The one text that `flag` was given.
    pub(super) fn text(&mut self, flag: &str) -> Option<String> {
        self.texts(flag).pop().filter(|text| !text.is_empty())
    }

    /// Whether `flag` is on.
    pub(super) fn switch(&mut self, flag: &str) -> bool {
        let is_on = |text: &str| text == "true";
        let default = by_name(flag).is_some_and(|flag| is_on(flag.default));
        self.text(flag).map_or(default, |text| is_on(&text))
    }

    /// A file that is not here may say who may enter.
    fn complete(&mut self) {
        if self.text("config").is_some() && !self.input.has_file {
            self.refuse(
                "config",
                "the file that it names is not among the FILEs; give it, too",
            );
        }
    }

    fn external_url(&mut self, target: &Target) {
        let given = self.text("redirect-url");
        let address = target.external_url.clone().or_else(|| given.clone());
        let parsed = address.and_then(|address| url::Url::parse(&address).ok());
        let Some(url) = parsed.filter(url::Url::has_host) else {
            self.refuse(
                "redirect-url",
                "the address that users type is needed; name it by `--external-url https://HOST`",
            );
            return;
        };
        let path = given.and_then(|given| Some(url::Url::parse(&given).ok()?.path().to_owned()));
        self.external_url = url.origin().ascii_serialization();
        if path.is_none_or(|path| path != CALLBACK) {
            let note = format!("register {}{CALLBACK} at the provider", self.external_url);
            self.note(note);
        }
    }

    fn named(&mut self, target: &Target) {
        let workload = self.input.workload.as_ref();
        self.namespace = target
            .namespace
            .clone()
            .or_else(|| workload?.namespace.clone());
        let host = self.external_url.split("://").last();
        let label = host.and_then(|host| host.split(['.', ':']).next());
        let name = target
            .name
            .clone()
            .or_else(|| workload?.name.clone())
            .or_else(|| Some(label?.to_owned()));
        let is_label = |name: &String| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            name.len() <= LONGEST_NAME
                && name.chars().all(plain)
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && !name.ends_with('-')
        };
        match name.filter(is_label) {
            Some(name) => self.name = name,
            // Without an address there is no name, and that was said.
            None if self.external_url.is_empty() && target.name.is_none() => {}
            None => self.refusals.push(format!(
                "name the result by `--name NAME`: at most {LONGEST_NAME} lower-case letters, digits and -, \
                 beginning with a letter"
            )),
        }
    }

    fn session(&mut self, spec: &mut Map<String, Value>) {
        let Some(text) = self.text("cookie-expire") else {
            return;
        };
        let Some(given) = duration(&text) else {
            self.refuse("cookie-expire", "is no duration, such as 168h");
            return;
        };
        if given.is_zero() {
            self.note(
                "--cookie-expire: the session does not end with the browser; it ends after \
                 session.absoluteTimeoutSeconds, by default 7 days",
            );
            return;
        }
        let absolute = given.as_secs().clamp(60, LONGEST_SESSION.as_secs());
        if absolute != given.as_secs() {
            self.note("--cookie-expire: a session lasts from 60 seconds to 30 days");
        }
        let idle = absolute.min(IDLE.as_secs());
        if idle < absolute {
            self.note(
                "a session also ends after 12 hours without a request; see session.idleTimeoutSeconds",
            );
        }
        let session = json!({"absoluteTimeoutSeconds": absolute, "idleTimeoutSeconds": idle});
        spec.insert("session".to_owned(), session);
    }

    /// `spec.proxy`.
    fn container(&mut self, spec: &mut Map<String, Value>) {
        let mut container = Map::new();
        if !self.switch("request-logging") {
            container.insert("logLevel".to_owned(), json!("warn"));
        }
        let files = (self.text("tls-cert-file"), self.text("tls-key-file"));
        if let (Some(certificates), Some(key)) = files {
            let name = format!("{}-tls", self.name);
            self.note("--tls-cert-file: nothing but TLS is served, so whatever speaks to the proxy must, too");
            self.commands.push(format!(
                "{} create secret tls {name} --cert={} --key={}",
                self.kubectl(),
                quoted(&certificates),
                quoted(&key)
            ));
            container.insert("tlsSecretRef".to_owned(), json!({"name": name}));
        }
        if !container.is_empty() {
            spec.insert("proxy".to_owned(), Value::Object(container));
        }
    }

    /// The beginning of a command for this namespace.
    pub(super) fn kubectl(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("kubectl --namespace {}", quoted(namespace)),
            None => "kubectl".to_owned(),
        }
    }

    /// For bash, a file with what `key` of the Secret `name` holds.
    pub(super) fn secret_as_file(&self, name: &str, key: &str) -> String {
        format!(
            "<({} get secret {} --output go-template={})",
            self.kubectl(),
            quoted(name),
            quoted(&format!("{{{{index .data {key:?} | base64decode}}}}")),
        )
    }
}

/// A duration as Go writes it, in whole seconds: `168h0m0s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut number = String::new();
    let mut rest = text.chars().peekable();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    while let Some(c) = rest.next() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            'h' => 3600,
            'm' if rest.peek() != Some(&'s') => 60,
            's' => 1,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit)?;
        total = total.checked_add(part)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then(|| Duration::from_secs(total))
}

/// One word for a shell.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const CALLBACK: &str = "/oauth2/callback";
/// A Service is named after a Standalone proxy.
const LONGEST_NAME: usize = 51;
/// The longest that the schema allows.
const LONGEST_SESSION: Duration = Duration::from_hours(30 * 24);
/// As the schema has it by default.
const IDLE: Duration = Duration::from_hours(12);

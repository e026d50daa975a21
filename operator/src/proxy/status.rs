//! What a proxy's status says. Computing it is pure; [`crate::proxy::apply`] writes it.

use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::proxy::{Exposure, GlobusAuthProxyStatus, PodCounts};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::pods::{PodFacts, Reported};
use super::validate::Problem;

/// What came of one reconciliation.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The proxy's name.
    pub proxy: &'a str,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// What keeps it from being carried out.
    pub problems: &'a [Problem],
    /// Names the configuration that is in the cluster.
    pub config_hash: Option<&'a str>,
    /// The redirect address.
    pub callback_url: Option<&'a str>,
    /// The pods that it selects.
    pub pods: &'a [PodFacts],
    /// The image that new pods get.
    pub sidecar_image: &'a str,
    /// With mode Standalone, the proxy's Deployment.
    pub standalone: Option<Availability>,
    /// Whether a vault is named.
    pub has_vault: bool,
    /// What exposure means for readiness.
    pub exposure: Exposure,
}

/// Whether the pods of a Deployment serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// There is no Deployment, because the proxy cannot be carried out.
    Unknown,
    /// Enough of them do.
    Available,
    /// Too few do.
    Unavailable,
}

impl Availability {
    /// Reads what the Deployment's controller says of its newest template.
    pub fn of(deployment: &Deployment) -> Self {
        let Some(status) = &deployment.status else {
            return Self::Unavailable;
        };
        let is_available = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Available" && condition.status == TRUE);
        let is_about_this = status.observed_generation == deployment.metadata.generation;
        if is_about_this && is_available {
            Self::Available
        } else {
            Self::Unavailable
        }
    }
}

/// Computes the status. A condition's time moves only when its status does.
pub fn compute(
    old: Option<&GlobusAuthProxyStatus>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> GlobusAuthProxyStatus {
    let previous = old
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut parts = vec![config_valid(outcome), credentials_resolved(outcome)];
    parts.extend(outcome.has_vault.then(|| vault_connected(outcome)));
    match outcome.standalone {
        Some(availability) => parts.push(available(availability)),
        None => parts.extend([injected(outcome, previous), upstream_protected(outcome)]),
    }
    let ready = ready(&parts, outcome.exposure);
    let condition = |verdict: &Verdict| dated(verdict, previous, outcome.generation, now);
    GlobusAuthProxyStatus {
        observed_generation: outcome.generation,
        callback_url: outcome.callback_url.map(str::to_owned),
        config_hash: outcome.config_hash.map(str::to_owned),
        pods: Some(counts(outcome)),
        conditions: std::iter::once(&ready)
            .chain(&parts)
            .map(condition)
            .collect(),
    }
}

/// The conditions that turned False, or whose reason changed while False, and Ready if it turned True:
/// what is worth an Event.
pub fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |condition: &&Condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let same =
            before.is_some_and(|b| b.status == condition.status && b.reason == condition.reason);
        // Ready repeats what another condition says; by itself it is news only when all is well.
        let speaks = (condition.status == FALSE) != (condition.type_ == types::READY);
        !same && speaks
    };
    new.iter().filter(is_news).collect()
}

/// A condition without its time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Verdict {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl Verdict {
    fn new(
        type_: &'static str,
        status: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

fn dated(
    verdict: &Verdict,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = previous
        .iter()
        .find(|condition| condition.type_ == verdict.type_);
    let unchanged = before.filter(|condition| condition.status == verdict.status);
    Condition {
        type_: verdict.type_.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        }),
    }
}

fn problem(outcome: &Outcome<'_>, type_: &'static str) -> Option<Verdict> {
    let of_type: Vec<&Problem> = outcome
        .problems
        .iter()
        .filter(|problem| problem.condition == type_)
        .collect();
    let first = of_type.first()?;
    let messages: Vec<&str> = of_type
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    Some(Verdict::new(
        type_,
        FALSE,
        first.reason,
        messages.join("; "),
    ))
}

fn config_valid(outcome: &Outcome<'_>) -> Verdict {
    let type_ = types::CONFIG_VALID;
    let refused = || {
        own(outcome).find_map(|pod| match &pod.config {
            Reported::Bad(error) => Some(Verdict::new(
                type_,
                FALSE,
                reasons::CONFIG_REFUSED,
                format!(
                    "pod {:?} keeps its last good configuration: {error}",
                    pod.name
                ),
            )),
            Reported::Nothing | Reported::Good => None,
        })
    };
    problem(outcome, type_).or_else(refused).unwrap_or_else(|| {
        Verdict::new(
            type_,
            TRUE,
            reasons::VALID,
            "the resource can be carried out",
        )
    })
}

fn credentials_resolved(outcome: &Outcome<'_>) -> Verdict {
    let type_ = types::CREDENTIALS_RESOLVED;
    let found = || {
        Verdict::new(
            type_,
            TRUE,
            reasons::FOUND,
            "client id and secret were found",
        )
    };
    problem(outcome, type_).unwrap_or_else(found)
}

fn vault_connected(outcome: &Outcome<'_>) -> Verdict {
    let type_ = types::VAULT_CONNECTED;
    let found = || Verdict::new(type_, TRUE, reasons::FOUND, "the vault knows the client");
    problem(outcome, type_).unwrap_or_else(found)
}

/// The pods that this proxy protects, or should.
fn own<'a>(outcome: &Outcome<'a>) -> impl Iterator<Item = &'a PodFacts> {
    let proxy = outcome.proxy;
    outcome
        .pods
        .iter()
        .filter(move |pod| pod.protector.as_deref() == Some(proxy))
}

/// The pods that this proxy selects and that have no sidecar of their own: also those that nobody protects,
/// because their annotation names a proxy that does not select them.
fn bare<'a>(outcome: &Outcome<'a>) -> impl Iterator<Item = &'a PodFacts> {
    let proxy = outcome.proxy;
    outcome.pods.iter().filter(move |pod| {
        pod.sidecar_image.is_none() && pod.protector.as_deref().is_none_or(|name| name == proxy)
    })
}

fn injected(outcome: &Outcome<'_>, previous: &[Condition]) -> Verdict {
    let type_ = types::INJECTED;
    let foreign = outcome.pods.iter().find_map(|pod| {
        let protector = pod
            .protector
            .as_deref()
            .filter(|name| *name != outcome.proxy)?;
        Some((pod, protector))
    });
    if let Some((pod, protector)) = foreign {
        let message = format!(
            "pod {:?} is selected by GlobusAuthProxy {protector:?}, too, which protects it; make \
             the selectors disjoint",
            pod.name
        );
        return Verdict::new(type_, FALSE, reasons::CONFLICT, message);
    }
    let bare: Vec<&str> = bare(outcome).map(|pod| pod.name.as_str()).collect();
    if !bare.is_empty() {
        let message = format!(
            "{} {} no sidecar: label the pod template {}: {} and restart the workload",
            sample(&bare),
            if bare.len() == 1 { "has" } else { "have" },
            globus_auth_crds::INJECT_LABEL,
            globus_auth_crds::INJECT_ENABLED,
        );
        return Verdict::new(type_, FALSE, reasons::PODS_NOT_INJECTED, message);
    }
    if let Some(refused) = standing_refusal(outcome, previous) {
        return refused;
    }
    match own(outcome).count() {
        0 => Verdict::new(
            type_,
            UNKNOWN,
            reasons::NO_PODS,
            "no pod has the labels of spec.selector",
        ),
        1 => Verdict::new(type_, TRUE, reasons::INJECTED, "1 pod has the sidecar"),
        n => Verdict::new(
            type_,
            TRUE,
            reasons::INJECTED,
            format!("{n} pods have the sidecar"),
        ),
    }
}

/// What the webhook wrote stays until the resource changes or a later pod was admitted.
fn standing_refusal(outcome: &Outcome<'_>, previous: &[Condition]) -> Option<Verdict> {
    let refused = previous.iter().find(|condition| {
        condition.type_ == types::INJECTED
            && condition.status == FALSE
            && condition.reason == reasons::INJECTION_REFUSED
            && condition.observed_generation == outcome.generation
    })?;
    let later = own(outcome).any(|pod| pod.created_at > Some(refused.last_transition_time.0));
    (!later).then(|| {
        Verdict::new(
            types::INJECTED,
            FALSE,
            reasons::INJECTION_REFUSED,
            refused.message.clone(),
        )
    })
}

fn available(availability: Availability) -> Verdict {
    let verdict =
        |status, reason, message: &str| Verdict::new(types::AVAILABLE, status, reason, message);
    match availability {
        Availability::Unknown => verdict(UNKNOWN, reasons::NO_PODS, "there is no Deployment yet"),
        Availability::Available => verdict(
            TRUE,
            reasons::MINIMUM_REPLICAS_AVAILABLE,
            "enough pods of the proxy's Deployment are ready",
        ),
        Availability::Unavailable => verdict(
            FALSE,
            reasons::MINIMUM_REPLICAS_UNAVAILABLE,
            "too few pods of the proxy's Deployment are ready; look at the Deployment and its pods",
        ),
    }
}

fn upstream_protected(outcome: &Outcome<'_>) -> Verdict {
    let type_ = types::UPSTREAM_PROTECTED;
    let mut reported = 0_usize;
    let mut silent = Vec::new();
    for pod in own(outcome).filter(|pod| pod.sidecar_image.is_some()) {
        match &pod.upstream {
            Reported::Bad(message) => {
                let message = format!("pod {:?}: {message}", pod.name);
                return Verdict::new(type_, FALSE, reasons::LISTENING_ON_ALL_INTERFACES, message);
            }
            Reported::Good => reported += 1,
            Reported::Nothing => silent.push(pod.name.as_str()),
        }
    }
    if reported > 0 && silent.is_empty() {
        return Verdict::new(
            type_,
            TRUE,
            reasons::LISTENING_ON_LOOPBACK,
            "the workload's port can be reached through the proxy only",
        );
    }
    let message = if silent.is_empty() {
        "no pod has the sidecar yet".to_owned()
    } else {
        format!("not heard yet from {}", sample(&silent))
    };
    Verdict::new(type_, UNKNOWN, reasons::NOT_REPORTED, message)
}

fn ready(parts: &[Verdict], exposure: Exposure) -> Verdict {
    let counts = |part: &&Verdict| {
        let reported_only = exposure == Exposure::Report && part.type_ == types::UPSTREAM_PROTECTED;
        part.status == FALSE && !reported_only
    };
    let failed = parts.iter().find(counts);
    let all_well = || Verdict::new(types::READY, TRUE, reasons::READY, "the proxy is in force");
    failed.map_or_else(all_well, |part| {
        Verdict::new(types::READY, FALSE, &part.reason, part.message.clone())
    })
}

fn counts(outcome: &Outcome<'_>) -> PodCounts {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let images = || own(outcome).filter_map(|pod| pod.sidecar_image.as_deref());
    PodCounts {
        injected: number(images().count()),
        uninjected: number(bare(outcome).count()),
        stale: number(
            images()
                .filter(|image| *image != outcome.sidecar_image)
                .count(),
        ),
    }
}

/// The first names of a list that may be long.
fn sample(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(3)
        .map(|name| format!("{name:?}"))
        .collect();
    let pods = if names.len() == 1 { "pod" } else { "pods" };
    match names.len().saturating_sub(3) {
        0 => format!("{pods} {}", shown.join(", ")),
        more => format!("{pods} {} and {more} more", shown.join(", ")),
    }
}

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

#[cfg(test)]
mod tests;

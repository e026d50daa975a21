//! The endpoint where sidecars report, and the pod's conditions that come of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use globus_auth_core::report::Report;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_crds::CONTAINER;
use globus_auth_crds::conditions::{
    POD_CONFIG_APPLIED, POD_TOKENS_PRESENT, POD_UPSTREAM_PROTECTED, reasons,
};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::events::Events;
use crate::metrics::Metrics;
use crate::proxy::pods;
use crate::reporter::{self, NotAReporter};

/// What a report needs.
pub struct Reports {
    client: Client,
    events: Events,
    metrics: Metrics,
    places: Semaphore,
}

impl Reports {
    /// Takes reports for this cluster.
    pub fn new(client: Client, events: Events, metrics: Metrics) -> Self {
        Self {
            client,
            events,
            metrics,
            places: Semaphore::new(AT_ONCE),
        }
    }
}

/// Each report makes us ask the API server, and every pod may send one. A thousand sidecars that report
/// within a minute need one of these.
const AT_ONCE: usize = 16;

/// `POST /v1/report`: writes the report into the conditions of the pod that the token names, and of no
/// other.
pub async fn receive(
    State(reports): State<Arc<Reports>>,
    headers: HeaderMap,
    Json(report): Json<Report>,
) -> StatusCode {
    let (result, status) = match handle(&reports, &headers, &report).await {
        Ok(()) => ("success", StatusCode::NO_CONTENT),
        Err(ReportError::Reporter(NotAReporter::Unauthenticated)) => {
            ("unauthenticated", StatusCode::UNAUTHORIZED)
        }
        Err(error @ ReportError::Reporter(NotAReporter::OtherPod)) => {
            tracing::info!(error = %error, "refused a report");
            ("other_pod", StatusCode::FORBIDDEN)
        }
        Err(ReportError::Busy) => ("busy", StatusCode::SERVICE_UNAVAILABLE),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "failed to take a report");
            ("error", StatusCode::SERVICE_UNAVAILABLE)
        }
    };
    reports.metrics.reported(result);
    status
}

async fn handle(
    reports: &Reports,
    headers: &HeaderMap,
    report: &Report,
) -> Result<(), ReportError> {
    let _place = reports
        .places
        .try_acquire()
        .map_err(|_full| ReportError::Busy)?;
    let (reporter, pod) = reporter::of(&reports.client, headers)
        .await
        .map_err(ReportError::Reporter)?;
    let pods: Api<Pod> = Api::namespaced(reports.client.clone(), &reporter.namespace);
    let changed = changed_conditions(&pod, report, Timestamp::now());
    if changed.is_empty() {
        return Ok(());
    }
    // The uid makes the API server refuse the patch if another pod has taken the name meanwhile.
    let patch = json!({"metadata": {"uid": reporter.uid}, "status": {"conditions": changed}});
    pods.patch_status(
        &reporter.pod,
        &PatchParams::default(),
        &Patch::Strategic(patch),
    )
    .await
    .map_err(ReportError::Write)?;
    // Whoever asks why a pod does not start looks at its Events.
    for condition in &changed {
        if condition.type_ == POD_TOKENS_PRESENT && condition.status == "False" {
            let message = condition.message.as_deref().unwrap_or_default();
            let object = pod.object_ref(&());
            reports
                .events
                .warning(&object, reasons::TOKENS_MISSING, message)
                .await;
        }
    }
    Ok(())
}

/// The conditions that `report` makes different from what `pod` has.
fn changed_conditions(pod: &Pod, report: &Report, now: Timestamp) -> Vec<PodCondition> {
    let present = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let find = |type_: &str| present.into_iter().flatten().find(|one| one.type_ == type_);
    // A proxy in a pod of its own has no workload beside it.
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let is_alone = containers.any(|container| container.name == CONTAINER);
    let tokens = tokens(report, find(POD_TOKENS_PRESENT).is_some());
    conditions(report)
        .into_iter()
        .chain(tokens)
        .filter(|condition| !is_alone || condition.type_ != POD_UPSTREAM_PROTECTED)
        .filter_map(|mut wanted| {
            let before = find(&wanted.type_);
            let same_status = before.filter(|before| before.status == wanted.status);
            wanted.last_transition_time = same_status
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(now)));
            let is_same = same_status.is_some_and(|before| {
                before.reason == wanted.reason && before.message == wanted.message
            });
            (!is_same).then_some(wanted)
        })
        .collect()
}

fn condition(type_: &str, good: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: type_.to_owned(),
        status: if good { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..PodCondition::default()
    }
}

/// Whether the pod's files have their tokens; said of pods only that have, or once had, none.
fn tokens(report: &Report, was_told: bool) -> Option<PodCondition> {
    match &report.missing_tokens {
        Some(missing) => Some(condition(
            POD_TOKENS_PRESENT,
            false,
            reasons::TOKENS_MISSING,
            clipped(missing, 512),
        )),
        None => was_told.then(|| {
            let message = "every token that the pod finds in a file is there".to_owned();
            condition(POD_TOKENS_PRESENT, true, reasons::FOUND, message)
        }),
    }
}

fn conditions(report: &Report) -> [PodCondition; 2] {
    let listeners = &report.exposed_listeners;
    let upstream = if listeners.is_empty() {
        condition(
            POD_UPSTREAM_PROTECTED,
            true,
            reasons::LISTENING_ON_LOOPBACK,
            "the workload's port can be reached through the proxy only".to_owned(),
        )
    } else {
        let shown: Vec<String> = listeners
            .iter()
            .take(8)
            .map(|text| clipped(text, 64))
            .collect();
        condition(
            POD_UPSTREAM_PROTECTED,
            false,
            reasons::LISTENING_ON_ALL_INTERFACES,
            format!(
                "the workload can be reached beside the proxy at {}; make it listen on 127.0.0.1",
                shown.join(", ")
            ),
        )
    };
    let config = match &report.config_error {
        None => condition(
            POD_CONFIG_APPLIED,
            true,
            reasons::APPLIED,
            pods::in_force(&clipped(&report.config_hash, 32)),
        ),
        Some(error) => condition(
            POD_CONFIG_APPLIED,
            false,
            reasons::CONFIG_REFUSED,
            clipped(error, 512),
        ),
    };
    [upstream, config]
}

/// A sidecar may be compromised; what it says is shown, in bounds.
fn clipped(text: &str, length: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(length)
        .collect()
}

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("too many reports at once")]
    Busy,
    #[error("failed to tell who reports")]
    Reporter(#[source] NotAReporter),
    #[error("failed to write the pod's conditions")]
    Write(#[source] kube::Error),
}

#[cfg(test)]
mod tests;

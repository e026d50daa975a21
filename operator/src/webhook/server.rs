//! The admission endpoint (`admission.k8s.io/v1`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::{GROUP, GlobusAuthProxy};
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch as ApiPatch, PatchParams};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::inject::{self, Injection};
use super::policy::Policy;
use super::refusal::Refusal;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::proxy::apply::STATUS_FIELD_MANAGER;
use crate::selection;
use crate::settings::SidecarSettings;

/// What an admission needs. Nothing is asked of the API server while it waits.
pub struct Admission {
    /// The cluster, for what is written afterwards.
    pub client: Client,
    /// The proxies.
    pub proxies: Store<GlobusAuthProxy>,
    /// What new pods get.
    pub sidecar: SidecarSettings,
    /// Where events go.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
}

/// The request half of an `AdmissionReview`. The object stays raw.
#[derive(Debug, Deserialize)]
pub struct Review {
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    dry_run: bool,
}

/// The response half.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Value,
}

impl Answer {
    fn new(response: Value) -> Self {
        Self {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response,
        }
    }

    fn admitted(uid: &str, injection: &Injection) -> Result<Self, serde_json::Error> {
        let mut response = json!({"uid": uid, "allowed": true, "warnings": injection.warnings});
        if let (false, Some(members)) = (injection.patch.is_empty(), response.as_object_mut()) {
            members.insert("patchType".to_owned(), Value::from("JSONPatch"));
            members.insert("patch".to_owned(), Value::from(encoded(&injection.patch)?));
        }
        Ok(Self::new(response))
    }

    fn refused(uid: &str, message: &str) -> Self {
        let status = json!({"code": 403, "reason": "Forbidden", "message": format!("globus-auth: {message}")});
        Self::new(json!({"uid": uid, "allowed": false, "status": status}))
    }
}

fn encoded(patch: &Patch) -> Result<String, serde_json::Error> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(patch)?))
}

/// Admits a pod with its sidecar, or refuses it with the reason.
pub async fn inject(
    State(admission): State<Arc<Admission>>,
    Json(Review { request }): Json<Review>,
) -> Json<Answer> {
    let namespace = request.namespace.clone();
    let proxies = admission
        .proxies
        .state_filter(|proxy| proxy.namespace().as_deref() == Some(&namespace));
    let (protector, planned) = plan(&admission, &request, &proxies);
    let pod = pod_name(&request.object);
    match planned {
        Ok(injection) => match Answer::admitted(&request.uid, &injection) {
            Ok(answer) => {
                admission.metrics.admitted("injected");
                tracing::info!(
                    object.namespace = namespace,
                    object.name = pod,
                    "injected the sidecar"
                );
                Json(answer)
            }
            Err(error) => Json(Answer::refused(&request.uid, &error.to_string())),
        },
        Err(refusal) => {
            admission.metrics.admitted(refusal.category());
            tracing::info!(object.namespace = namespace, object.name = pod, %refusal, "refused a pod");
            let answer = Answer::refused(&request.uid, &refusal.to_string());
            if let (Some(proxy), false) = (protector, request.dry_run) {
                let message = format!("a pod ({pod}) was refused: {refusal}");
                tokio::spawn(note(admission, proxy, message));
            }
            Json(answer)
        }
    }
}

fn plan(
    admission: &Admission,
    request: &Request,
    proxies: &[Arc<GlobusAuthProxy>],
) -> (Option<Arc<GlobusAuthProxy>>, Result<Injection, Refusal>) {
    let metadata = request.object.get("metadata");
    let texts = |name: &str| {
        let texts = metadata.and_then(|metadata| metadata.get(name)).cloned();
        texts
            .and_then(|texts| serde_json::from_value(texts).ok())
            .unwrap_or_default()
    };
    let annotations = texts("annotations");
    let Some(proxy) = selection::protector(proxies, &texts("labels"), &annotations) else {
        let namespace = request.namespace.clone();
        let refusal = match annotations.get(globus_auth_crds::PROXY_ANNOTATION) {
            Some(name) => Refusal::NamedProxyMissing {
                name: name.clone(),
                namespace,
            },
            None => Refusal::NoProxy { namespace },
        };
        return (None, Err(refusal));
    };
    let invalid = || Refusal::Malformed {
        detail: "its GlobusAuthProxy has mode Standalone, or ports out of range".to_owned(),
    };
    let planned = Policy::of(proxy)
        .ok_or_else(invalid)
        .and_then(|policy| inject::plan(&request.object, &policy, &admission.sidecar));
    (Some(Arc::clone(proxy)), planned)
}

/// A pod of a controller has no name yet.
fn pod_name(pod: &Value) -> String {
    let text = |pointer| pod.pointer(pointer).and_then(Value::as_str);
    text("/metadata/name")
        .map(str::to_owned)
        .or_else(|| text("/metadata/generateName").map(|prefix| format!("{prefix}…")))
        .unwrap_or_default()
}

/// Says on the proxy that a pod of it was refused: whoever looks there would not find the pod.
async fn note(admission: Arc<Admission>, proxy: Arc<GlobusAuthProxy>, message: String) {
    let reason = reasons::INJECTION_REFUSED;
    admission
        .events
        .warning(&proxy.object_ref(&()), reason, &message)
        .await;
    let present = proxy
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let before = present
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == types::INJECTED);
    let is_known = before.is_some_and(|condition| {
        condition.reason == reason
            && condition.message == message
            && condition.observed_generation == proxy.metadata.generation
    });
    if is_known {
        return;
    }
    let since = before
        .filter(|condition| condition.status == "False")
        .map_or_else(
            || Time(Timestamp::now()),
            |condition| condition.last_transition_time.clone(),
        );
    let patch = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "GlobusAuthProxy",
        "status": {"conditions": [{
            "type": types::INJECTED,
            "status": "False",
            "reason": reason,
            "message": message,
            "observedGeneration": proxy.metadata.generation,
            "lastTransitionTime": since,
        }]},
    });
    let api: Api<GlobusAuthProxy> = Api::namespaced(
        admission.client.clone(),
        &proxy.namespace().unwrap_or_default(),
    );
    let manager = format!("{STATUS_FIELD_MANAGER}-webhook");
    let parameters = PatchParams::apply(&manager).force();
    if let Err(error) = api
        .patch_status(&proxy.name_any(), &parameters, &ApiPatch::Apply(&patch))
        .await
    {
        tracing::warn!(%error, object.name = proxy.name_any(), "failed to write the refusal into the status");
    }
}

#[cfg(test)]
mod tests;

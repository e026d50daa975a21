use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;

use super::*;
use crate::fake_api::{self, Call, Calls};
use crate::proxy::fixtures::{proxy, proxy_with, store_of};

const EVENT: &str = "POST /apis/events.k8s.io/v1/namespaces/ml/events";
const STATUS: &str =
    "PATCH /apis/globus-auth.dev/v1alpha1/namespaces/ml/globusauthproxies/mlflow/status";

fn admission(proxies: Vec<GlobusAuthProxy>) -> (Arc<Admission>, Calls) {
    let (client, calls) = fake_api::client(|call: Call| {
        let answer = match call.line.as_str() {
            STATUS => serde_json::to_value(proxy()).unwrap(),
            _ => call.body,
        };
        std::future::ready((200, answer))
    });
    let admission = Admission {
        client: client.clone(),
        proxies: store_of(proxies),
        sidecar: SidecarSettings {
            vault_image: String::new(),
            image: "sidecar:1".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            run_as_user: None,
        },
        events: Events::new(client, "operator-0".to_owned()),
        metrics: Metrics::default(),
    };
    (Arc::new(admission), calls)
}

fn pod() -> Value {
    json!({
        "metadata": {"generateName": "mlflow-", "labels": {"app": "mlflow"}},
        "spec": {"containers": [{"name": "mlflow", "ports": [{"name": "http", "containerPort": 5000}]}]},
    })
}

/// The response to a request for `pod` in the namespace `ml`.
async fn response(admission: &Arc<Admission>, pod: &Value, dry_run: bool) -> Value {
    let review =
        json!({"request": {"uid": "r-1", "namespace": "ml", "object": pod, "dryRun": dry_run}});
    let review: Review = serde_json::from_value(review).unwrap();
    let Json(answer) = inject(State(Arc::clone(admission)), Json(review)).await;
    let answer = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!(answer["response"]["uid"], "r-1");
    answer["response"].clone()
}

/// Lets the paused time pass until nothing is left to do.
async fn settled() {
    tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>())
        .await
        .unwrap_err();
}

fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_admitted_with_its_sidecar_and_without_asking_anybody() {
    let (admission, calls) = admission(vec![proxy()]);
    let response = response(&admission, &pod(), false).await;
    assert_eq!(response["allowed"], true);
    let injected = patched(&pod(), &response);
    assert_eq!(
        injected["spec"]["initContainers"][0]["name"],
        "globus-auth-proxy"
    );
    settled().await;
    assert_eq!(calls.lines(), [""; 0]);
}

#[tokio::test]
async fn a_pod_that_is_as_it_must_be_is_admitted_without_a_patch() {
    let (admission, _calls) = admission(vec![proxy()]);
    let injected = patched(&pod(), &response(&admission, &pod(), false).await);
    assert_eq!(
        response(&admission, &injected, false).await,
        json!({"uid": "r-1", "allowed": true, "warnings": []})
    );
}

#[rstest]
#[case::no_proxy(vec![], json!({}), "no GlobusAuthProxy in namespace \"ml\" selects this pod")]
#[case::one_of_another_namespace(
    vec![proxy_with(&json!({"metadata": {"namespace": "dev"}}))], json!({}),
    "no GlobusAuthProxy in namespace \"ml\" selects this pod")]
#[case::one_for_other_pods(
    vec![proxy_with(&json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}))], json!({}),
    "no GlobusAuthProxy in namespace \"ml\" selects this pod")]
#[case::one_of_another_name(
    vec![proxy()], json!({"metadata": {"annotations": {"globus-auth.dev/proxy": "typo"}}}),
    "names \"typo\", but no GlobusAuthProxy of this name in namespace \"ml\" selects this pod")]
#[case::labels_that_cannot_be_read(
    vec![proxy()], json!({"metadata": {"labels": {"app": 5}}}),
    "no GlobusAuthProxy in namespace \"ml\" selects this pod")]
#[case::no_object(vec![proxy()], json!(null), "no GlobusAuthProxy in namespace \"ml\" selects this pod")]
#[case::a_proxy_out_of_range(
    vec![proxy_with(&json!({"spec": {"proxy": {"port": 65535}}}))], json!({}),
    "its GlobusAuthProxy has mode Standalone, or ports out of range")]
#[case::a_port_that_is_not_there(
    vec![proxy_with(&json!({"spec": {"upstream": {"port": "web"}}}))], json!({}),
    "no container has a port named \"web\"")]
#[tokio::test]
async fn a_pod_that_cannot_be_protected_is_refused_with_the_reason(
    #[case] proxies: Vec<GlobusAuthProxy>,
    #[case] patch: Value,
    #[case] sentence: &str,
) {
    let mut pod = pod();
    json_patch::merge(&mut pod, &patch);
    let (admission, _calls) = admission(proxies);
    let response = response(&admission, &pod, false).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("globus-auth: ") && message.contains(sentence),
        "{message}"
    );
}

fn web() -> GlobusAuthProxy {
    proxy_with(&json!({"spec": {"upstream": {"port": "web"}}}))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_said_on_the_proxy() {
    let (admission, calls) = admission(vec![web()]);
    response(&admission, &pod(), false).await;
    settled().await;
    assert_eq!(calls.lines(), [EVENT, STATUS]);
    let status = &calls.body(STATUS)["status"];
    assert_eq!(status.as_object().unwrap().len(), 1);
    let condition = &status["conditions"][0];
    assert_eq!(
        [
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["observedGeneration"]
        ],
        [
            &json!("Injected"),
            &json!("False"),
            &json!("InjectionRefused"),
            &json!(3)
        ]
    );
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.starts_with("a pod (mlflow-…) was refused: no container has a port named \"web\""),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_writes_nothing() {
    let (admission, calls) = admission(vec![web()]);
    assert_eq!(response(&admission, &pod(), true).await["allowed"], false);
    settled().await;
    assert_eq!(calls.lines(), [""; 0]);
}

/// A proxy of which the same was said before, but for what `patch` changes.
fn refused_before(patch: &Value) -> Arc<GlobusAuthProxy> {
    let mut condition = json!({
        "type": "Injected", "status": "False", "reason": "InjectionRefused", "message": "refused",
        "observedGeneration": 3, "lastTransitionTime": "2026-03-01T00:00:00Z",
    });
    json_patch::merge(&mut condition, patch);
    Arc::new(proxy_with(&json!({"status": {"conditions": [condition]}})))
}

#[rstest]
#[case::the_same(json!({}), false)]
#[case::another_message(json!({"message": "refused before"}), true)]
#[case::another_reason(json!({"reason": "Conflict"}), true)]
#[case::another_generation(json!({"observedGeneration": 2}), true)]
#[case::another_condition(json!({"type": "Ready"}), true)]
#[tokio::test]
async fn a_refusal_that_is_known_is_not_written_again(
    #[case] patch: Value,
    #[case] is_written: bool,
) {
    let (admission, calls) = admission(vec![]);
    note(admission, refused_before(&patch), "refused".to_owned()).await;
    assert_eq!(calls.lines().contains(&STATUS.to_owned()), is_written);
}

#[rstest]
#[case("False", true)]
#[case("True", false)]
#[tokio::test]
async fn the_time_of_a_refusal_is_when_the_condition_became_false(
    #[case] status: &str,
    #[case] is_kept: bool,
) {
    let proxy = refused_before(&json!({"status": status, "message": "refused before"}));
    let (admission, calls) = admission(vec![]);
    note(admission, proxy, "refused".to_owned()).await;
    let body = calls.body(STATUS);
    let since = &body["status"]["conditions"][0]["lastTransitionTime"];
    assert_eq!(since == "2026-03-01T00:00:00Z", is_kept);
}

#[rstest]
#[case(json!({"metadata": {"name": "mlflow-0", "generateName": "mlflow-"}}), "mlflow-0")]
#[case(json!({"metadata": {"generateName": "mlflow-"}}), "mlflow-…")]
#[case(json!({}), "")]
fn a_pod_without_a_name_goes_by_its_prefix(#[case] pod: Value, #[case] name: &str) {
    assert_eq!(pod_name(&pod), name);
}

use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::fake_api::{self, Call, Calls, failure};

fn before() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

/// Nothing is wrong.
fn good() -> Report {
    Report {
        exposed_listeners: vec![],
        config_hash: "hash-1".to_owned(),
        config_error: None,
        missing_tokens: None,
    }
}

fn exposed(listeners: &[&str]) -> Report {
    Report {
        exposed_listeners: listeners.iter().map(|&text| text.to_owned()).collect(),
        ..good()
    }
}

fn refusing(error: &str) -> Report {
    Report {
        config_error: Some(error.to_owned()),
        ..good()
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> PodCondition {
    PodCondition {
        type_: format!("globus-auth.dev/{type_}"),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now())),
        ..PodCondition::default()
    }
}

fn since(time: Timestamp, condition: PodCondition) -> PodCondition {
    PodCondition {
        last_transition_time: Some(Time(time)),
        ..condition
    }
}

fn protected() -> PodCondition {
    condition(
        "UpstreamProtected",
        "True",
        "ListeningOnLoopback",
        "the workload's port can be reached through the proxy only",
    )
}

fn unprotected(listeners: &str) -> PodCondition {
    let message = format!(
        "the workload can be reached beside the proxy at {listeners}; make it listen on 127.0.0.1"
    );
    condition(
        "UpstreamProtected",
        "False",
        "ListeningOnAllInterfaces",
        &message,
    )
}

fn applied(hash: &str) -> PodCondition {
    let message = format!("configuration {hash} is in force");
    condition("ConfigApplied", "True", "Applied", &message)
}

fn refused(error: &str) -> PodCondition {
    condition("ConfigApplied", "False", "ConfigRefused", error)
}

/// What becomes of a pod that has reported `reports` before, and now reports `report`.
fn changed(reports: &[Report], report: &Report) -> Vec<PodCondition> {
    let mut pod = Pod::default();
    let present = &mut pod.status.get_or_insert_default().conditions;
    let conditions = present.get_or_insert_default();
    conditions.push(condition("Ready", "True", "", ""));
    for report in reports {
        let tokens = tokens(report, false);
        let ours = super::conditions(report).into_iter().chain(tokens);
        let ours: Vec<_> = ours.map(|condition| since(before(), condition)).collect();
        conditions.retain(|one| ours.iter().all(|condition| condition.type_ != one.type_));
        conditions.extend(ours);
    }
    changed_conditions(&pod, report, now())
}

#[rstest]
#[case::all_well(good(), [protected(), applied("hash-1")])]
#[case::exposed(exposed(&["0.0.0.0:5000", "[::]:5000"]), [unprotected("0.0.0.0:5000, [::]:5000"), applied("hash-1")])]
#[case::refusing(refusing("it is not JSON"), [protected(), refused("it is not JSON")])]
fn a_first_report_becomes_both_conditions(
    #[case] report: Report,
    #[case] conditions: [PodCondition; 2],
) {
    assert_eq!(changed(&[], &report), conditions);
    assert_eq!(
        changed_conditions(&Pod::default(), &report, now()),
        conditions
    );
}

#[rstest]
#[case::all_well(good())]
#[case::exposed(exposed(&["0.0.0.0:5000"]))]
#[case::refusing(refusing("it is not JSON"))]
fn a_report_that_says_the_same_changes_nothing(#[case] report: Report) {
    assert_eq!(changed(std::slice::from_ref(&report), &report), []);
}

#[test]
fn only_what_differs_is_written() {
    assert_eq!(
        changed(&[good()], &exposed(&["0.0.0.0:5000"])),
        [unprotected("0.0.0.0:5000")]
    );
    assert_eq!(
        changed(&[good()], &refusing("it is not JSON")),
        [refused("it is not JSON")]
    );
}

#[test]
fn a_time_moves_only_with_the_status() {
    let another = Report {
        config_hash: "hash-2".to_owned(),
        ..exposed(&["[::]:5000"])
    };
    assert_eq!(
        changed(&[exposed(&["0.0.0.0:5000"])], &another),
        [
            since(before(), unprotected("[::]:5000")),
            since(before(), applied("hash-2"))
        ]
    );
    assert_eq!(
        changed(&[exposed(&["0.0.0.0:5000"])], &good()),
        [protected()]
    );
}

#[test]
fn a_reason_that_somebody_changed_is_restored() {
    let mut pod = Pod::default();
    let [upstream, config] = conditions(&good());
    let changed = PodCondition {
        reason: Some("Sun".to_owned()),
        ..upstream
    };
    pod.status.get_or_insert_default().conditions = Some(vec![changed, config]);
    assert_eq!(
        changed_conditions(&pod, &good(), now()),
        [protected()],
        "a condition without a time gets one"
    );
}

#[test]
fn what_a_sidecar_says_is_shown_in_bounds() {
    let many: Vec<String> = (0..20).map(|port| format!("0.0.0.0:{port}")).collect();
    let report = Report {
        exposed_listeners: many.clone(),
        config_hash: "h".repeat(100),
        config_error: None,
        missing_tokens: None,
    };
    assert_eq!(
        changed(&[], &report),
        [unprotected(&many[..8].join(", ")), applied(&"h".repeat(32))]
    );
    let report = Report {
        exposed_listeners: vec!["x".repeat(1000)],
        ..refusing(&"é".repeat(1000))
    };
    assert_eq!(
        changed(&[], &report),
        [unprotected(&"x".repeat(64)), refused(&"é".repeat(512))]
    );
}

#[test]
fn what_a_sidecar_says_has_no_control_characters() {
    let report = Report {
        exposed_listeners: vec!["0.0.0.0\n:5000\u{1b}[2J".to_owned()],
        ..refusing("not\r\nJSON\u{0}")
    };
    assert_eq!(
        changed(&[], &report),
        [unprotected("0.0.0.0:5000[2J"), refused("notJSON")]
    );
}

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

// === The endpoint ===

const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const READ: &str = "GET /api/v1/namespaces/ml/pods/mlflow-0";
const WRITE: &str = "PATCH /api/v1/namespaces/ml/pods/mlflow-0/status";

const EVENT: &str = "POST /apis/events.k8s.io/v1/namespaces/ml/events";

/// What the API server says of a token of the pod `p-1`.
fn review() -> Value {
    json!({"spec": {}, "status": {
        "authenticated": true,
        "audiences": ["globus-auth-operator"],
        "user": {
            "username": "system:serviceaccount:ml:trainer",
            "extra": {POD_NAME: ["mlflow-0"], POD_UID: ["p-1"]},
        },
    }})
}

fn answer(call: &Call) -> (u16, Value) {
    match call.line.as_str() {
        REVIEW => (201, review()),
        READ => (
            200,
            json!({"metadata": {"namespace": "ml", "name": "mlflow-0", "uid": "p-1"}}),
        ),
        WRITE => (200, json!({"metadata": {"name": "mlflow-0"}})),
        _ => failure(404, "NotFound"),
    }
}

fn reports(client: Client) -> Reports {
    let events = Events::new(client.clone(), "operator-0".to_owned());
    Reports::new(client, events, Metrics::default())
}

/// Reports that all is well to a cluster that answers this.
async fn reported(
    authorization: Option<&'static str>,
    answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (StatusCode, Calls) {
    told(&good(), authorization, answer).await
}

async fn told(
    report: &Report,
    authorization: Option<&'static str>,
    answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (StatusCode, Calls) {
    let (client, calls) = fake_api::client(move |call| std::future::ready(answer(&call)));
    let reports = reports(client);
    let header = authorization.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
    let headers = header.into_iter().collect();
    let status = receive(State(Arc::new(reports)), headers, Json(report.clone())).await;
    (status, calls)
}

#[tokio::test]
async fn a_report_is_written_into_the_pod_of_its_token() {
    let (status, calls) = reported(Some("Bearer of-the-pod"), answer).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(calls.lines(), [REVIEW, READ, WRITE]);
    assert_eq!(
        calls.body(REVIEW)["spec"],
        json!({"token": "of-the-pod", "audiences": ["globus-auth-operator"]})
    );
    let written = calls.body(WRITE);
    assert_eq!(written["metadata"], json!({"uid": "p-1"}));
    let types: Vec<&Value> = written["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| &condition["type"])
        .collect();
    assert_eq!(
        types,
        [
            "globus-auth.dev/UpstreamProtected",
            "globus-auth.dev/ConfigApplied"
        ]
    );
}

/// Whoever asks why a job does not start finds it in the pod's Events.
#[tokio::test]
async fn tokens_that_a_pod_waits_for_are_told_in_an_event_of_the_pod() {
    let report = Report {
        missing_tokens: Some("no file with the token \"alcf\": ask alice\n".to_owned()),
        ..good()
    };
    let with_event = |call: &Call| match call.line.as_str() {
        EVENT => (201, call.body.clone()),
        _ => answer(call),
    };
    let (status, calls) = told(&report, Some("Bearer of-the-pod"), with_event).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(calls.lines(), [REVIEW, READ, WRITE, EVENT]);
    let event = calls.body(EVENT);
    assert_eq!(
        (&event["reason"], &event["type"]),
        (&json!("TokensMissing"), &json!("Warning"))
    );
    assert_eq!(event["note"], "no file with the token \"alcf\": ask alice");
    assert_eq!(event["regarding"]["name"], "mlflow-0");
}

#[test]
fn a_pod_that_has_its_tokens_is_said_to_only_if_it_once_had_not() {
    let missing = Report {
        missing_tokens: Some("no file".to_owned()),
        ..good()
    };
    let waits = condition("TokensPresent", "False", "TokensMissing", "no file");
    assert_eq!(changed(&[], &missing).last(), Some(&waits));
    assert!(
        !changed(&[], &good())
            .iter()
            .any(|one| one.type_ == waits.type_)
    );
    let message = "every token that the pod finds in a file is there";
    let has_all = condition("TokensPresent", "True", "Found", message);
    assert_eq!(changed(&[missing], &good()).last(), Some(&has_all));
}

#[tokio::test]
async fn more_reports_than_the_api_server_should_hear_of_at_once_are_told_to_come_again() {
    let (client, calls) = fake_api::client(|_| std::future::pending());
    let reports = Arc::new(reports(client));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
    let send = || receive(State(Arc::clone(&reports)), headers.clone(), Json(good()));
    let waiting: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(send())).collect();
    while reports.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(send().await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(calls.lines().len() <= AT_ONCE);
    for one in waiting {
        one.abort();
    }
}

#[tokio::test]
async fn a_report_that_says_the_same_writes_nothing() {
    let present = conditions(&good());
    let (status, calls) = reported(Some("Bearer of-the-pod"), move |call| match &*call.line {
        READ => {
            let metadata = json!({"name": "mlflow-0", "uid": "p-1"});
            (
                200,
                json!({"metadata": metadata, "status": {"conditions": present}}),
            )
        }
        _ => answer(call),
    })
    .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(calls.lines(), [REVIEW, READ]);
}

#[rstest]
#[case::none(None)]
#[case::of_another_kind(Some("Basic b2Y6cG9k"))]
#[tokio::test]
async fn without_a_token_nothing_is_asked(#[case] authorization: Option<&'static str>) {
    let (status, calls) = reported(authorization, answer).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(calls.lines(), [""; 0]);
}

#[rstest]
#[case::not_authentic(json!({"status": {"authenticated": false}}))]
#[case::not_said_to_be_authentic(json!({"status": {"authenticated": null}}))]
#[case::for_somebody_else(json!({"status": {"audiences": ["https://kubernetes.default.svc"]}}))]
#[case::for_nobody(json!({"status": {"audiences": null}}))]
#[case::of_no_pod(json!({"status": {"user": {"extra": null}}}))]
#[case::of_no_user(json!({"status": {"user": null}}))]
#[case::not_reviewed(json!({"status": null}))]
#[tokio::test]
async fn a_token_that_does_not_name_a_pod_to_us_is_refused(#[case] patch: Value) {
    let (status, calls) = reported(Some("Bearer of-whom"), move |call| match &*call.line {
        REVIEW => {
            let mut review = review();
            json_patch::merge(&mut review, &patch);
            (201, review)
        }
        _ => answer(call),
    })
    .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(calls.lines(), [REVIEW]);
}

#[rstest]
#[case::gone(failure(404, "NotFound"))]
#[case::another_of_this_name((200, json!({"metadata": {"name": "mlflow-0", "uid": "p-2"}})))]
#[tokio::test]
async fn a_report_of_a_pod_that_is_gone_is_refused(#[case] pod: (u16, Value)) {
    let (status, calls) = reported(Some("Bearer of-the-pod"), move |call| match &*call.line {
        READ => pod.clone(),
        _ => answer(call),
    })
    .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(calls.lines(), [REVIEW, READ]);
}

#[rstest]
#[case(REVIEW)]
#[case(READ)]
#[case(WRITE)]
#[tokio::test]
async fn a_report_that_cannot_be_taken_may_be_sent_again(#[case] failing: &'static str) {
    let (status, _calls) = reported(Some("Bearer of-the-pod"), move |call| {
        if call.line == failing {
            failure(500, "InternalError")
        } else {
            answer(call)
        }
    })
    .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_proxy_in_a_pod_of_its_own_says_nothing_of_a_workload() {
    let pod: Pod = serde_json::from_value(json!({
        "spec": {"containers": [{"name": "globus-auth-proxy"}]},
    }))
    .unwrap();
    let changed = changed_conditions(&pod, &good(), now());
    let types: Vec<&str> = changed.iter().map(|one| one.type_.as_str()).collect();
    assert_eq!(types, ["globus-auth.dev/ConfigApplied"]);
}

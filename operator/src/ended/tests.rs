use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::ManualClock;
use globus_auth_core::ended::{Ended, Sessions};
use globus_auth_core::identity::NameDigest;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::fake_api::{self, Call, Calls, failure};
use crate::proxy::fixtures::{proxy, proxy_with, secret, store_of};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LATER: UnixSeconds = UnixSeconds(1_800_086_400);
const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "GET /api/v1/namespaces/ml/pods/mlflow-0";
const READ: &str = "GET /api/v1/namespaces/ml/secrets/mlflow-globus-auth";
const WRITE: &str = "PATCH /api/v1/namespaces/ml/secrets/mlflow-globus-auth";
const LIST: &str = "GET /api/v1/namespaces/ml/pods";
const TELL: &str = "PATCH /api/v1/namespaces/ml/pods/mlflow-0";

fn ended(subject: &str) -> Ended {
    Ended {
        subject: Some(NameDigest::of(subject)),
        sessions: Sessions::Before(NOW),
    }
}

fn message(subjects: &[&str]) -> EndSessions {
    EndSessions {
        ended: subjects.iter().map(|one| (ended(one), LATER)).collect(),
    }
}

fn list(subjects: &[&str]) -> EndedList {
    let mut list = EndedList::default();
    for subject in subjects {
        list.add(ended(subject), LATER, NOW);
    }
    list
}

/// The proxy's Secret, with `ended` in it.
fn stored(ended: Option<&[u8]>) -> Value {
    let mut data = json!({"config.json": STANDARD.encode("{}")});
    if let Some(ended) = ended {
        data["ended.json"] = json!(STANDARD.encode(ended));
    }
    json!({
        "metadata": {
            "name": "mlflow-globus-auth", "namespace": "ml", "resourceVersion": "7",
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "mlflow", "uid": "u-1"}],
        },
        "data": data,
    })
}

fn answer(call: &Call) -> (u16, Value) {
    let pod = json!({"metadata": {
        "name": "mlflow-0", "namespace": "ml", "uid": "p-1", "labels": {"app": "mlflow"},
    }});
    match call.line.as_str() {
        REVIEW => (
            201,
            json!({"spec": {}, "status": {
                "authenticated": true,
                "audiences": ["globus-auth-operator"],
                "user": {
                    "username": "system:serviceaccount:ml:trainer",
                    "extra": {
                        "authentication.kubernetes.io/pod-name": ["mlflow-0"],
                        "authentication.kubernetes.io/pod-uid": ["p-1"],
                    },
                },
            }}),
        ),
        POD | TELL => (200, pod),
        READ | WRITE => (200, stored(None)),
        LIST => (200, json!({"metadata": {}, "items": [pod]})),
        _ => failure(404, "NotFound"),
    }
}

fn endings(
    proxies: Vec<GlobusAuthProxy>,
    answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (Arc<Endings>, Calls) {
    let (client, calls) = fake_api::client(move |call| std::future::ready(answer(&call)));
    let clock = Arc::new(ManualClock::at(NOW));
    let endings = Endings::new(client, store_of(proxies), Metrics::default(), clock);
    (Arc::new(endings), calls)
}

async fn send(endings: &Arc<Endings>, message: EndSessions) -> StatusCode {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
    receive(State(Arc::clone(endings)), headers, Json(message)).await
}

/// The list in the body of a write.
fn written(calls: &Calls) -> EndedList {
    let body = calls.body(WRITE);
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    let text = body["data"]["ended.json"].as_str().unwrap();
    EndedList::parse(&STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_ended_is_written_for_the_proxy_of_the_pod_and_its_pods_are_told() {
    let (endings, calls) = endings(vec![proxy()], answer);
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(calls.lines(), [REVIEW, POD, READ, WRITE, LIST, TELL]);
    assert_eq!(written(&calls), list(&["alice"]));
    let told = calls.body(TELL);
    assert!(told["metadata"]["annotations"]["globus-auth.dev/ended"].is_string());
}

#[tokio::test(start_paused = true)]
async fn sign_outs_at_the_same_time_are_written_at_once() {
    let (endings, calls) = endings(vec![proxy()], answer);
    let (one, other) = tokio::join!(
        send(&endings, message(&["alice"])),
        send(&endings, message(&["bob"]))
    );
    assert_eq!(
        (one, other),
        (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT)
    );
    assert_eq!(written(&calls), list(&["alice", "bob"]));
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_stays_and_what_is_over_goes() {
    let mut before = list(&["alice"]);
    let gone = Ended {
        sessions: Sessions::Before(UnixSeconds(1)),
        ..ended("gone")
    };
    before.add(gone, UnixSeconds(2), UnixSeconds(1));
    let before = serde_json::to_vec(&before).unwrap();
    let (endings, calls) = endings(vec![proxy()], move |call| match &*call.line {
        READ => (200, stored(Some(&before))),
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["bob"])).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(written(&calls), list(&["alice", "bob"]));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_already_is_not_written_again() {
    let before = serde_json::to_vec(&list(&["alice"])).unwrap();
    let (endings, calls) = endings(vec![proxy()], move |call| match &*call.line {
        READ => (200, stored(Some(&before))),
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(calls.lines(), [REVIEW, POD, READ]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_ends_everything() {
    let (endings, calls) = endings(vec![proxy()], |call| match &*call.line {
        READ => (200, stored(Some(b"garbage"))),
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::NO_CONTENT
    );
    let mut expected = EndedList::of_everything(NOW);
    expected.add(ended("alice"), LATER, NOW);
    assert_eq!(written(&calls), expected);
}

#[tokio::test(start_paused = true)]
async fn when_another_replica_writes_at_the_same_time_it_is_tried_again() {
    let refused = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&refused);
    let (endings, calls) = endings(vec![proxy()], move |call| match &*call.line {
        WRITE if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => {
            failure(409, "Conflict")
        }
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::NO_CONTENT
    );
    let lines = calls.lines();
    assert_eq!(lines.iter().filter(|line| *line == WRITE).count(), 3);
    assert_eq!(lines.iter().filter(|line| *line == READ).count(), 3);
}

#[rstest]
#[case::cannot_be_read(READ, failure(500, "InternalError"))]
#[case::is_gone(READ, failure(404, "NotFound"))]
#[case::cannot_be_written(WRITE, failure(403, "Forbidden"))]
#[case::is_of_somebody_else(READ, (200, json!({"metadata": {"name": "mlflow-globus-auth"}})))]
#[tokio::test(start_paused = true)]
async fn what_was_not_written_is_to_be_told_again(
    #[case] line: &'static str,
    #[case] bad: (u16, Value),
) {
    let (endings, calls) = endings(vec![proxy()], move |call| {
        if call.line == line {
            bad.clone()
        } else {
            answer(call)
        }
    });
    let status = send(&endings, message(&["alice"])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!calls.lines().contains(&TELL.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_told_keeps_nobody_from_it() {
    let (endings, _calls) = endings(vec![proxy()], |call| match &*call.line {
        TELL => failure(403, "Forbidden"),
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::NO_CONTENT
    );
}

#[rstest]
#[case::no_proxy(vec![])]
#[case::a_proxy_of_another_namespace(vec![proxy_with(&json!({"metadata": {"namespace": "other"}}))])]
#[case::a_proxy_of_other_pods(vec![proxy_with(&json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}))])]
#[tokio::test(start_paused = true)]
async fn a_pod_speaks_for_the_proxy_that_protects_it_only(#[case] proxies: Vec<GlobusAuthProxy>) {
    let (endings, calls) = endings(proxies, answer);
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(calls.lines(), [REVIEW, POD]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_for_us_ends_nothing() {
    let (endings, calls) = endings(vec![proxy()], |call| match &*call.line {
        REVIEW => (201, json!({"spec": {}, "status": {"authenticated": false}})),
        _ => answer(call),
    });
    assert_eq!(
        send(&endings, message(&["alice"])).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(calls.lines(), [REVIEW]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_bounded() {
    let (endings, calls) = endings(vec![proxy()], answer);
    let names: Vec<String> = (0..=MAX_IN_MESSAGE).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(
        send(&endings, message(&names)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(calls.lines(), [""; 0]);
}

#[test]
fn an_empty_list_is_not_written() {
    let secret = secret(&[("config.json", b"{}")]);
    assert_eq!(updated(&secret, &EndSessions::default(), NOW), None);
}

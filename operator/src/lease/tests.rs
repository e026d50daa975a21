use std::collections::VecDeque;
use std::sync::Arc;

use kube::core::Status;
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::fake_api::{self, Calls, failure};

const GET: &str = "GET /apis/coordination.k8s.io/v1/namespaces/system/leases/leader";
const PUT: &str = "PUT /apis/coordination.k8s.io/v1/namespaces/system/leases/leader";
const POST: &str = "POST /apis/coordination.k8s.io/v1/namespaces/system/leases";

fn lease_of(holder: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": "leader", "namespace": "system", "resourceVersion": version},
        "spec": {
            "holderIdentity": holder, "leaseTransitions": 4,
            "acquireTime": "2026-03-01T00:00:00.000000Z", "renewTime": "2026-03-01T00:00:00.000000Z",
        },
    })
}

/// The candidate `us`, for an API server that gives these answers.
fn candidate<Answering>(
    answer: impl Fn(fake_api::Call) -> Answering + Clone + Send + Sync + 'static,
) -> (Candidate, Calls)
where
    Answering: Future<Output = (u16, Value)> + Send + 'static,
{
    let (client, calls) = fake_api::client(answer);
    (Candidate::new(client, "system", "leader", "us"), calls)
}

/// How the API server takes one renewal: what passes before it is written, whether it is, and what
/// passes before the answer.
#[derive(Clone, Copy, Debug)]
struct Renewal(Duration, bool, Duration);

const REFUSED: Renewal = Renewal(Duration::ZERO, false, Duration::ZERO);
const TAKEN: Renewal = Renewal(Duration::ZERO, true, Duration::ZERO);
const REFUSED_LATE: Renewal = Renewal(Duration::from_millis(7900), false, Duration::ZERO);
const ANSWERED_LATE: Renewal = Renewal(Duration::ZERO, true, Duration::from_millis(7500));

/// After `renewals`, the API server answers no more.
#[rstest]
#[case::no_answer(&[])]
#[case::refused(&[REFUSED; 10])]
#[case::no_answer_after_a_renewal(&[TAKEN])]
#[case::refused_late(&[TAKEN, REFUSED_LATE])]
#[case::refused_late_twice(&[TAKEN, REFUSED_LATE, REFUSED_LATE])]
#[case::answered_late(&[ANSWERED_LATE])]
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_one_can_lead(
    #[case] renewals: &'static [Renewal],
) {
    let written = Arc::new(Mutex::new(Instant::now()));
    let script = Arc::new(Mutex::new(VecDeque::from_iter(renewals)));
    let last_written = Arc::clone(&written);
    let (candidate, _calls) = candidate(move |call| {
        let (script, written) = (Arc::clone(&script), Arc::clone(&written));
        async move {
            if call.line == GET {
                return (200, lease_of("us", "1"));
            }
            let renewal = script.lock().pop_front();
            let Some(Renewal(before, taken, after)) = renewal else {
                return std::future::pending().await;
            };
            tokio::time::sleep(*before).await;
            if *taken {
                *written.lock() = Instant::now();
            }
            tokio::time::sleep(*after).await;
            if *taken {
                (200, call.body)
            } else {
                failure(500, "InternalError")
            }
        }
    });
    candidate.deposed().await;
    let age = last_written.lock().elapsed();
    assert!(age < DURATION, "it led for {age:?} after its last renewal");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_leads_on() {
    let (candidate, _calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => (200, lease_of("us", "1")),
        _ => (200, call.body),
    });
    let hour = tokio::time::timeout(Duration::from_hours(1), candidate.deposed()).await;
    assert!(hour.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leader_stops_when_another_one_holds_the_lease() {
    let (candidate, calls) = candidate(async |_call| (200, lease_of("them", "1")));
    candidate.deposed().await;
    assert_eq!(calls.lines(), [GET]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_stops_when_another_one_was_faster() {
    let (candidate, calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => (200, lease_of("us", "1")),
        _ => failure(409, "Conflict"),
    });
    candidate.deposed().await;
    assert_eq!(calls.lines(), [GET, PUT]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_made() {
    let (candidate, calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => failure(404, "NotFound"),
        _ => (201, call.body),
    });
    candidate.elected().await;
    assert_eq!(calls.lines(), [GET, POST]);
    let made = calls.body(POST);
    assert_eq!(made["metadata"], json!({"name": "leader"}));
    assert_eq!(made["spec"]["holderIdentity"], "us");
    assert_eq!(made["spec"]["leaseDurationSeconds"], 15);
}

#[rstest]
#[case::given_up(json!(null))]
#[case::given_up_by_name(json!(""))]
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_up_is_taken_at_once(#[case] holder: Value) {
    let (candidate, calls) = candidate(move |call| {
        let mut lease = lease_of("", "7");
        lease["spec"]["holderIdentity"] = holder.clone();
        let answer = if call.line == GET { lease } else { call.body };
        std::future::ready((200, answer))
    });
    candidate.elected().await;
    assert_eq!(calls.lines(), [GET, PUT]);
    let taken = calls.body(PUT);
    assert_eq!(taken["metadata"]["resourceVersion"], "7");
    assert_eq!(taken["spec"]["holderIdentity"], "us");
    assert_eq!(taken["spec"]["leaseTransitions"], 5);
    assert_ne!(
        taken["spec"]["acquireTime"],
        lease_of("", "")["spec"]["acquireTime"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_when_the_lease_was_taken() {
    let (candidate, calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => (200, lease_of("us", "7")),
        _ => (200, call.body),
    });
    assert!(candidate.renew().await.unwrap());
    let (before, renewed) = (lease_of("us", "7"), calls.body(PUT));
    assert_eq!(renewed["metadata"]["resourceVersion"], "7");
    assert_eq!(renewed["spec"]["leaseTransitions"], 4);
    assert_eq!(
        renewed["spec"]["acquireTime"],
        before["spec"]["acquireTime"]
    );
    assert_ne!(renewed["spec"]["renewTime"], before["spec"]["renewTime"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_renews_is_taken_when_it_has_run_out() {
    let (candidate, _calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => (200, lease_of("them", "7")),
        _ => (200, call.body),
    });
    let start = Instant::now();
    candidate.elected().await;
    assert!(start.elapsed() >= DURATION, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_renews_is_not_taken() {
    let version = Arc::new(Mutex::new(0_u64));
    let (candidate, calls) = candidate(move |_call| {
        let mut version = version.lock();
        // Every seventh time that we look: just before it runs out.
        *version += 1;
        let lease = lease_of("them", &(*version / 7).to_string());
        std::future::ready((200, lease))
    });
    let hour = tokio::time::timeout(Duration::from_hours(1), candidate.elected()).await;
    assert!(hour.is_err());
    assert!(calls.lines().iter().all(|line| line == GET));
}

#[rstest]
#[case(409, "Conflict", Some(false))]
#[case(409, "AlreadyExists", Some(false))]
#[case(403, "Forbidden", None)]
fn somebody_faster_is_no_error(
    #[case] code: u16,
    #[case] reason: &str,
    #[case] expected: Option<bool>,
) {
    let status = Status::failure(reason, reason).with_code(code).boxed();
    assert_eq!(won(Err(kube::Error::Api(status))).ok(), expected);
}

#[tokio::test]
async fn a_lease_of_ours_is_given_up() {
    let (candidate, calls) = candidate(async |call: fake_api::Call| match call.line.as_str() {
        GET => (200, lease_of("us", "7")),
        _ => (200, call.body),
    });
    candidate.resign().await;
    let given_up = calls.body(PUT);
    assert_eq!(given_up["spec"].get("holderIdentity"), None);
    assert_eq!(given_up["metadata"]["resourceVersion"], "7");
}

#[tokio::test]
async fn a_lease_of_another_one_is_not_given_up() {
    let (candidate, calls) = candidate(async |_call| (200, lease_of("them", "7")));
    candidate.resign().await;
    assert_eq!(calls.lines(), [GET]);
}

use globus_auth_core::clock::ManualClock;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::fake_api::{self, Call, Calls, failure};

const READ: &str = "GET /api/v1/namespaces/system/secrets/authorities";
const CREATE: &str = "POST /api/v1/namespaces/system/secrets";
const REPLACE: &str = "PUT /api/v1/namespaces/system/secrets/authorities";
const LOOK_UP: &str =
    "GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/webhook";
const REGISTER: &str =
    "PATCH /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/webhook";

const START: UnixSeconds = UnixSeconds(1_800_000_000);
const LIFETIMES: Lifetimes = Lifetimes {
    authority: Duration::from_mins(150),
    leaf: Duration::from_secs(1000),
    announcement: Duration::from_secs(10),
};

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds(START.0 + seconds)
}

fn first() -> Authorities {
    Authorities::create(START, &LIFETIMES).unwrap()
}

fn announced() -> Authorities {
    let changed = first().take(Step::Announce, at(6000), &LIFETIMES);
    changed.unwrap().unwrap()
}

fn secret(json: &[u8]) -> Value {
    json!({
        "metadata": {"name": "authorities", "namespace": "system", "resourceVersion": "7"},
        "data": {KEY: STANDARD.encode(json)},
    })
}

fn registration(bundle: &str) -> Value {
    let ours = json!({
        "name": WEBHOOK, "clientConfig": {"caBundle": STANDARD.encode(bundle)},
        "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun",
    });
    let mut other = ours.clone();
    other["name"] = json!("other.test");
    other["clientConfig"]["caBundle"] = json!(STANDARD.encode("other"));
    json!({"metadata": {"name": "webhook"}, "webhooks": [other, ours]})
}

/// A cluster in which this is stored (null: nothing) and that is registered.
fn rotation(stored: Value, registered: &str, now: UnixSeconds) -> (Rotation, Calls) {
    let registered = registration(registered);
    let (client, calls) = fake_api::client(move |call: Call| {
        let answer = match call.line.as_str() {
            READ if stored.is_null() => failure(404, "NotFound"),
            READ => (200, stored.clone()),
            LOOK_UP => (200, registered.clone()),
            _ => (200, call.body),
        };
        std::future::ready(answer)
    });
    let rotation = Rotation {
        client,
        namespace: "system".to_owned(),
        secret: "authorities".to_owned(),
        webhook_configuration: "webhook".to_owned(),
        names: vec!["globus-auth.system.svc".to_owned()],
        lifetimes: LIFETIMES,
        clock: Arc::new(ManualClock::at(now)),
        metrics: Metrics::default(),
    };
    (rotation, calls)
}

fn stored(authorities: &Authorities) -> Value {
    secret(&serde_json::to_vec(authorities).unwrap())
}

/// The authorities in the body of a write.
fn written(calls: &Calls, line: &str) -> Authorities {
    let body: Secret = serde_json::from_value(calls.body(line)).unwrap();
    serde_json::from_slice(&body.data.unwrap()[KEY].0).unwrap()
}

fn registered(calls: &Calls) -> String {
    let body = calls.body(REGISTER);
    let webhooks = body["webhooks"].as_array().unwrap();
    assert_eq!(webhooks.len(), 1);
    assert_eq!(webhooks[0]["name"], WEBHOOK);
    let bundle = webhooks[0]["clientConfig"]["caBundle"].as_str().unwrap();
    String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap()
}

#[tokio::test]
async fn the_first_authority_is_made_and_registered() {
    let (rotation, calls) = rotation(Value::Null, "", START);
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, CREATE, LOOK_UP, REGISTER]);
    let made = written(&calls, CREATE);
    assert_eq!(made.current.created_at, START);
    assert_eq!(registered(&calls), made.bundle());
}

#[tokio::test]
async fn nothing_is_written_while_nothing_is_due() {
    let first = first();
    let (rotation, calls) = rotation(stored(&first), &first.bundle(), at(5999));
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, LOOK_UP]);
}

#[tokio::test]
async fn a_registration_that_somebody_changed_is_restored() {
    let first = first();
    let (rotation, calls) = rotation(stored(&first), "evil", START);
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, LOOK_UP, REGISTER]);
    assert_eq!(registered(&calls), first.bundle());
}

#[tokio::test]
async fn the_next_authority_is_registered_when_it_is_announced() {
    let first = first();
    let (rotation, calls) = rotation(stored(&first), &first.bundle(), at(6000));
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, REPLACE, LOOK_UP, REGISTER]);
    let announced = written(&calls, REPLACE);
    assert_eq!(announced.current, first.current);
    assert_eq!(registered(&calls), announced.bundle());
    assert!(registered(&calls).contains(&announced.next.unwrap().certificate));
}

#[tokio::test]
async fn the_next_authority_does_not_sign_before_it_is_registered() {
    let (rotation, calls) = rotation(stored(&announced()), &first().bundle(), at(6010));
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, LOOK_UP, LOOK_UP, REGISTER]);
}

#[tokio::test]
async fn the_next_authority_signs_when_it_is_registered_and_announced() {
    let announced = announced();
    let (rotation, calls) = rotation(stored(&announced), &announced.bundle(), at(6010));
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.lines(), [READ, LOOK_UP, REPLACE, LOOK_UP, REGISTER]);
    assert_eq!(written(&calls, REPLACE).current, announced.next.unwrap());
}

#[tokio::test]
async fn a_write_is_bound_to_what_was_read() {
    let first = first();
    let (rotation, calls) = rotation(stored(&first), &first.bundle(), at(6000));
    rotation.lead_once().await.unwrap();
    assert_eq!(calls.body(REPLACE)["metadata"]["resourceVersion"], "7");
}

#[rstest]
#[case::without_the_key(json!({"metadata": {}}))]
#[case::not_json(secret(b"PEM"))]
#[case::of_another_version(secret(b"{}"))]
#[tokio::test]
async fn authorities_that_cannot_be_read_are_not_overwritten(#[case] stored: Value) {
    let (rotation, calls) = rotation(stored, "", START);
    assert!(matches!(
        rotation.lead_once().await,
        Err(RotationError::Parse(_))
    ));
    assert_eq!(calls.lines(), [READ]);
}

#[rstest]
#[case(300, 10_000)]
#[case(20, 5000)]
#[case(1, 500)]
#[case(0, 500)]
fn the_cluster_is_looked_at_several_times_per_announcement(
    #[case] announcement_seconds: u64,
    #[case] millis: u64,
) {
    let lifetimes = Lifetimes {
        announcement: Duration::from_secs(announcement_seconds),
        ..LIFETIMES
    };
    assert_eq!(interval(&lifetimes), Duration::from_millis(millis));
}

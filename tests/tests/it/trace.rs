//! What whoever traces requests through several programs sees of ours.

use std::time::Duration;

use globus_auth_core::sidecar_config::Tracing;
use globus_auth_tests::harness::scripted::{self, Received, Scripted};
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Browser, Stage, eventually};
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn collector(status: u16) -> Scripted {
    Scripted::start(move |_: &Received, _| scripted::json(status, &json!({}))).await
}

async fn traced(collector: &Scripted, rate: u32) -> Stage {
    let endpoint = collector.origin().parse().unwrap();
    Stage::setup()
        .config(move |config| {
            config.tracing = Some(Tracing {
                endpoint,
                sampling_rate_per_million: rate,
            });
        })
        .start()
        .await
}

/// What the workload saw of the trace.
async fn seen(browser: &Browser, path: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut request = browser.get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let reflection = request.send().await.reflection();
    let all = reflection.headers.into_iter();
    all.filter(|(name, _)| name.starts_with("trace")).collect()
}

/// The spans that the collector has.
fn spans(collector: &Scripted) -> Vec<Value> {
    let requests = collector.requests();
    let of = |request: &Received| -> Vec<Value> {
        assert_eq!(request.target(), "/v1/traces");
        let told: Value = serde_json::from_slice(&request.body).unwrap();
        let spans = &told["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans.as_array().unwrap().clone()
    };
    requests.iter().flat_map(of).collect()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    headers.iter().map(owned).collect()
}

#[tokio::test]
async fn without_a_collector_a_trace_passes_as_it_is() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let (sampled, odd) = (traceparent("01"), "not a trace");
    for value in [sampled.as_str(), odd] {
        let headers = [("traceparent", value), ("tracestate", "vendor=1")];
        assert_eq!(seen(&alice, "/", &headers).await, owned(&headers));
    }
}

#[tokio::test]
async fn a_recorded_trace_has_our_span_between_its_caller_and_the_workload() {
    let collector = collector(200).await;
    let mut stage = traced(&collector, 0).await;
    let alice = stage.logged_in(ALICE).await;
    let sampled = traceparent("01");
    let headers = [
        ("traceparent", sampled.as_str()),
        ("tracestate", "vendor=1"),
    ];
    let seen = seen(&alice, "/runs?secret=canary-query", &headers).await;
    let [(_, ours), (_, state)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(state, "vendor=1");
    let parts: Vec<&str> = ours.split('-').collect();
    let [_, trace, span, flags] = parts[..] else {
        panic!("{ours}");
    };
    assert_eq!((trace, flags), (TRACE, "01"));
    assert_ne!(span, PARENT);
    // It is told at the latest when the sidecar stops.
    stage.sidecar.ask_to_stop();
    assert!(stage.sidecar.stopped().await.success());
    let told = spans(&collector);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["traceId"], TRACE);
    assert_eq!(told[0]["spanId"], span);
    assert_eq!(told[0]["parentSpanId"], PARENT);
    let text = told[0].to_string();
    assert!(text.contains(r#"{"stringValue":"/runs"}"#), "{text}");
    for secret in ["canary-query", ALICE, "Cookie"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(stage.sidecar.secrets().found_in(&[text]), None);
}

#[tokio::test]
async fn what_is_not_recorded_passes_as_it_is_and_makes_no_span() {
    let collector = collector(200).await;
    let mut stage = traced(&collector, 0).await;
    let alice = stage.logged_in(ALICE).await;
    let not_sampled = traceparent("00");
    let headers = [("traceparent", not_sampled.as_str()), ("tracestate", "v=1")];
    assert_eq!(seen(&alice, "/", &headers).await, owned(&headers));
    assert_eq!(seen(&alice, "/", &[]).await, []);
    stage.sidecar.ask_to_stop();
    assert!(stage.sidecar.stopped().await.success());
    assert_eq!(spans(&collector), Vec::<Value>::new());
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_at_the_rate_that_is_set() {
    let collector = collector(200).await;
    let mut stage = traced(&collector, 1_000_000).await;
    let alice = stage.logged_in(ALICE).await;
    let several = [
        ("traceparent", traceparent("01")),
        ("traceparent", traceparent("01")),
    ];
    let several = several.each_ref().map(|(name, value)| (*name, &**value));
    let invalid = [("traceparent", "00-1-2-3"), ("tracestate", "v=1")];
    for headers in [&[][..], &several[..], &invalid[..]] {
        let seen = seen(&alice, "/", headers).await;
        let [(name, value)] = &seen[..] else {
            panic!("{seen:?}");
        };
        assert!(name == "traceparent" && !value.contains(TRACE), "{value}");
    }
    // They come by themselves, too.
    let interval = Duration::from_secs(15);
    globus_auth_tests::harness::wait::eventually_within(interval, "the spans", async || {
        (spans(&collector).len() >= 3).then_some(())
    })
    .await;
    assert!(
        spans(&collector)
            .iter()
            .all(|span| span.get("parentSpanId").is_none())
    );
    stage
        .sidecar
        .reconfigure(|config| config.tracing = None)
        .await;
    assert_eq!(seen(&alice, "/", &[]).await, []);
}

#[tokio::test]
async fn a_collector_that_refuses_is_said_once_and_costs_no_request() {
    let collector = collector(503).await;
    let stage = traced(&collector, 1_000_000).await;
    let alice = stage.logged_in(ALICE).await;
    // More than are sent at once, twice.
    for _ in 0..1_200 {
        assert_eq!(alice.get("/").send().await.status, 200);
    }
    eventually("spans to be lost", async || {
        (stage
            .sidecar
            .metric("trace_spans_total{outcome=\"failed\"}")
            .await
            >= 1_024)
            .then_some(())
    })
    .await;
    let events = stage.sidecar.events();
    let said = |event: &&Value| {
        event["message"]
            .as_str()
            .is_some_and(|text| text.contains("does not take traces"))
    };
    assert_eq!(events.iter().filter(said).count(), 1);
}

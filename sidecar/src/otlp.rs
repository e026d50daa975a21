//! Spans on their way to a collector, by the OpenTelemetry Protocol: OTLP/HTTP with JSON.

use std::time::Duration;

use globus_auth_core::runtime::http_client::{HttpClient, SendError};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::sidecar_config::ProxyReference;
use globus_auth_core::trace_context::Hex;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::trace::Span;

/// Takes spans and sends them, some at a time. Dropped, it sends what it has.
#[derive(Debug)]
pub(crate) struct Exporter {
    messages: mpsc::Sender<Message>,
    metrics: Metrics,
}

#[derive(Debug)]
enum Message {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

impl Exporter {
    /// Starts sending to `address`.
    pub(crate) fn start(
        address: String,
        proxy: &ProxyReference,
        http: HttpClient,
        metrics: Metrics,
    ) -> Self {
        let (messages, received) = mpsc::channel(MOST_WAITING);
        let sender = Sender {
            address,
            resource: resource(proxy),
            http,
            metrics: metrics.clone(),
            fails: false,
        };
        tokio::spawn(sender.run(received));
        Self { messages, metrics }
    }

    /// Sends `span` with the next.
    pub(crate) fn take(&self, span: Span) {
        if self
            .messages
            .try_send(Message::Span(Box::new(span)))
            .is_err()
        {
            self.metrics.spans("dropped", 1);
        }
    }

    /// Sends what it has, and waits until that was taken, or refused, for a short while.
    pub(crate) async fn flush(&self) {
        let flushed = async {
            let (done, flushed) = oneshot::channel();
            if self.messages.send(Message::Flush(done)).await.is_ok() {
                // An error is the end of the task, which has nothing then.
                flushed.await.unwrap_or_default();
            }
        };
        if tokio::time::timeout(LAST, flushed).await.is_err() {
            tracing::warn!("the last traces were not taken in time");
        }
    }
}

struct Sender {
    address: String,
    resource: Value,
    http: HttpClient,
    metrics: Metrics,
    /// Whether the last attempt failed, which is said once.
    fails: bool,
}

impl Sender {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut spans: Vec<Span> = Vec::new();
        let mut due = Instant::now();
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = tokio::time::sleep_until(due), if !spans.is_empty() => {
                    self.send(&mut spans).await;
                    continue;
                }
            };
            match message {
                Some(Message::Span(span)) => {
                    if spans.is_empty() {
                        due = Instant::now() + INTERVAL;
                    }
                    spans.push(*span);
                    if spans.len() >= MOST_AT_ONCE {
                        self.send(&mut spans).await;
                    }
                }
                Some(Message::Flush(done)) => {
                    self.send(&mut spans).await;
                    // Whoever asked may have lost patience.
                    done.send(()).unwrap_or_default();
                }
                None => {
                    self.send(&mut spans).await;
                    return;
                }
            }
        }
    }

    /// Sends `spans` once: what is lost now is not worth the memory of keeping it.
    async fn send(&mut self, spans: &mut Vec<Span>) {
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return;
        }
        let body = message(&self.resource, spans).to_string();
        spans.clear();
        let result = self.post(body.into_bytes()).await;
        let fails = result.is_err();
        match result {
            Ok(()) if self.fails => tracing::info!("the collector takes traces again"),
            Err(error) if !self.fails => {
                tracing::warn!(error = %Chain(&error), "the collector does not take traces; until it does, they are lost");
            }
            Ok(()) | Err(_) => {}
        }
        self.fails = fails;
        let outcome = if fails { "failed" } else { "exported" };
        self.metrics.spans(outcome, count);
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), ExportError> {
        let request = Request::post(&self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(ExportError::Address)?;
        let answer = self.http.send(request).await.map_err(ExportError::Send)?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(ExportError::Refused(answer.status()))
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("failed to address the collector")]
    Address(#[source] http::Error),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
    #[error("failed to reach the collector")]
    Send(#[source] SendError),
}

/// Who speaks (OpenTelemetry semantic conventions for resources).
fn resource(proxy: &ProxyReference) -> Value {
    let attributes = [
        text("service.name", "globus-auth"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("k8s.namespace.name", &proxy.namespace),
        text("globus_auth.proxy.name", &proxy.name),
    ];
    json!({ "attributes": attributes })
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// An `ExportTraceServiceRequest`. Numbers of 64 bits are text, and ids hexadecimal (OTLP, "JSON Protobuf
/// Encoding").
fn message(resource: &Value, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let scope = json!({"name": "globus-auth-sidecar", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": resource,
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

/// A server's span (OpenTelemetry semantic conventions for HTTP spans).
fn span(span: &Span) -> Value {
    let begun = &span.begun;
    let mut told = json!({
        "traceId": Hex(&begun.trace_id).to_string(),
        "spanId": Hex(&begun.id).to_string(),
        "name": begun.method,
        "kind": SERVER,
        "startTimeUnixNano": nanoseconds(begun.start),
        "endTimeUnixNano": nanoseconds(begun.start.saturating_add(span.duration)),
        "attributes": [
            text("http.request.method", begun.method),
            text("url.path", &begun.path),
            {"key": "http.response.status_code", "value": {"intValue": span.status.to_string()}},
            text("globus_auth.decision", span.decision),
        ],
    });
    if let Some(told) = told.as_object_mut() {
        if let Some(parent) = &begun.parent_id {
            told.insert("parentSpanId".to_owned(), json!(Hex(parent).to_string()));
        }
        if span.status >= 500 {
            told.insert("status".to_owned(), json!({"code": ERROR}));
        }
    }
    told
}

fn nanoseconds(since_epoch: Duration) -> String {
    since_epoch.as_nanos().to_string()
}

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// More are lost: a span is about 300 bytes.
const MOST_WAITING: usize = 2048;
const MOST_AT_ONCE: usize = 512;
const INTERVAL: Duration = Duration::from_secs(5);
/// What is left of the time that a pod has to stop.
const LAST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Begun;

    fn answered(parent_id: Option<[u8; 8]>, status: u16) -> Span {
        Span {
            begun: Begun {
                trace_id: [0x0a; 16],
                id: [0x0b; 8],
                parent_id,
                method: "GET",
                path: "/experiments".to_owned(),
                start: Duration::from_nanos(1_800_000_000_000_000_001),
            },
            status,
            decision: "forward",
            duration: Duration::from_micros(250),
        }
    }

    #[test]
    fn a_message_is_what_collectors_take() {
        let proxy = ProxyReference {
            namespace: "ml".to_owned(),
            name: "mlflow".to_owned(),
            uid: "u".to_owned(),
        };
        let told = message(&resource(&proxy), &[answered(Some([0x0c; 8]), 200)]);
        let of = &told["resourceSpans"][0];
        let resource = &of["resource"]["attributes"];
        assert_eq!(
            resource[2],
            json!({"key": "k8s.namespace.name", "value": {"stringValue": "ml"}})
        );
        let span = &of["scopeSpans"][0]["spans"][0];
        assert_eq!(
            *span,
            json!({
                "traceId": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
                "spanId": "0b0b0b0b0b0b0b0b",
                "parentSpanId": "0c0c0c0c0c0c0c0c",
                "name": "GET",
                "kind": 2,
                "startTimeUnixNano": "1800000000000000001",
                "endTimeUnixNano": "1800000000000250001",
                "attributes": [
                    {"key": "http.request.method", "value": {"stringValue": "GET"}},
                    {"key": "url.path", "value": {"stringValue": "/experiments"}},
                    {"key": "http.response.status_code", "value": {"intValue": "200"}},
                    {"key": "globus_auth.decision", "value": {"stringValue": "forward"}},
                ],
            })
        );
    }

    #[test]
    fn a_fault_of_ours_is_an_error_and_one_of_the_client_is_not() {
        assert_eq!(span(&answered(None, 502))["status"]["code"], 2);
        assert_eq!(span(&answered(None, 403)).get("status"), None);
        assert_eq!(span(&answered(None, 200)).get("parentSpanId"), None);
    }
}

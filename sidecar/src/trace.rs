//! Spans of requests, for whoever follows one through several programs (W3C Trace Context). What becomes
//! of them is in [`crate::otlp`].

use std::time::Duration;

use globus_auth_core::clock::Clock;
use globus_auth_core::random;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::sidecar_config::{self as config, ProxyReference};
use globus_auth_core::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use http::Request;
use http::header::{HeaderMap, HeaderValue};

use crate::metrics::Metrics;
use crate::otlp::Exporter;

/// Which requests have a span, and where it goes.
#[derive(Debug)]
pub(crate) struct Tracing {
    config: config::Tracing,
    exporter: Exporter,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) trace_id: [u8; 16],
    pub(crate) id: [u8; 8],
    /// The span that caused it; none begins a trace.
    pub(crate) parent_id: Option<[u8; 8]>,
    pub(crate) method: &'static str,
    /// Without the query, which may hold secrets.
    pub(crate) path: String,
    /// Since 1970.
    pub(crate) start: Duration,
}

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) begun: Begun,
    pub(crate) status: u16,
    pub(crate) decision: &'static str,
    /// Until the head of the answer.
    pub(crate) duration: Duration,
}

impl Tracing {
    pub(crate) fn start(
        config: config::Tracing,
        proxy: &ProxyReference,
        http: HttpClient,
        metrics: Metrics,
    ) -> Self {
        let exporter = Exporter::start(config.endpoint.traces(), proxy, http, metrics);
        Self { config, exporter }
    }

    /// Whether it was made for this.
    pub(crate) fn is(&self, config: &config::Tracing) -> bool {
        self.config == *config
    }

    /// Begins the span of `request`, if it is to be recorded, and lets the workload know whose work it does.
    ///
    /// What a trace has decided before holds here, too. A request without trace begins one now and then.
    /// What is not recorded is passed on as it came.
    pub(crate) fn begin<B>(&self, request: &mut Request<B>, clock: &dyn Clock) -> Option<Begun> {
        let parent = parent(request.headers());
        let trace_id = match parent {
            Some(parent) if parent.is_sampled => parent.trace_id,
            Some(_not_sampled) => return None,
            None => self.new_trace()?,
        };
        let id = new_id()?;
        let ours = TraceContext {
            trace_id,
            parent_id: id,
            is_sampled: true,
        };
        let value = HeaderValue::try_from(ours.to_string()).ok()?;
        request.headers_mut().insert(TRACEPARENT, value);
        if parent.is_none() {
            // It belongs to the trace that a malformed header meant.
            request.headers_mut().remove(TRACESTATE);
        }
        Some(Begun {
            trace_id,
            id,
            parent_id: parent.map(|parent| parent.parent_id),
            method: known(request.method()),
            path: shortened(request.uri().path()).to_owned(),
            start: clock.since_epoch(),
        })
    }

    /// Ends a span. If there are more than can be sent, it is lost.
    pub(crate) fn end(&self, span: Span) {
        self.exporter.take(span);
    }

    /// Sends what is there.
    pub(crate) async fn flush(&self) {
        self.exporter.flush().await;
    }

    fn new_trace(&self) -> Option<[u8; 16]> {
        let rate = u128::from(self.config.sampling_rate_per_million);
        if rate == 0 {
            return None;
        }
        let id: [u8; 16] = random::bytes().ok()?;
        let is_chosen = u128::from_be_bytes(id) % 1_000_000 < rate;
        (is_chosen && id != [0; 16]).then_some(id)
    }
}

fn new_id() -> Option<[u8; 8]> {
    random::bytes().ok().filter(|id| *id != [0; 8])
}

/// Several headers are as good as none (W3C Trace Context §3.2.1).
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}

/// A method that is in use; names that clients make up would never end.
fn known(method: &http::Method) -> &'static str {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let found = METHODS.iter().find(|known| **known == method.as_str());
    found.copied().unwrap_or("_OTHER")
}

fn shortened(path: &str) -> &str {
    let end = path.floor_char_boundary(LONGEST_PATH);
    path.get(..end).unwrap_or(path)
}

/// As much of a path as is of use.
const LONGEST_PATH: usize = 512;

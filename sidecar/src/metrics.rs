//! What the sidecar counts. Labels come from closed lists, never from requests or users.

use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The sidecar's metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    decisions: Family<DecisionLabels, Counter>,
    /// The one of `decisions` that most requests count, found once.
    forwarded: Arc<OnceLock<Counter>>,
    logins: Family<LoginLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    spans: Family<SpanLabels, Counter>,
    pub(crate) tunnels: Gauge,
    pub(crate) exposed: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    decision: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct LoginLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SpanLabels {
    outcome: &'static str,
}

impl Metrics {
    /// Counts one request.
    pub(crate) fn decided(&self, decision: &'static str) {
        let counter = || {
            let labels = DecisionLabels { decision };
            self.decisions.get_or_create_owned(&labels)
        };
        if decision == "forward" {
            self.forwarded.get_or_init(counter).inc();
        } else {
            counter().inc();
        }
    }

    /// Counts the end of one login.
    pub(crate) fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&LoginLabels { outcome }).inc();
    }

    /// Counts one change of the configuration.
    pub(crate) fn reloaded(&self, result: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    /// Counts what became of spans.
    pub(crate) fn spans(&self, outcome: &'static str, count: u64) {
        let labels = SpanLabels { outcome };
        self.spans.get_or_create(&labels).inc_by(count);
    }

    /// A registry with all of them.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("globus_auth_sidecar");
        registry.register(
            "decisions",
            "Requests by what was decided",
            self.decisions.clone(),
        );
        registry.register("logins", "Logins by how they ended", self.logins.clone());
        registry.register(
            "config_reloads",
            "Changed configurations by result",
            self.reloads.clone(),
        );
        registry.register(
            "trace_spans",
            "Spans of traced requests by what became of them",
            self.spans.clone(),
        );
        registry.register(
            "open_tunnels",
            "Upgraded connections that are open",
            self.tunnels.clone(),
        );
        registry.register(
            "upstream_exposed",
            "1 if the workload can be reached beside the proxy",
            self.exposed.clone(),
        );
        registry
    }
}

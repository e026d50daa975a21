//! What the operator counts. Labels come from closed lists, never from names of objects.

use globus_auth_core::clock::UnixSeconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The operator's metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reconciliations: Family<ResultLabels, Counter>,
    admissions: Family<ResultLabels, Counter>,
    reports: Family<ResultLabels, Counter>,
    endings: Family<ResultLabels, Counter>,
    leader: Gauge,
    authority_not_after: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabels {
    result: &'static str,
}

impl Metrics {
    /// Counts one reconciliation.
    pub fn reconciled(&self, result: &'static str) {
        self.reconciliations
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// Counts one admission.
    pub fn admitted(&self, result: &'static str) {
        self.admissions
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// Counts one report of a sidecar.
    pub fn reported(&self, result: &'static str) {
        self.reports.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts one message of a sidecar about sessions that ended.
    pub fn ended(&self, result: &'static str) {
        self.endings.get_or_create(&ResultLabels { result }).inc();
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// When the certificate authority ends.
    pub fn authority_ends(&self, at: UnixSeconds) {
        let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
        self.authority_not_after.set(seconds);
    }

    /// A registry with all of them.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("globus_auth_operator");
        registry.register(
            "reconciliations",
            "Reconciliations by result",
            self.reconciliations.clone(),
        );
        registry.register(
            "admissions",
            "Pods that asked for the sidecar by result",
            self.admissions.clone(),
        );
        registry.register(
            "reports",
            "Reports of sidecars by result",
            self.reports.clone(),
        );
        registry.register(
            "ended_sessions_messages",
            "Messages of sidecars about sessions that ended, by result",
            self.endings.clone(),
        );
        registry.register("leader", "1 if this replica leads", self.leader.clone());
        registry.register(
            "authority_not_after_seconds",
            "When the certificate authority of the webhook ends, in seconds since 1970",
            self.authority_not_after.clone(),
        );
        registry
    }
}

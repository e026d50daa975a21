//! What the vault counts. Labels come from closed lists, never from requests or users.

use globus_auth_core::vault_status::VaultStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The vault's metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    refreshes: Family<Result, Counter>,
    tokens: Family<Result, Counter>,
    grants: Family<State, Gauge>,
    pending: Gauge,
    ending: Gauge,
    revocations: Gauge,
    unreachable: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Result {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: String,
}

impl Metrics {
    /// Counts one refresh.
    pub fn refreshed(&self, result: &'static str) {
        self.refreshes.get_or_create(&Result { result }).inc();
    }

    /// Counts one request for an access token.
    pub fn asked(&self, result: &'static str) {
        self.tokens.get_or_create(&Result { result }).inc();
    }

    /// Shows what the vault says about itself.
    pub fn show(&self, status: &VaultStatus) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in &status.grants {
            let state = State {
                state: state.clone(),
            };
            self.grants.get_or_create(&state).set(number(*count));
        }
        self.pending.set(number(status.keyring.pending()));
        self.ending.set(number(status.ending));
        self.revocations.set(number(status.revocations));
        let unreachable = u64::try_from(status.unreachable_issuers.len());
        self.unreachable
            .set(number(unreachable.unwrap_or_default()));
    }

    /// A registry with all of them.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("globus_auth_vault");
        registry.register(
            "refreshes",
            "Refreshes of grants by how they ended",
            self.refreshes.clone(),
        );
        registry.register(
            "token_requests",
            "Requests for access tokens by what was answered",
            self.tokens.clone(),
        );
        registry.register("grants", "Grants by state", self.grants.clone());
        registry.register(
            "keyring_pending_grants",
            "Grants that are stored under another key than the primary",
            self.pending.clone(),
        );
        registry.register(
            "ending_grants",
            "Grants whose users must soon log in again, because a session policy ends",
            self.ending.clone(),
        );
        registry.register(
            "pending_revocations",
            "Grants that were taken back here, and not yet at their issuers",
            self.revocations.clone(),
        );
        registry.register(
            "unreachable_issuers",
            "Issuers that do not answer now",
            self.unreachable.clone(),
        );
        registry
    }
}

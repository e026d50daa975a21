//! What a vault's status says. Pure.

use globus_auth_core::vault_config::VaultConfig;
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::vault::{Client, TokenVaultStatus};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::proxy::validate::Problem;

/// Whether the pods of a vault serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// They do.
    Available,
    /// They do not, or not all of what is newest.
    Unavailable,
}

impl Availability {
    const fn of(is_available: bool) -> Self {
        if is_available {
            Self::Available
        } else {
            Self::Unavailable
        }
    }

    /// Reads what its controller says.
    pub fn of_stateful_set(set: &StatefulSet) -> Self {
        let status = set.status.as_ref();
        Self::of(status.is_some_and(|status| {
            status.observed_generation == set.metadata.generation
                && status.available_replicas.unwrap_or_default() >= 1
        }))
    }

    /// Reads what its controller says.
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let status = deployment.status.as_ref();
        Self::of(status.is_some_and(|status| {
            status.observed_generation == deployment.metadata.generation
                && status.available_replicas.unwrap_or_default() >= 1
        }))
    }
}

/// What came of one reconciliation.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// What keeps the vault from being carried out.
    pub problems: &'a [Problem],
    /// Where sidecars ask.
    pub url: String,
    /// The certificate that is shown.
    pub certificate: Option<String>,
    /// What was rendered.
    pub config: Option<&'a VaultConfig>,
    /// Whether it serves.
    pub availability: Availability,
}

/// The status after `outcome`, where `old` was before.
pub fn compute(
    old: Option<&TokenVaultStatus>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> TokenVaultStatus {
    let about = |type_: &'static str, reason: &'static str| {
        let problem = outcome.problems.iter().find(|one| one.condition == type_);
        match problem {
            Some(problem) => (type_, "False", problem.reason, problem.message.clone()),
            None => (type_, "True", reason, String::new()),
        }
    };
    let available = match outcome.availability {
        Availability::Available => (
            types::AVAILABLE,
            "True",
            reasons::MINIMUM_REPLICAS_AVAILABLE,
            String::new(),
        ),
        Availability::Unavailable => (
            types::AVAILABLE,
            "False",
            reasons::MINIMUM_REPLICAS_UNAVAILABLE,
            "no pod of the vault is ready; look at its pods and their logs".to_owned(),
        ),
    };
    let mut conditions = vec![
        about(types::CONFIG_VALID, reasons::VALID),
        about(types::CREDENTIALS_RESOLVED, reasons::FOUND),
        about(types::KEYRING_HEALTHY, reasons::FOUND),
        available,
    ];
    let missing = conditions.iter().find(|condition| condition.1 == "False");
    let ready = match missing {
        Some((_, _, reason, message)) => (types::READY, "False", *reason, message.clone()),
        None => (types::READY, "True", reasons::READY, String::new()),
    };
    conditions.insert(0, ready);
    let before = |type_: &str| {
        let conditions = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
        conditions.iter().find(|one| one.type_ == type_)
    };
    TokenVaultStatus {
        observed_generation: outcome.generation,
        url: Some(outcome.url.clone()),
        certificate_authorities: outcome.certificate.clone(),
        clients: match outcome.config {
            Some(config) => config.issuers.iter().map(client).collect(),
            None => old.map(|old| old.clients.clone()).unwrap_or_default(),
        },
        conditions: conditions
            .into_iter()
            .map(|(type_, status, reason, message)| Condition {
                last_transition_time: before(type_)
                    .filter(|before| before.status == status)
                    .map_or(Time(now), |before| before.last_transition_time.clone()),
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: outcome.generation,
            })
            .collect(),
    }
}

fn client(issuer: &globus_auth_core::vault_config::Issuer) -> Client {
    Client {
        issuer: issuer.issuer.as_str().to_owned(),
        client_id: issuer.client_id.clone(),
    }
}

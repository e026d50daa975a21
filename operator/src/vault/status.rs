//! What a vault's status says. Pure.

use std::collections::BTreeSet;

use globus_auth_core::vault_config::VaultConfig;
use globus_auth_core::vault_status::VaultStatus;
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::vault::{Client, GrantCounts, KeyringStatus, TokenVaultStatus};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::proxy::status;
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
    /// The ids of its keys, the oldest first.
    pub keys: Vec<String>,
    /// What its pods say.
    pub replicas: &'a [VaultStatus],
}

/// The status after `outcome`, where `old` was before.
pub fn compute(
    old: Option<&TokenVaultStatus>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> TokenVaultStatus {
    let rows = rows(outcome);
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
        // While no pod answers, what was last known stays.
        keyring: match outcome.replicas {
            [] => old.and_then(|old| old.keyring.clone()),
            replicas => keyring(&outcome.keys, replicas),
        },
        grants: match outcome.replicas.first() {
            Some(replica) => Some(grants(replica)),
            None => old.and_then(|old| old.grants.clone()),
        },
        conditions: rows
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

/// The conditions: type, status, reason and message, in the order in which they are shown.
fn rows(outcome: &Outcome<'_>) -> Vec<Row> {
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
        storage(outcome.replicas),
    ];
    let missing = conditions.iter().find(|condition| condition.1 == "False");
    let ready = match missing {
        Some((_, _, reason, message)) => (types::READY, "False", *reason, message.clone()),
        None => (types::READY, "True", reasons::READY, String::new()),
    };
    conditions.insert(0, ready);
    // While an issuer is away, what it gave before is given out.
    conditions.push(issuers(outcome.replicas));
    conditions.push(users(outcome.replicas));
    conditions
}

/// The conditions of `new` that are worth an Event: as for a proxy, and when the counts of grants that need their
/// users have changed.
pub fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let mut news = status::news(old, new);
    let is_counted = |one: &&Condition| one.type_ == types::GRANTS_HEALTHY && one.status == "False";
    let counted = new.iter().filter(is_counted).filter(|one| {
        let before = old.iter().find(|before| before.type_ == one.type_);
        before.is_some_and(|before| before.status == "False" && before.message != one.message)
    });
    news.extend(counted);
    news
}

type Row = (&'static str, &'static str, &'static str, String);

fn unknown(type_: &'static str) -> Row {
    let message = "no pod of the vault says so; it is asked on its port 4181".to_owned();
    (type_, "Unknown", reasons::NOT_REPORTED, message)
}

fn storage(replicas: &[VaultStatus]) -> Row {
    let type_ = types::STORAGE_READY;
    if replicas.is_empty() {
        return unknown(type_);
    }
    if replicas.iter().all(|replica| replica.is_storage_ready) {
        return (type_, "True", reasons::READY, String::new());
    }
    let message = "the database does not answer; look at the vault's log, and at the database";
    (
        type_,
        "False",
        reasons::STORAGE_UNAVAILABLE,
        message.to_owned(),
    )
}

fn issuers(replicas: &[VaultStatus]) -> Row {
    let type_ = types::ISSUERS_REACHABLE;
    if replicas.is_empty() {
        return unknown(type_);
    }
    let all = |names: fn(&VaultStatus) -> &Vec<String>| {
        let names: BTreeSet<&String> = replicas.iter().flat_map(names).collect();
        let names = names.into_iter().map(String::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let names = all(|replica| &replica.refusing_issuers);
    if !names.is_empty() {
        let message = format!(
            "{names}: the client is not accepted; look at its clientSecretRef, and at the client there. Tokens that are \
             there are given out until they end"
        );
        return (type_, "False", reasons::CLIENT_REFUSED, message);
    }
    let names = all(|replica| &replica.unreachable_issuers);
    if names.is_empty() {
        return (type_, "True", reasons::READY, String::new());
    }
    let message = format!(
        "{names}: no answer, or errors; tokens that are there are given out until they end"
    );
    (type_, "False", reasons::ISSUER_UNREACHABLE, message)
}

fn users(replicas: &[VaultStatus]) -> Row {
    let type_ = types::GRANTS_HEALTHY;
    let Some(replica) = replicas.first() else {
        return unknown(type_);
    };
    let needed = grants(replica).needs_reauthentication;
    let mut sentences = Vec::new();
    if needed > 0 {
        sentences.push(format!(
            "grants that need their user: {needed}; they are asked when they next use them"
        ));
    }
    if replica.ending > 0 {
        sentences.push(format!(
            "grants whose session policy soon ends: {}; their users see it at /oauth2/connections",
            replica.ending
        ));
    }
    if sentences.is_empty() {
        return (type_, "True", reasons::READY, String::new());
    }
    (type_, "False", reasons::USERS_NEEDED, sentences.join(". "))
}

/// What the replica says that is furthest behind.
fn keyring(keys: &[String], replicas: &[VaultStatus]) -> Option<KeyringStatus> {
    let behind = replicas
        .iter()
        .map(|replica| &replica.keyring)
        .max_by_key(|keyring| keyring.pending())?;
    let primary = behind.primary()?;
    let is_used = |key: &&String| behind.grants.get(*key).is_some_and(|count| *count > 0);
    let oldest = keys.iter().find(is_used);
    Some(KeyringStatus {
        primary: primary.to_owned(),
        oldest_in_use: oldest.map_or(primary, String::as_str).to_owned(),
        rows_pending: number(behind.pending()),
    })
}

fn grants(replica: &VaultStatus) -> GrantCounts {
    let count = |state: &str| number(replica.grants.get(state).copied().unwrap_or_default());
    GrantCounts {
        active: count("active"),
        degraded: count("degraded"),
        needs_reauthentication: count("needs_reauthentication"),
        revoked: count("revoked"),
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn client(issuer: &globus_auth_core::vault_config::Issuer) -> Client {
    Client {
        issuer: issuer.issuer.as_str().to_owned(),
        client_id: issuer.client_id.clone(),
        bearer_tokens: !issuer.bearer_tokens.is_ignored(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use globus_auth_core::vault_status::Keyring;
    use rstest::rstest;

    use super::*;

    fn replica(keys: &[&str], grants: &[(&str, u64)]) -> VaultStatus {
        let owned = |name: &&str| (*name).to_owned();
        VaultStatus {
            is_storage_ready: true,
            keyring: Keyring {
                keys: keys.iter().map(owned).collect(),
                grants: grants
                    .iter()
                    .map(|&(key, count)| (key.to_owned(), count))
                    .collect(),
            },
            grants: BTreeMap::from([("active".to_owned(), 7), ("revoked".to_owned(), 1)]),
            ..VaultStatus::default()
        }
    }

    fn status(old: Option<&TokenVaultStatus>, replicas: &[VaultStatus]) -> TokenVaultStatus {
        let outcome = Outcome {
            generation: Some(1),
            problems: &[],
            url: "https://vault".to_owned(),
            certificate: None,
            config: None,
            availability: Availability::Available,
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            replicas,
        };
        compute(old, &outcome, Timestamp::UNIX_EPOCH)
    }

    fn condition(status: &TokenVaultStatus, type_: &str) -> (String, String) {
        let conditions = &status.conditions;
        let one = conditions.iter().find(|one| one.type_ == type_).unwrap();
        (one.status.clone(), one.reason.clone())
    }

    #[test]
    fn the_replica_that_is_furthest_behind_is_shown() {
        let replicas = [
            replica(&["k2", "k1"], &[("k2", 8)]),
            replica(&["k2", "k1"], &[("k1", 3), ("k2", 5)]),
        ];
        let status = status(None, &replicas);
        let keyring = KeyringStatus {
            primary: "k2".to_owned(),
            oldest_in_use: "k1".to_owned(),
            rows_pending: 3,
        };
        assert_eq!(status.keyring, Some(keyring));
        assert_eq!(status.grants.unwrap().active, 7);
    }

    #[test]
    fn what_was_known_stays_while_nobody_answers() {
        let before = status(None, &[replica(&["k1"], &[("k1", 8)])]);
        assert_eq!(before.keyring.as_ref().unwrap().oldest_in_use, "k1");
        let after = status(Some(&before), &[]);
        assert_eq!(
            (&after.keyring, &after.grants),
            (&before.keyring, &before.grants)
        );
        let unknown = ("Unknown".to_owned(), "NotReported".to_owned());
        assert_eq!(condition(&after, "StorageReady"), unknown);
        assert_eq!(condition(&after, "IssuersReachable"), unknown);
        // That the operator cannot ask says nothing about whether it serves.
        assert_eq!(condition(&after, "Ready").0, "True");
    }

    #[rstest]
    #[case::needed(2, 0, "grants that need their user: 2")]
    #[case::soon(0, 3, "session policy soon ends: 3")]
    fn grants_that_need_their_users_are_counted_and_told(
        #[case] needed: u64,
        #[case] ending: u64,
        #[case] said: &str,
    ) {
        let well = status(None, &[replica(&["k1"], &[])]);
        assert_eq!(condition(&well, "GrantsHealthy").0, "True");
        let mut told = replica(&["k1"], &[]);
        told.grants
            .insert("needs_reauthentication".to_owned(), needed);
        told.ending = ending;
        let ill = status(Some(&well), &[told.clone()]);
        let expected = ("False".to_owned(), "UsersNeeded".to_owned());
        assert_eq!(condition(&ill, "GrantsHealthy"), expected);
        // They are somebody's own business: the vault works.
        assert_eq!(condition(&ill, "Ready").0, "True");
        let events = news(&well.conditions, &ill.conditions);
        assert_eq!(events.len(), 1);
        assert!(events[0].message.contains(said), "{}", events[0].message);
        let again = news(&ill.conditions, &ill.conditions);
        assert!(again.is_empty(), "told once: {again:?}");
        told.ending += 1;
        let worse = status(Some(&ill), &[told]);
        assert_eq!(news(&ill.conditions, &worse.conditions).len(), 1);
    }

    #[rstest]
    #[case::storage("StorageReady", "StorageUnavailable", "False")]
    #[case::issuer("IssuersReachable", "IssuerUnreachable", "True")]
    #[case::client("IssuersReachable", "ClientRefused", "True")]
    fn what_does_not_answer_is_told(
        #[case] type_: &str,
        #[case] reason: &str,
        #[case] ready: &str,
    ) {
        let mut broken = replica(&["k1"], &[]);
        broken.is_storage_ready = type_ != "StorageReady";
        if broken.is_storage_ready {
            broken.unreachable_issuers = vec!["globus".to_owned()];
        }
        if reason == "ClientRefused" {
            broken.refusing_issuers = vec!["globus".to_owned()];
        }
        let status = status(None, &[replica(&["k1"], &[]), broken]);
        assert_eq!(
            condition(&status, type_),
            ("False".to_owned(), reason.to_owned())
        );
        assert_eq!(condition(&status, "Ready").0, ready);
    }
}

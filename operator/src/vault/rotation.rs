//! When the vault's encryption key is changed, and what the next step is. Pure.
//!
//! A step is taken when every replica says that it has taken the one before: *add* a second key; when all
//! have it, *promote* it, and the vaults move what is stored; when nothing is stored under the old key and
//! backups that need it are old enough, *retire* it.

use globus_auth_core::vault_status::VaultStatus;
use globus_auth_crds::vault::Encryption;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

/// The key ring, as its Secret holds it and the vault reads it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// The id of the key under which new secrets are stored.
    pub primary: String,
    /// The keys, the newest last.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name.
    pub id: String,
    /// 32 bytes in base64.
    #[serde(serialize_with = "expose")]
    pub key: SecretString,
}

impl Ring {
    /// The names of the keys, the oldest first.
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secrecy::ExposeSecret::expose_secret(secret))
}

/// What to do with the ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing, until this moment at least; none, until somebody changes something.
    Rest(Option<Timestamp>),
    /// Wait for the vaults.
    Wait,
    /// Add a key of this name.
    Add(String),
    /// Make this one the primary.
    Promote(String),
    /// Take this one out.
    Retire(String),
}

/// The next step, for a ring that was last changed at `changed`, where the replicas say `replicas`; those
/// that say nothing are missing from it, and `expected` is how many there must be.
pub fn next(
    ring: &Ring,
    changed: Timestamp,
    replicas: &[VaultStatus],
    expected: usize,
    wanted: &Encryption,
    now: Timestamp,
) -> Step {
    let ids: Vec<&str> = ring.keys.iter().map(|key| key.id.as_str()).collect();
    match ids[..] {
        [only] => begin(only, changed, wanted, now),
        [old, new] => {
            let has_all = |status: &VaultStatus| {
                let keys = &status.keyring.keys;
                keys.len() == 2 && ids.iter().all(|id| keys.iter().any(|key| key == id))
            };
            if replicas.len() < expected || !replicas.iter().all(has_all) {
                return Step::Wait;
            }
            if ring.primary == old {
                return Step::Promote(new.to_owned());
            }
            let is_done = |status: &VaultStatus| {
                status.keyring.primary() == Some(new) && status.keyring.pending() == 0
            };
            let from = changed.saturating_add(days(wanted.retain_days));
            match from {
                Ok(from) if now >= from && replicas.iter().all(is_done) => {
                    Step::Retire(old.to_owned())
                }
                Ok(from) if now < from => Step::Rest(Some(from)),
                _ => Step::Wait,
            }
        }
        // Somebody changes it by hand.
        _ => Step::Rest(None),
    }
}

fn begin(only: &str, changed: Timestamp, wanted: &Encryption, now: Timestamp) -> Step {
    let is_asked_for = wanted
        .replace_keys_before
        .as_ref()
        .is_some_and(|before| changed < before.0 && before.0 <= now);
    if is_asked_for {
        return Step::Add(successor(only));
    }
    if wanted.rotation_period_days == 0 {
        return Step::Rest(None);
    }
    match changed.saturating_add(days(wanted.rotation_period_days)) {
        Ok(due) if now >= due => Step::Add(successor(only)),
        Ok(due) => Step::Rest(Some(due)),
        Err(_never) => Step::Rest(None),
    }
}

/// `k7` is followed by `k8`; any other name by itself and `-2`.
fn successor(id: &str) -> String {
    let number = id
        .strip_prefix('k')
        .and_then(|text| text.parse::<u32>().ok());
    match number.and_then(|number| number.checked_add(1)) {
        Some(next) => format!("k{next}"),
        None => format!("{}-2", id.chars().take(30).collect::<String>()),
    }
}

fn days(days: i32) -> SignedDuration {
    SignedDuration::from_hours(i64::from(days) * 24)
}

#[cfg(test)]
mod tests {

    use globus_auth_core::vault_status::Keyring;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;

    use super::*;

    const CHANGED: Timestamp = Timestamp::constant(1_000_000, 0);

    fn ring(primary: &str, ids: &[&str]) -> Ring {
        Ring {
            primary: primary.to_owned(),
            keys: ids
                .iter()
                .map(|&id| Key {
                    id: id.to_owned(),
                    key: "canary".into(),
                })
                .collect(),
        }
    }

    fn replica(keys: &[&str], grants: &[(&str, u64)]) -> VaultStatus {
        VaultStatus {
            is_storage_ready: true,
            keyring: Keyring {
                keys: keys.iter().map(|&key| key.to_owned()).collect(),
                grants: grants
                    .iter()
                    .map(|&(key, count)| (key.to_owned(), count))
                    .collect(),
            },
            ..VaultStatus::default()
        }
    }

    fn after(days: i64) -> Timestamp {
        CHANGED + SignedDuration::from_hours(24 * days)
    }

    fn wanted() -> Encryption {
        Encryption {
            rotation_period_days: 90,
            retain_days: 30,
            replace_keys_before: None,
        }
    }

    fn step(ring: &Ring, replicas: &[VaultStatus], now: Timestamp) -> Step {
        next(ring, CHANGED, replicas, 2, &wanted(), now)
    }

    #[rstest]
    #[case::young(89, Step::Rest(Some(after(90))))]
    #[case::old(90, Step::Add("k2".to_owned()))]
    fn a_key_is_replaced_when_it_is_old(#[case] days: i64, #[case] expected: Step) {
        assert_eq!(step(&ring("k1", &["k1"]), &[], after(days)), expected);
    }

    #[rstest]
    #[case::asked_for(Some(1), 2, Step::Add("k2".to_owned()))]
    #[case::made_later(Some(0), 2, Step::Rest(None))]
    #[case::not_yet(Some(3), 2, Step::Rest(None))]
    #[case::never(None, 2000, Step::Rest(None))]
    fn a_key_is_replaced_when_that_is_asked_for(
        #[case] before: Option<i64>,
        #[case] now: i64,
        #[case] expected: Step,
    ) {
        let wanted = Encryption {
            rotation_period_days: 0,
            replace_keys_before: before.map(|days| Time(after(days))),
            ..wanted()
        };
        let ring = ring("k1", &["k1"]);
        assert_eq!(next(&ring, CHANGED, &[], 1, &wanted, after(now)), expected);
    }

    #[rstest]
    #[case::nobody(vec![], Step::Wait)]
    #[case::one_of_two(vec![replica(&["k1", "k2"], &[])], Step::Wait)]
    #[case::not_the_second(vec![replica(&["k1", "k2"], &[]), replica(&["k1"], &[])], Step::Wait)]
    #[case::all(vec![replica(&["k1", "k2"], &[]), replica(&["k1", "k2"], &[])], Step::Promote("k2".to_owned()))]
    fn a_key_is_promoted_when_every_replica_has_it(
        #[case] replicas: Vec<VaultStatus>,
        #[case] expected: Step,
    ) {
        assert_eq!(
            step(&ring("k1", &["k1", "k2"]), &replicas, CHANGED),
            expected
        );
    }

    #[rstest]
    #[case::backups_need_it(29, &[("k2", 5)], &["k2", "k1"], Step::Rest(Some(after(30))))]
    #[case::rows_need_it(30, &[("k1", 1), ("k2", 5)], &["k2", "k1"], Step::Wait)]
    #[case::a_replica_writes_with_it(30, &[("k2", 5)], &["k1", "k2"], Step::Wait)]
    #[case::nothing_needs_it(30, &[("k2", 5)], &["k2", "k1"], Step::Retire("k1".to_owned()))]
    fn a_key_is_retired_when_nothing_needs_it(
        #[case] days: i64,
        #[case] grants: &[(&str, u64)],
        #[case] keys: &[&str],
        #[case] expected: Step,
    ) {
        let replicas = [replica(&["k2", "k1"], &[("k2", 6)]), replica(keys, grants)];
        assert_eq!(
            step(&ring("k2", &["k1", "k2"]), &replicas, after(days)),
            expected
        );
    }

    #[test]
    fn a_ring_that_somebody_changes_by_hand_is_left_alone() {
        let ring = ring("a", &["a", "b", "c"]);
        assert_eq!(step(&ring, &[], after(1000)), Step::Rest(None));
    }

    #[rstest]
    #[case("k1", "k2")]
    #[case("k99", "k100")]
    #[case("mine", "mine-2")]
    fn a_key_has_a_name_that_was_not_used(#[case] before: &str, #[case] expected: &str) {
        assert_eq!(successor(before), expected);
    }

    #[test]
    fn a_ring_shows_no_key() {
        assert!(!format!("{:?}", ring("k1", &["k1"])).contains("canary"));
    }
}

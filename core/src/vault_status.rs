//! What a vault says about itself on its admin port: counts and names of keys, never a person or a secret.
//! The operator makes the resource's status of it, and waits for it when keys change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the admin listener has it.
pub const PATH: &str = "/status";

/// The state of one replica.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultStatus {
    /// Whether the database answered when it was last asked.
    pub is_storage_ready: bool,
    /// The keys.
    pub keyring: Keyring,
    /// Grants by state, in the database that all replicas share.
    pub grants: BTreeMap<String, u64>,
    /// Grants whose users must soon log in again, because a session policy ends.
    #[serde(default)]
    pub ending: u64,
    /// Grants that were taken back here, and not yet at their issuers.
    #[serde(default)]
    pub revocations: u64,
    /// Whether it takes back everything, because its resource is being deleted.
    #[serde(default)]
    pub is_closing: bool,
    /// Issuers that do not answer now, by the names that they have in the resource.
    pub unreachable_issuers: Vec<String>,
    /// Those of them that do not accept the vault's client.
    #[serde(default)]
    pub refusing_issuers: Vec<String>,
}

impl VaultStatus {
    /// Whether everything was taken back, here and at the issuers.
    pub fn is_closed(&self) -> bool {
        let mut left = self.grants.iter().filter(|(state, _)| *state != REVOKED);
        self.is_closing && self.revocations == 0 && left.all(|(_, count)| *count == 0)
    }
}

/// The state of grants that were taken back.
pub const REVOKED: &str = "revoked";

/// The keys of one replica.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    /// The ids of the keys in force, the primary first.
    pub keys: Vec<String>,
    /// Grants by the key that they are stored under.
    pub grants: BTreeMap<String, u64>,
}

impl Keyring {
    /// The key under which new secrets are stored.
    pub fn primary(&self) -> Option<&str> {
        self.keys.first().map(String::as_str)
    }

    /// Grants that are stored under another key than the primary.
    pub fn pending(&self) -> u64 {
        let others = self
            .grants
            .iter()
            .filter(|(key, _)| Some(key.as_str()) != self.primary());
        others.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_closed_when_nothing_is_left() {
        let closed = VaultStatus {
            is_closing: true,
            grants: BTreeMap::from([("revoked".to_owned(), 7), ("active".to_owned(), 0)]),
            ..VaultStatus::default()
        };
        assert!(closed.is_closed());
        let mut others = [closed.clone(), closed.clone(), closed];
        others[0].is_closing = false;
        others[1].revocations = 1;
        others[2].grants.insert("degraded".to_owned(), 1);
        for other in others {
            assert!(!other.is_closed(), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_under_the_primary_key_is_pending() {
        let grants = BTreeMap::from([("k1".to_owned(), 3), ("k2".to_owned(), 4)]);
        let keyring = |keys: &[&str]| Keyring {
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            grants: grants.clone(),
        };
        assert_eq!(keyring(&["k1", "k2"]).pending(), 4);
        assert_eq!(keyring(&["k2", "k1"]).pending(), 3);
        assert_eq!(keyring(&[]).pending(), 7);
    }
}

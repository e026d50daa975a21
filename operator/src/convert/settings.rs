//! What flags, environment and files give together.

use std::collections::BTreeMap;

use super::flags::{Fate, Flag, Kind};
use super::table::FLAGS;

/// The settings of one oauth2-proxy, by flag.
#[derive(Default)]
pub(super) struct Settings(BTreeMap<&'static str, (Rank, Given)>);

/// Who wins: flags over environment over file, as in oauth2-proxy.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rank {
    File,
    Environment,
    Flag,
}

/// What a flag was given.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Given {
    /// In words; one, unless the flag is a list.
    Text(Vec<String>),
    /// By reference to a key of a Secret.
    Secret { name: String, key: String },
    /// By reference to something that is not among the files.
    Elsewhere,
    /// In words that are secret. They are not kept.
    Withheld,
}

impl Settings {
    /// Takes `given` for `flag`, unless something of a higher rank did. Lists of one rank add up.
    pub(super) fn give(&mut self, flag: &'static Flag, rank: Rank, given: Given) {
        let given = match given {
            Given::Text(_) if SECRETS.contains(&flag.name) => Given::Withheld,
            given
            @ (Given::Text(_) | Given::Secret { .. } | Given::Elsewhere | Given::Withheld) => given,
        };
        match (self.0.get_mut(flag.name), given) {
            (Some((before, _)), _) if *before > rank => {}
            (Some((before, Given::Text(texts))), Given::Text(more))
                if *before == rank && flag.kind == Kind::List =>
            {
                texts.extend(more);
            }
            (_, given) => {
                self.0.insert(flag.name, (rank, given));
            }
        }
    }

    /// What `name` was given.
    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name).map(|(_, given)| given)
    }

    /// The flags of this fate that were given something else than what oauth2-proxy takes anyway.
    pub(super) fn given(&self, fate: Fate) -> impl Iterator<Item = &'static Flag> {
        FLAGS
            .iter()
            .filter(move |flag| flag.fate == fate && self.is_given(flag))
    }

    fn is_given(&self, flag: &Flag) -> bool {
        match self.get(flag.name) {
            None => false,
            Some(Given::Text(texts)) => texts.join(",") != flag.default,
            Some(Given::Secret { .. } | Given::Elsewhere | Given::Withheld) => true,
        }
    }
}

/// What is not kept, not even to be compared.
const SECRETS: &[&str] = &[
    "basic-auth-password",
    "client-secret",
    "cookie-secret",
    "github-token",
    "google-service-account-json",
    "jwt-key",
    "redis-cluster-connection-urls",
    "redis-connection-url",
    "redis-password",
    "redis-sentinel-connection-urls",
    "redis-sentinel-password",
    "signature-key",
];

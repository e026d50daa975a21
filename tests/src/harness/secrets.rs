//! What must never be in a log: remembered as the clients see it, looked for when the sidecar ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// The secrets of one stage. Clones are the same collection.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    /// Remembers a text that no log line may contain.
    pub fn add(&self, secret: &str) {
        // Shorter ones would be found by chance.
        if secret.len() >= SHORTEST {
            self.0.lock().insert(secret.to_owned());
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The first secret that is part of `line`.
    pub fn found_in(&self, line: &str) -> Option<String> {
        let secrets = self.0.lock();
        secrets
            .iter()
            .find(|secret| line.contains(secret.as_str()))
            .cloned()
    }
}

const SHORTEST: usize = 8;

//! What must never be in a log: remembered as the clients see it, looked for when the sidecar ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
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

    /// The first secret that is part of one of the `lines`, and the line. All are looked for at once,
    /// because long runs have thousands of both.
    ///
    /// # Panics
    /// If there are more secrets than memory for them.
    pub fn found_in<'a>(&self, lines: &'a [String]) -> Option<(String, &'a String)> {
        let secrets = self.0.lock();
        let all = AhoCorasick::new(secrets.iter()).expect("there is memory for every secret");
        lines.iter().find_map(|line| {
            let found = all.find(line)?;
            Some((line[found.range()].to_owned(), line))
        })
    }
}

const SHORTEST: usize = 8;

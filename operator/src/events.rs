//! Kubernetes Events: what `kubectl describe` and `kubectl events` show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Publishes Events. One that cannot be published is logged: nothing else depends on it.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recent: Arc<Mutex<Recent<Recorder>>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events of the replica `instance`.
    pub fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter {
            controller: "globus-auth".to_owned(),
            instance: Some(instance),
        };
        Self {
            client,
            reporter,
            recent: Arc::default(),
        }
    }

    /// Says what has become of a condition.
    pub async fn condition(&self, object: &ObjectReference, condition: &Condition) {
        let type_ = if condition.status == "True" {
            EventType::Normal
        } else {
            EventType::Warning
        };
        self.publish(object, type_, &condition.reason, &condition.message)
            .await;
    }

    /// Says what was done.
    pub async fn normal(&self, object: &ObjectReference, reason: &str, message: &str) {
        self.publish(object, EventType::Normal, reason, message)
            .await;
    }

    /// Warns.
    pub async fn warning(&self, object: &ObjectReference, reason: &str, message: &str) {
        self.publish(object, EventType::Warning, reason, message)
            .await;
    }

    async fn publish(
        &self,
        object: &ObjectReference,
        type_: EventType,
        reason: &str,
        message: &str,
    ) {
        let note = note(message);
        let recorder = self
            .recent
            .lock()
            .get(object, reason, note, Instant::now(), || {
                Recorder::new(self.client.clone(), self.reporter.clone())
            });
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, object).await {
            tracing::warn!(%error, reason, "failed to publish an Event");
        }
    }
}

/// What was said last, of each object for each reason, and by whom.
///
/// A [`Recorder`] counts Events that differ in their notes only as one, and keeps the first note. What has changed
/// has to be read, so each note has a recorder of its own.
struct Recent<R>(HashMap<(String, String), Said<R>>);

struct Said<R> {
    note: String,
    recorder: R,
    at: Instant,
}

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<R: Clone> Recent<R> {
    /// The recorder that said `note` of `object` last, or else a new one.
    fn get(
        &mut self,
        object: &ObjectReference,
        reason: &str,
        note: &str,
        now: Instant,
        new: impl FnOnce() -> R,
    ) -> R {
        self.0
            .retain(|_, said| now.duration_since(said.at) < FORGET_AFTER);
        let key = (format!("{object:?}"), reason.to_owned());
        let before = self.0.remove(&key).filter(|said| said.note == note);
        let recorder = before.map_or_else(new, |said| said.recorder);
        let said = Said {
            note: note.to_owned(),
            recorder: recorder.clone(),
            at: now,
        };
        self.0.insert(key, said);
        recorder
    }
}

/// As long as a [`Recorder`] remembers an Event.
const FORGET_AFTER: Duration = Duration::from_mins(6);

/// As much of `message` as an Event can say.
fn note(message: &str) -> &str {
    let (note, _rest) = message.split_at(message.floor_char_boundary(MAX_NOTE));
    note
}

/// The API server refuses notes of more than 1024 bytes.
const MAX_NOTE: usize = 1024;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn what_is_said_again_is_counted_and_what_has_changed_is_said() {
        let mut made = 0;
        let mut recent = Recent::<u32>::default();
        let start = Instant::now();
        let [alpha, beta] = ["alpha", "beta"].map(|name| ObjectReference {
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        });
        let mut get = |object: &ObjectReference, reason: &str, note: &str, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            recent.get(object, reason, note, now, || {
                made += 1;
                made
            })
        };
        assert_eq!(get(&alpha, "Missing", "one", 0), 1);
        assert_eq!(get(&alpha, "Missing", "one", 1), 1);
        assert_eq!(get(&beta, "Missing", "one", 1), 2);
        assert_eq!(get(&alpha, "Refused", "one", 1), 3);
        assert_eq!(get(&alpha, "Missing", "two", 2), 4);
        assert_eq!(get(&alpha, "Missing", "one", 3), 5);
        assert_eq!(get(&alpha, "Missing", "one", 3 + 359), 5);
        assert_eq!(get(&alpha, "Missing", "one", 3 + 359 + 360), 6);
    }

    #[rstest]
    #[case::short("what happened".to_owned(), 13)]
    #[case::as_long_as_allowed("x".repeat(1024), 1024)]
    #[case::too_long("x".repeat(1025), 1024)]
    #[case::characters_of_two_bytes("é".repeat(600), 1024)]
    #[case::a_character_on_the_limit(format!("x{}", "é".repeat(600)), 1023)]
    fn a_note_has_as_many_bytes_as_the_api_server_takes(
        #[case] message: String,
        #[case] bytes: usize,
    ) {
        assert_eq!(note(&message), &message[..bytes]);
    }
}

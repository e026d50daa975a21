//! Kubernetes Events: what `kubectl describe` and `kubectl events` show.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Publishes Events. One that cannot be published is logged: nothing else depends on it.
#[derive(Clone)]
pub struct Events(Recorder);

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
        Self(Recorder::new(client, reporter))
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
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note(message).to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, object).await {
            tracing::warn!(%error, reason, "failed to publish an Event");
        }
    }
}

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

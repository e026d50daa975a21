//! What this sidecar knows of itself and its pod: for the kubelet, and for the operator.

use std::net::SocketAddr;
use std::sync::Arc;

use globus_auth_core::report::Report;
use globus_auth_core::runtime::admin::Health;
use globus_auth_core::sidecar_config::Exposure;
use tokio::sync::watch;

use crate::app::App;
use crate::files::Files;

/// The state of the pod, as seen from here.
#[derive(Debug)]
pub(crate) struct Status {
    app: Arc<App>,
    files: Option<Arc<Files>>,
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Seen {
    exposed: Vec<SocketAddr>,
    /// Whether the workload listens at all.
    listening: bool,
    config_error: Option<String>,
}

impl Status {
    pub(crate) fn new(app: Arc<App>, files: Option<Arc<Files>>) -> Self {
        Self {
            app,
            files,
            seen: watch::Sender::default(),
        }
    }

    /// Notes on which sockets the workload listens, and which of them are exposed.
    pub(crate) fn saw_listeners(&self, listening: bool, exposed: Vec<SocketAddr>) {
        self.app.metrics.exposed.set(i64::from(!exposed.is_empty()));
        self.change(|seen| {
            if seen.exposed != exposed {
                tracing::warn!(
                    listeners = ?exposed,
                    "the addresses at which the workload can be reached beside the proxy have changed"
                );
            }
            seen.exposed = exposed;
            seen.listening = listening;
        });
    }

    /// Notes that a configuration was refused, or that the newest is in force.
    pub(crate) fn saw_config(&self, error: Option<String>) {
        self.change(|seen| seen.config_error = error);
    }

    /// What the operator should know.
    pub(crate) fn report(&self) -> Report {
        let seen = self.seen.borrow();
        Report {
            exposed_listeners: seen.exposed.iter().map(ToString::to_string).collect(),
            config_hash: self.app.live().hash.clone(),
            config_error: seen.config_error.clone(),
        }
    }

    /// Tells of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<impl Send + Sync + 'static> {
        self.seen.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_if_modified(|seen| {
            let before = seen.clone();
            change(seen);
            *seen != before
        });
    }
}

impl Health for Status {
    /// A job's containers are started when its tokens are there.
    fn started(&self) -> Result<(), String> {
        self.files
            .as_ref()
            .map_or(Ok(()), |files| files.are_there())
    }

    fn ready(&self) -> Result<(), String> {
        let seen = self.seen.borrow();
        if self.app.live().upstream.exposure == Exposure::Report {
            return Ok(());
        }
        if !seen.exposed.is_empty() {
            let listeners: Vec<String> = seen.exposed.iter().map(ToString::to_string).collect();
            return Err(format!(
                "the workload can be reached beside the proxy at {}; make it listen on 127.0.0.1, or set \
                 spec.upstream.exposure to Report",
                listeners.join(", ")
            ));
        }
        // Until it listens, nobody knows where it will.
        if seen.listening {
            Ok(())
        } else {
            Err("the workload does not listen yet".to_owned())
        }
    }
}

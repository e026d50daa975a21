//! What this sidecar knows of itself and its pod: for the kubelet, and for the operator.

use std::net::SocketAddr;
use std::sync::Arc;

use globus_auth_core::report::Report;
use globus_auth_core::runtime::admin::Health;
use globus_auth_core::sidecar_config::Exposure;
use tokio::sync::watch;

use crate::app::App;

/// The state of the pod, as seen from here.
#[derive(Debug)]
pub(crate) struct Status {
    app: Arc<App>,
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    exposed: Vec<SocketAddr>,
    /// Whether the workload listens at all.
    listening: bool,
    config_error: Option<String>,
    tokens: Tokens,
}

/// The tokens that the workload finds in files.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Tokens {
    /// The vault has not been asked for them yet.
    Unknown,
    /// None is needed, or each has its file.
    Present,
    /// What is missing, and why.
    Missing(String),
}

impl Status {
    /// A pod that `waits_for_tokens` has none yet.
    pub(crate) fn new(app: Arc<App>, waits_for_tokens: bool) -> Self {
        let seen = Seen {
            exposed: Vec::new(),
            listening: false,
            config_error: None,
            tokens: if waits_for_tokens {
                Tokens::Unknown
            } else {
                Tokens::Present
            },
        };
        Self {
            app,
            seen: watch::Sender::new(seen),
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

    /// Notes which tokens have no file, and why; none, all have theirs.
    pub(crate) fn saw_tokens(&self, missing: Option<String>) {
        let tokens = missing.map_or(Tokens::Present, Tokens::Missing);
        self.change(|seen| {
            if let Tokens::Missing(missing) = &tokens
                && seen.tokens != tokens
            {
                tracing::warn!(missing, "the workload waits for tokens");
            }
            seen.tokens = tokens;
        });
    }

    /// What the operator should know.
    pub(crate) fn report(&self) -> Report {
        let seen = self.seen.borrow();
        Report {
            exposed_listeners: seen.exposed.iter().map(ToString::to_string).collect(),
            config_hash: self.app.live().hash.clone(),
            config_error: seen.config_error.clone(),
            missing_tokens: match &seen.tokens {
                Tokens::Unknown | Tokens::Present => None,
                Tokens::Missing(missing) => Some(missing.clone()),
            },
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
        match &self.seen.borrow().tokens {
            Tokens::Present => Ok(()),
            Tokens::Unknown => Err("the vault has not been asked for tokens yet".to_owned()),
            Tokens::Missing(missing) => Err(missing.clone()),
        }
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

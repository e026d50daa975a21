//! The contract between webhook and sidecar about the probes of a workload.
//!
//! The kubelet asks a pod's address, where a workload that listens on loopback does not answer. The
//! webhook therefore points such probes at the sidecar, and tells the sidecar what was to be asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A probe of the workload's port, as the sidecar carries it out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Probe {
    /// The container whose probe it is.
    pub container: String,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// What is asked.
    pub action: ProbeAction,
    /// Seconds to wait for an answer.
    pub timeout_seconds: u32,
}

/// The three probes that a container can have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of a container's fields")]
pub enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

/// What a probe asks of the workload's port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum ProbeAction {
    /// A status from 200 to 399 is success.
    #[serde(rename_all = "camelCase")]
    HttpGet {
        /// Path and query.
        path: String,
        /// Headers to send.
        headers: Vec<(String, String)>,
    },
    /// A connection is success.
    TcpSocket {},
}

impl Probe {
    /// The path on the sidecar's admin port at which the kubelet asks.
    pub fn path(&self) -> String {
        format!("/probe/{}/{}", self.container, self.kind)
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        })
    }
}

//! The contract between sidecar and operator: what a sidecar reports of its pod.
//!
//! The sidecar has no rights in the cluster. It shows its projected ServiceAccount token, which names
//! its pod, and the operator, after a `TokenReview`, writes the report into that pod's conditions.

use serde::{Deserialize, Serialize};

/// Where reports go, below the operator's address.
pub const PATH: &str = "/v1/report";
/// The audience of the token that a sidecar shows.
pub const AUDIENCE: &str = "globus-auth-operator";

/// The state of one pod, as its sidecar sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Report {
    /// Addresses, such as `0.0.0.0:5000`, at which the workload can be reached beside the proxy.
    pub exposed_listeners: Vec<String>,
    /// The hash of the configuration that is in force.
    pub config_hash: String,
    /// Why a newer configuration was not taken, if it was not.
    pub config_error: Option<String>,
    /// Which tokens have no file that should have one, and why, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_tokens: Option<String>,
}

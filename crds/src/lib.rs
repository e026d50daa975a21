//! The wire types of the API group `globus-auth.dev`.
//!
//! The documentation of each field is the user's manual: `kubectl explain` shows it. What a schema can
//! refuse is refused by the API server, with a message that says what to do; the operator checks the
//! same again, because objects that are stored already were never asked.

#![expect(
    unreachable_pub,
    reason = "KubeSchema derives helper types whose spans are those of ours"
)]

pub mod conditions;
pub mod manifest;
pub mod proxy;
pub mod vault;

pub use proxy::{GlobusAuthProxy, GlobusAuthProxySpec, GlobusAuthProxyStatus};
pub use vault::{TokenVault, TokenVaultSpec, TokenVaultStatus};

/// The API group.
pub const GROUP: &str = "globus-auth.dev";

/// The label by which a pod asks for the sidecar: `globus-auth.dev/inject: enabled`.
pub const INJECT_LABEL: &str = "globus-auth.dev/inject";
/// The value of [`INJECT_LABEL`].
pub const INJECT_ENABLED: &str = "enabled";
/// The annotation with which a pod chooses among several proxies that select it.
pub const PROXY_ANNOTATION: &str = "globus-auth.dev/proxy";
/// Of a pod: the subject (`sub`) of the user for whom the tokens in its files act.
pub const ON_BEHALF_OF_ANNOTATION: &str = "globus-auth.dev/on-behalf-of";
/// The label by which the pods of a proxy with a Deployment of its own are found; its value is the
/// proxy's name.
pub const STANDALONE_LABEL: &str = "globus-auth.dev/standalone";
/// The container that the webhook injects.
pub const CONTAINER: &str = "globus-auth-proxy";

//! The rules of globus-auth that need no cluster, no socket and no clock.
//!
//! Everything outside [`runtime`] is pure: it does no input or output and takes the time as a
//! parameter. Without the feature `runtime` this crate depends on no HTTP server and no async runtime.
//!
//! | what | where |
//! |---|---|
//! | OAuth 2.0 and OpenID Connect | [`oauth`] |
//! | who somebody is | [`identity`], [`email`] |
//! | what a browser carries | [`session`], [`transaction`], sealed by [`sealer`] |
//! | what operator and sidecar tell each other | [`sidecar_config`], [`probe`], [`report`], [`ended`] |
//! | what the vault is told and asked, and says of itself | [`vault_config`], [`vault_api`], [`vault_status`] |
//! | what programs tell each other about a request | [`trace_context`] |
//! | addresses, time, randomness | [`url`], [`egress`], [`clock`], [`random`] |

pub mod clock;
pub mod egress;
pub mod email;
pub mod ended;
pub mod identity;
pub mod oauth;
pub mod probe;
pub mod random;
pub mod report;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod sealer;
pub mod session;
pub mod sidecar_config;
pub mod trace_context;
pub mod transaction;
pub mod url;
pub mod vault_api;
pub mod vault_config;
pub mod vault_status;

#[cfg(test)]
mod fuzz;

//! The operator: reconciles `GlobusAuthProxy` and `TokenVault`, and injects the sidecar.
//!
//! | room | what is in it |
//! |---|---|
//! | `proxy` | `fetch → validate → build → apply → status` |
//! | `vault` | the same for a `TokenVault` |
//! | `webhook` | the pure `inject::plan` and the endpoint around it |
//! | `selection` | which proxy protects which pod, for both of them |
//! | `certificates` | the operator's own authority and certificates |
//! | `reports` | what sidecars report, as conditions of their pods |
//! | `convert` | a command: from a configuration of oauth2-proxy to a `GlobusAuthProxy` |
//! | `lease`, `events`, `metrics`, `args`, `settings` | the program around it |

#![expect(missing_debug_implementations, reason = "kube::Client has none")]

pub mod args;
pub mod certificates;
pub mod convert;
pub mod ended;
pub mod events;
#[cfg(test)]
mod fake_api;
pub mod lease;
pub mod metrics;
pub mod proxy;
pub mod reporter;
pub mod reports;
mod run;
pub mod selection;
pub mod settings;
pub mod vault;
pub mod webhook;

pub use args::Args;
pub use run::run;

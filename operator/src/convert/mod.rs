//! From a configuration of oauth2-proxy to a `GlobusAuthProxy`: `globus-auth-operator convert`.
//!
//! | room | what is in it |
//! |---|---|
//! | `table`, `flags` | every flag of oauth2-proxy, and what becomes of it |
//! | `settings` | what flags, environment and files give together; secrets are dropped here |
//! | `read`, `kubernetes` | the forms in which they come |
//! | `plan`, `access`, `provider`, `upstream` | settings to specification |
//! | `command` | the command: reads files, writes the result |
//!
//! All but `command` is pure. What admits fewer people than before is noted; what would admit more, or
//! others, is refused.

mod access;
pub mod command;
mod flags;
mod kubernetes;
mod plan;
mod provider;
mod read;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod upstream;

//! `GlobusAuthProxy`: `fetch → validate → build → apply → status`.

pub mod access;
pub mod apply;
pub mod build;
pub mod controller;
pub mod fetch;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod keys;
pub mod names;
pub mod pods;
pub mod reconcile;
pub mod standalone;
pub mod status;
pub mod validate;
pub mod vault;

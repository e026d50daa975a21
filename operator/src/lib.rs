//! Reconciles `GlobusAuthProxy` and injects the sidecar.

pub mod proxy;
pub mod selection;
pub mod settings;
pub mod webhook;

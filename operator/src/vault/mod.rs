//! `TokenVault`: `fetch → validate → build → apply → status`.

pub mod apply;
pub mod build;
pub mod controller;
pub mod names;
pub mod reconcile;
pub mod secrets;
pub mod status;
pub mod validate;

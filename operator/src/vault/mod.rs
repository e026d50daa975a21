//! `TokenVault`: `fetch → validate → build → apply → status`.

pub mod apply;
pub mod build;
pub mod controller;
pub mod keyring;
pub mod names;
pub mod observe;
pub mod reconcile;
pub mod rotation;
pub mod secrets;
pub mod status;
pub mod validate;

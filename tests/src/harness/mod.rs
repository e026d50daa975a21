//! What a test of the sidecar over HTTP needs: the real program as a process of its own, the stand-ins
//! around it, and clients that speak to it as browsers, programs and attackers do.
//!
//! | module | is |
//! |---|---|
//! | [`stage`] | one sidecar between an emulated Globus and an echo upstream |
//! | [`sidecar`] | the process: its configuration as the kubelet mounts it, its log, its memory |
//! | [`browser`] | a browser without script: cookies, forms, redirects one at a time |
//! | [`wire`], [`websocket`] | bytes over TCP |
//! | [`scripted`] | a server that answers what a test says |
//! | [`wait`] | waiting for a condition, with a deadline |
//!
//! The sidecar runs as a process, never inside the test: its log, its memory, how it starts and how it
//! stops are part of what is tested, and it starts in milliseconds.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test that uses it"
)]

mod binary;
pub mod browser;
mod folder;
mod form;
mod jar;
mod log;
mod memory;
pub mod postgresql;
pub mod scripted;
pub mod secrets;
pub mod sidecar;
pub mod stage;
pub mod vault;
pub mod wait;
pub mod websocket;
pub mod wire;

pub use browser::{Browser, Page};
pub use sidecar::Sidecar;
pub use stage::{Setup, Stage};
pub use vault::Vault;
pub use wait::{eventually, in_time};

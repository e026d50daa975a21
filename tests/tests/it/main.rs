//! The programs as their users meet them: over HTTP, from outside.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod access;
mod attacks;
mod conformance;
mod connections;
mod drain;
mod grpc;
mod ingress;
mod limits;
mod login;
mod logout;
mod openid;
mod provider;
mod signer;
mod soak;
mod tls;
mod trace;
mod vault;

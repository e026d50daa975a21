//! What only real namespaces and a real Kubernetes can show. These tests need root and the tools of
//! `.ci/setup cluster`, and build Kubernetes if it is not there:
//!
//! ```sh
//! cargo test --package globus-auth-cluster -- --ignored
//! ```

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a test that cannot go on should say where"
)]

mod cluster;
mod input;
mod isolation;
mod kubernetes;

//! What only a real cluster can show. Each test has a namespace of its own; the operator is installed once.
//!
//! They run with `make test`, against the local cluster or the one that KUBECONFIG names.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::match_bool,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    missing_docs,
    reason = "a test that cannot go on should say where, and what it measured"
)]

mod browser;
mod canary;
mod cluster;
mod delegation;
mod workload;

mod access;
mod connect;
mod exposure;
mod injection;
mod login;
mod mlflow;
mod operator;
mod reconcile;
mod schema;
mod standalone;
mod vault;

//! Emulators, the cluster harness, and the tests that cross crates.
//!
//! | module | stands in for | binary |
//! |---|---|---|
//! | [`echo`] | a workload behind the proxy | `echo-upstream` |
//!
//! The stand-ins share no code with the crates that they test: a mistake made there must not be
//! repeated here, where it would hide itself.

pub mod echo;
mod server;

pub use server::asked_to_stop;

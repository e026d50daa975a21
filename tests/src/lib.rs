//! Emulators, the cluster harness, and the tests that cross crates.
//!
//! | module | stands in for | binary |
//! |---|---|---|
//! | [`globus`] | Globus Auth and the Globus Groups API | `globus-emulator` |
//! | [`echo`] | a workload behind the proxy | `echo-upstream` |
//!
//! The stand-ins share no code with the crates that they test: a mistake made there must not be
//! repeated here, where it would hide itself. Only [`harness`] knows one of their types: the
//! configuration that it hands to the sidecar.

pub mod attacks;
pub mod bench;
pub mod conformance;
#[cfg(feature = "cluster")]
pub mod demo;
pub mod echo;
#[cfg(feature = "cluster")]
pub mod forward;
pub mod globus;
pub mod harness;
mod server;
pub mod soak;

pub use server::asked_to_stop;

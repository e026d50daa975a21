//! The admission webhook: puts the sidecar into pods that ask for it.

mod files;
pub mod inject;
pub mod policy;
pub mod probes;
pub mod refusal;
pub mod server;

//! The admission webhook: puts the sidecar into pods that ask for it.

pub mod inject;
pub mod policy;
pub mod probes;
pub mod refusal;
pub mod server;

//! The operator's own certificates: one authority that all replicas share, a leaf for each.
//!
//! A new authority is trusted everywhere before it signs anything, and the old one stays trusted until
//! everything that it has signed has expired. So no connection fails while they change.

pub mod authority;
pub mod leaf;
pub mod rotation;

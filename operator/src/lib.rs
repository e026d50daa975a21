//! Reconciles GlobusAuthProxy and injects the sidecar.

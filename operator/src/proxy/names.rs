//! The names of what the operator makes for a proxy.

/// The Secret with the sidecar's configuration, and the NetworkPolicy.
fn child(proxy: &str) -> String {
    format!("{proxy}-globus-auth")
}

/// The Secret with the sidecar's configuration.
pub fn secret(proxy: &str) -> String {
    child(proxy)
}

/// The NetworkPolicy that admits the sidecar's port only.
pub fn network_policy(proxy: &str) -> String {
    child(proxy)
}

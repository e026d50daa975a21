//! The names of what the operator makes for a proxy.

/// What most of it is called.
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

/// The ServiceAccount, Service, PodDisruptionBudget and Deployment of a proxy of mode `Standalone`.
pub fn standalone(proxy: &str) -> String {
    child(proxy)
}

/// The ConfigMap with the snippet for nginx.
pub fn nginx(proxy: &str) -> String {
    format!("{}-nginx", child(proxy))
}

//! The names of what the operator makes for a vault.

/// The ServiceAccount, Service, NetworkPolicy, PodDisruptionBudget and the StatefulSet or Deployment.
pub fn workload(vault: &str) -> String {
    format!("{vault}-tokenvault")
}

/// The Secret with the vault's configuration.
pub fn config(vault: &str) -> String {
    workload(vault)
}

/// The Secret with the key ring.
pub fn keyring(vault: &str) -> String {
    format!("{vault}-tokenvault-keyring")
}

/// The Secret with the certificate that the vault shows.
pub fn certificate(vault: &str) -> String {
    format!("{vault}-tokenvault-tls")
}

/// The ClusterRoleBinding by which the vault may have tokens reviewed: one for the cluster.
pub fn reviewer(namespace: &str, vault: &str) -> String {
    format!("globus-auth-tokenvault:{namespace}:{vault}")
}

/// The host in the certificate.
pub fn host(namespace: &str, vault: &str) -> String {
    format!("{}.{namespace}.svc", workload(vault))
}

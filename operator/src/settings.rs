//! What the operator was told at its start, as the pure parts need it.

/// The sidecar's container, as far as it is the same in every pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SidecarSettings {
    /// The image of new pods.
    pub image: String,
    /// The image of vaults.
    pub vault_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// The user of the process; none where the platform chooses it.
    pub run_as_user: Option<i64>,
}

/// Where a sidecar finds the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OperatorAddress {
    /// The Service's name.
    pub service: String,
    /// The Service's namespace.
    pub namespace: String,
}

impl OperatorAddress {
    /// The name in the certificate, and in the address.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where reports go.
    pub fn url(&self) -> String {
        format!("https://{}", self.host())
    }
}

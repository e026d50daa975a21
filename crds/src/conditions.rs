//! The types and reasons of the conditions of a `GlobusAuthProxy` and of a `TokenVault`.

/// Condition types, in the order in which they are shown.
pub mod types {
    /// Everything below is True, or does not matter yet.
    pub const READY: &str = "Ready";
    /// The resource can be carried out.
    pub const CONFIG_VALID: &str = "ConfigValid";
    /// The client's id and secret were found.
    pub const CREDENTIALS_RESOLVED: &str = "CredentialsResolved";
    /// Every pod that the selector matches has the sidecar.
    pub const INJECTED: &str = "Injected";
    /// With mode Standalone: enough pods of the proxy's Deployment are ready.
    pub const AVAILABLE: &str = "Available";
    /// Of a vault: the encryption key is there, and can be used.
    pub const KEYRING_HEALTHY: &str = "KeyringHealthy";
    /// Of a vault: its database answers.
    pub const STORAGE_READY: &str = "StorageReady";
    /// Of a vault: no grant needs its user.
    pub const GRANTS_HEALTHY: &str = "GrantsHealthy";
    /// Of a vault: its issuers answer.
    pub const ISSUERS_REACHABLE: &str = "IssuersReachable";
    /// The vault of `vaultRef` serves, and the proxy may use it.
    pub const VAULT_CONNECTED: &str = "VaultConnected";
    /// The workload cannot be reached beside the sidecar.
    pub const UPSTREAM_PROTECTED: &str = "UpstreamProtected";
}

/// The type of the condition that the operator writes on a pod for its sidecar.
pub const POD_UPSTREAM_PROTECTED: &str = "globus-auth.dev/UpstreamProtected";
/// The type of the condition that says which configuration a pod's sidecar has in force.
pub const POD_CONFIG_APPLIED: &str = "globus-auth.dev/ConfigApplied";
/// The type of the condition that says whether a pod's files have their tokens.
pub const POD_TOKENS_PRESENT: &str = "globus-auth.dev/TokensPresent";

/// Condition reasons.
pub mod reasons {
    /// The ConfigMap of `emailsFrom`, or its key, is missing or unreadable.
    pub const ALLOWLIST_UNUSABLE: &str = "AllowlistUnusable";
    /// Enough pods of the Deployment are ready.
    pub const MINIMUM_REPLICAS_AVAILABLE: &str = "MinimumReplicasAvailable";
    /// Too few pods of the Deployment are ready.
    pub const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
    /// Every sidecar has the newest configuration, or will have it in a moment.
    pub const APPLIED: &str = "Applied";
    /// A sidecar refused the newest configuration and keeps the last good one.
    pub const CONFIG_REFUSED: &str = "ConfigRefused";
    /// Another, older proxy selects the same pods.
    pub const CONFLICT: &str = "Conflict";
    /// Both keys were found.
    pub const FOUND: &str = "Found";
    /// Pods were refused by the webhook.
    pub const INJECTION_REFUSED: &str = "InjectionRefused";
    /// The sidecar is in every pod.
    pub const INJECTED: &str = "Injected";
    /// The resource is not what it must be.
    pub const INVALID: &str = "Invalid";
    /// The workload listens on an address that other pods can reach.
    pub const LISTENING_ON_ALL_INTERFACES: &str = "ListeningOnAllInterfaces";
    /// The workload listens on loopback only.
    pub const LISTENING_ON_LOOPBACK: &str = "ListeningOnLoopback";
    /// The selector matches no pod.
    pub const NO_PODS: &str = "NoPods";
    /// No sidecar has reported yet.
    pub const NOT_REPORTED: &str = "NotReported";
    /// Pods that the selector matches have no sidecar.
    pub const PODS_NOT_INJECTED: &str = "PodsNotInjected";
    /// Tokens that a pod should find in files are not there.
    pub const TOKENS_MISSING: &str = "TokensMissing";
    /// Grants work again, or will go on, only after a login of their users.
    pub const USERS_NEEDED: &str = "UsersNeeded";
    /// An issuer does not accept the vault's client.
    pub const CLIENT_REFUSED: &str = "ClientRefused";
    /// An issuer does not answer now.
    pub const ISSUER_UNREACHABLE: &str = "IssuerUnreachable";
    /// The database of a vault does not answer.
    pub const STORAGE_UNAVAILABLE: &str = "StorageUnavailable";
    /// The encryption key of a vault is gone, although it was used before.
    pub const KEYRING_LOST: &str = "KeyringLost";
    /// The proxy's client is none of the vault's.
    pub const UNKNOWN_CLIENT: &str = "UnknownClient";
    /// A vault went before every token was taken back at its issuer.
    pub const NOT_REVOKED: &str = "NotRevoked";
    /// The vault has no issuer that it calls as the proxy does.
    pub const UNKNOWN_ISSUER: &str = "UnknownIssuer";
    /// There is no such vault, or it does not serve yet.
    pub const VAULT_NOT_READY: &str = "VaultNotReady";
    /// Everything is as it should be.
    pub const READY: &str = "Ready";
    /// The Secret is there, but lacks a key or has an empty one.
    pub const SECRET_MALFORMED: &str = "SecretMalformed";
    /// There is no such Secret.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The resource can be carried out.
    pub const VALID: &str = "Valid";
}

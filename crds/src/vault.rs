//! `TokenVault`: keeps users' OAuth tokens for workloads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::proxy::{ProviderType, SecretReference};

/// Keeps what users consent to: OAuth tokens, encrypted, and refreshed before they end. Proxies that name
/// the vault in `vaultRef` hand it the codes of their logins, and get access tokens for their users. No
/// refresh token leaves it.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "globus-auth.dev",
    version = "v1alpha1",
    kind = "TokenVault",
    plural = "tokenvaults",
    shortname = "tvault",
    category = "globus-auth",
    namespaced,
    status = "TokenVaultStatus",
    derive = "PartialEq",
    doc = "Keeps users' OAuth tokens, encrypted and fresh, for the workloads that they consented to.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Active", type_ = "integer", json_path = ".status.grants.active"),
    printcolumn(
        name = "Need user",
        type_ = "integer",
        json_path = ".status.grants.needsReauthentication"
    ),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.storage.type"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]{0,49}[a-z0-9])?$')")
        .message("metadata.name must have at most 51 letters, digits and - and begin with a letter, because a Service is named after it")
)]
#[x_kube(
    validation = Rule::new("self.replicas == 1 || self.storage.type == 'PostgreSQL'")
        .message("replicas above 1 need storage.type PostgreSQL: a file has one user at a time")
)]
#[serde(rename_all = "camelCase")]
pub struct TokenVaultSpec {
    /// Where tokens lie. Default: SQLite on a volume of 1Gi.
    #[serde(default)]
    pub storage: Storage,

    /// How many pods serve. More than 1 only with PostgreSQL. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub replicas: i32,

    /// Where tokens come from, with the vault's client there. A proxy with `vaultRef` must use one of these
    /// clients: only the client that a code was given to can redeem it.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub issuers: Vec<Issuer>,

    /// Networks beside the public internet in which issuers may be, such as `10.20.0.0/16` for a provider of
    /// your own, or for a Service of the cluster. An issuer at any other private, link-local or shared address
    /// is not asked, whatever name it has. Loopback and link-local networks, where clouds have their
    /// metadata, are refused. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 3, max = 43), regex(pattern = "^[0-9a-fA-F:.]+/[0-9]+$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_networks: Vec<String>,

    /// Which workloads may ask for tokens of which services, each for users who logged in there. Empty
    /// (default): none.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub consumers: Vec<Consumer>,

    /// Who may see which grants there are, take them back, upload tokens and read the audit log, over the API below
    /// `/v1/admin` of the vault. Nobody sees a refresh token, and nobody reads an access token there. Default: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admins: Option<Admins>,

    /// When tokens are refreshed, and how hard issuers are pressed.
    #[serde(default)]
    pub refresh: Refresh,

    /// When the encryption key is changed.
    #[serde(default)]
    pub encryption: Encryption,

    /// What happens to the volume and the encryption key when this resource is deleted. `Retain` (default):
    /// they stay, and a vault of the same name goes on with them. `Delete`: they go, and with them every
    /// token; nothing is revoked at the issuers. `Revoke`: as `Delete`, and before, every token is taken back at its
    /// issuer, as far as the issuers answer within five minutes.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Where tokens lie.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'PostgreSQL' || has(self.postgresql)")
        .message("storage.postgresql is required with storage.type PostgreSQL"),
    validation = Rule::new("self.type == 'PostgreSQL' || !has(self.postgresql)")
        .message("storage.postgresql is for storage.type PostgreSQL; remove it"),
    validation = Rule::new("self.type == 'SQLite' || !has(self.sqlite)")
        .message("storage.sqlite is for storage.type SQLite; remove it")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// `SQLite` (default): a file on a volume that the vault's one pod mounts. `PostgreSQL`: a database of
    /// yours, for several replicas. It cannot be changed.
    #[serde(default, rename = "type")]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("storage.type cannot be changed; create another TokenVault")
    )]
    pub kind: StorageType,
    /// With type SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<Sqlite>,
    /// With type PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<Postgresql>,
    /// When the database was last restored from a backup. Where issuers replace refresh tokens, those in a backup may
    /// have been redeemed since, and some issuers end everything if one comes again: grants from before this moment
    /// are not refreshed there, but ask their users when their access tokens end. Set it before the restored vault
    /// starts, to the present time. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
}

/// What kind of database.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum StorageType {
    #[default]
    SQLite,
    PostgreSQL,
}

/// The volume of the file.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sqlite {
    /// How large the volume is. A million grants need about 2 GiB. Default: `1Gi`.
    #[serde(default = "one_gibibyte")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(Mi|Gi|Ti)$"))]
    pub size: String,
    /// The class of the volume. Default: that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A database of yours.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Postgresql {
    /// The key of a Secret of this namespace with the address, such as
    /// `postgres://vault:password@postgres.db.svc/vault?sslmode=verify-full`.
    pub url_secret_ref: KeyReference,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// An issuer, and the vault's client there.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'OIDC' || has(self.issuer)")
        .message("issuers[].issuer is required with type OIDC")
)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// What it is called here.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// `Globus` or `OIDC`.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// The issuer, exactly as in its discovery document. With Globus it is `https://auth.globus.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    pub issuer: Option<String>,
    /// The Secret of this namespace with the client: keys `client-id` and `client-secret`.
    pub client_secret_ref: SecretReference,
    /// For how many seconds after its first use a refresh token that was replaced is good, too, where the
    /// issuer replaces refresh tokens at each use. It decides whether a token is tried again of which
    /// nobody knows whether it was used. Default: with Globus, refresh tokens are not replaced; with OIDC, 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub rotation_grace_seconds: Option<i32>,
    /// The session policy of the services, if they have one: so many days after a login they want another (30 at
    /// ALCF). In the last tenth of them users see it at `/oauth2/connections`, workloads get the header
    /// `X-Globus-Auth-Session-Ends-In` (seconds), and the condition `GrantsHealthy` tells how many it concerns.
    /// Default: none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub session_days: Option<i32>,
    /// What the vault gives a workload for a request with a bearer token, as programs make it. `Ignored` (default):
    /// nothing. `Accepted`: what the user of the token has connected, and lets the workload use, as if they were
    /// logged in. `Exchanged`: besides, where they have connected nothing, what the issuer gives for the token: at
    /// Globus its dependent tokens, elsewhere by RFC 8693. The token must be for the client of `clientSecretRef`,
    /// and the issuer must tell about it (RFC 7662).
    #[serde(default, skip_serializing_if = "BearerTokens::is_ignored")]
    pub bearer_tokens: BearerTokens,
    /// How users connect this issuer, where they log in at another one (`tokens[].issuer` of a proxy).
    /// `AuthorizationCode` (default): their browser goes there and comes back to
    /// `<externalUrl>/oauth2/connections/callback/<name>`, which must be registered there. `DeviceCode` (RFC 8628): they
    /// enter a code there, in any browser; for clients that have no such address.
    #[serde(default, skip_serializing_if = "UserGrant::is_default")]
    pub user_grant: UserGrant,
}

/// By which grant users connect an issuer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum UserGrant {
    #[default]
    AuthorizationCode,
    DeviceCode,
}

impl UserGrant {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the vault gives for bearer tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum BearerTokens {
    #[default]
    Ignored,
    Accepted,
    Exchanged,
}

impl BearerTokens {
    /// Whether they get nothing.
    pub const fn is_ignored(&self) -> bool {
        matches!(self, Self::Ignored)
    }
}

/// Workloads, and the services for which they may have tokens.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("has(self.resourceServers) || has(self.clientCredentials)")
        .message("consumers[] needs resourceServers, clientCredentials, or both")
)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// Their namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Their ServiceAccount; `*` is every one of the namespace. Workloads with one ServiceAccount share what
    /// users consent to.
    #[schemars(length(min = 1, max = 253))]
    pub service_account: String,
    /// The resource servers, as the issuer calls them: with Globus the name that comes with a token, such as
    /// `transfer.api.globus.org` or a UUID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub resource_servers: Vec<String>,
    /// The resource servers for which they may have tokens of the vault's own client at the first issuer, with
    /// no user (`grantType: ClientCredentials` of a proxy's token). Such a token may do whatever the client
    /// itself may. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_credentials: Vec<String>,
    /// For how many days at most users may let these workloads use `resourceServers` while they are away, for jobs
    /// (`delegation` and `file` of a proxy's token). Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 365))]
    pub delegation_days: Option<i32>,
}

/// Administrators: they come with a JWT of an issuer, given out within the last hour.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("has(self.emails) || has(self.groups)")
        .message("admins needs emails, groups, or both")
)]
#[serde(rename_all = "camelCase")]
pub struct Admins {
    /// The issuer of the JWTs. Default: that of the first of `issuers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    pub issuer: Option<String>,
    /// Their `aud`: a client for administrators, such as that of a command-line tool. It must be none of the clients
    /// of `issuers`, because whoever runs a proxy sees tokens for those.
    #[schemars(length(min = 1, max = 255))]
    pub audience: String,
    /// The addresses of administrators. With an issuer other than Globus they must be verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 3, max = 254)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub emails: Vec<String>,
    /// Groups of administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,
    /// The claim of the JWT that lists groups. Default: `groups`.
    #[serde(default = "groups")]
    #[schemars(length(min = 1, max = 128))]
    pub groups_claim: String,
}

fn groups() -> String {
    "groups".to_owned()
}

/// When tokens are refreshed, and how hard issuers are pressed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// A grant that nobody uses is refreshed within so many days, so that its refresh token does not die of
    /// disuse (after half a year, at Globus). Default: 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 180))]
    pub keep_alive_days: i32,
    /// A grant that no workload has asked for within so many days is taken back at the issuer and forgotten; its
    /// user is asked again when it is needed. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub forget_unused_after_days: Option<i32>,
    /// Refreshes under way at one issuer at a time, for each replica. Default: 8.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 256))]
    pub max_concurrent_per_issuer: i32,
    /// Requests per second to one issuer at most, for each replica. Default: 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: i32,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            keep_alive_days: thirty(),
            forget_unused_after_days: None,
            max_concurrent_per_issuer: eight(),
            requests_per_second: twenty(),
        }
    }
}

/// When the encryption key is changed. The operator adds a key, waits until every replica has it, makes it
/// the primary, waits until everything is stored under it, and takes the old one out; nothing stops meanwhile.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// A key is replaced after so many days; 0 never does. Default: 90.
    #[serde(default = "ninety")]
    #[schemars(range(min = 0, max = 3650))]
    pub rotation_period_days: i32,
    /// For so many days after its last use a replaced key stays in the key ring, because older backups of the
    /// database need it. Default: 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 3650))]
    pub retain_days: i32,
    /// A key that was last changed before this moment is replaced now. To replace a key that somebody may
    /// have seen, set it to the present time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_keys_before: Option<Time>,
}

impl Default for Encryption {
    fn default() -> Self {
        Self {
            rotation_period_days: ninety(),
            retain_days: thirty(),
            replace_keys_before: None,
        }
    }
}

/// What happens to tokens when the resource goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
    Revoke,
}

/// What came of a vault.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenVaultStatus {
    /// The generation of the resource that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where sidecars ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The certificate that the vault shows, in PEM; proxies trust this one and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authorities: Option<String>,
    /// The clients that logins must use, one for each issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub clients: Vec<Client>,
    /// The encryption keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<KeyringStatus>,
    /// How many grants there are, by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantCounts>,
    /// Ready, ConfigValid, CredentialsResolved, KeyringHealthy, Available, StorageReady, GrantsHealthy and
    /// IssuersReachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The encryption keys.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyringStatus {
    /// The key under which new secrets are stored.
    pub primary: String,
    /// The oldest key under which something is stored.
    pub oldest_in_use: String,
    /// Grants that are stored under another key than the primary.
    pub rows_pending: i64,
}

/// How many grants there are, by state; never whose.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantCounts {
    /// Work.
    pub active: i64,
    /// The last refresh failed; the next one may work.
    pub degraded: i64,
    /// Wait for their users to log in again.
    pub needs_reauthentication: i64,
    /// Taken back.
    pub revoked: i64,
}

/// A client at an issuer.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// The issuer.
    pub issuer: String,
    /// The client id; no secret.
    pub client_id: String,
    /// Whether bearer tokens get anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bearer_tokens: bool,
}

const fn one() -> i32 {
    1
}

const fn eight() -> i32 {
    8
}

const fn twenty() -> i32 {
    20
}

const fn ninety() -> i32 {
    90
}

const fn thirty() -> i32 {
    30
}

fn one_gibibyte() -> String {
    "1Gi".to_owned()
}

//! The contract between operator and vault: the configuration of one vault, as the operator writes it
//! into a Secret.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::UnixSeconds;
use crate::egress::Egress;
use crate::email::Email;
use crate::identity::EmailVerification;
use crate::sidecar_config::{BadConfig, LogLevel, ProviderKind, parse};
use crate::url::Issuer as IssuerUrl;

/// The file in the mounted Secret.
pub const FILE_NAME: &str = "vault.json";
/// The only format there is.
pub const VERSION: u32 = 1;

/// The configuration of one vault. An unknown member is refused: it may be a rule.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VaultConfig {
    /// [`VERSION`].
    pub version: u32,
    /// The resource that this was rendered from.
    pub vault: VaultReference,
    /// Where tokens come from.
    pub issuers: Vec<Issuer>,
    /// Who may ask for what. Empty: nobody.
    pub consumers: Vec<Consumer>,
    /// Who may see and take back what users consented to; none, nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admins: Option<Admins>,
    /// Which internal networks issuers may be in.
    #[serde(default)]
    pub egress: Egress,
    /// When tokens are refreshed.
    pub refresh: Refresh,
    /// When the database was restored from a backup, in seconds since 1970; none, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<UnixSeconds>,
    /// Whether everything is taken back, and nothing given out any more, because the resource is being deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_closing: bool,
    /// Which log lines to write.
    pub log_level: LogLevel,
}

/// Names a `TokenVault`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VaultReference {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// An issuer, and our client there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Issuer {
    /// What it is called in the resource.
    pub name: String,
    /// Which provider's ways to expect.
    pub kind: ProviderKind,
    /// The issuer identifier.
    pub issuer: IssuerUrl,
    /// Our client id.
    pub client_id: String,
    /// Our client secret.
    #[serde(serialize_with = "expose")]
    pub client_secret: SecretString,
    /// What it does with a refresh token that was redeemed.
    pub rotation: Rotation,
    /// Requests per second that it is asked at most.
    pub requests_per_second: u32,
    /// For so many seconds after a login the issuer refreshes what came with it; none, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_seconds: Option<u64>,
    /// What a bearer token of a user is good for.
    #[serde(default, skip_serializing_if = "BearerTokens::is_ignored")]
    pub bearer_tokens: BearerTokens,
    /// How users connect it who log in elsewhere.
    #[serde(default, skip_serializing_if = "UserGrant::is_default")]
    pub user_grant: UserGrant,
}

/// By which grant a user lets the vault have tokens of an issuer at which they do not log in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum UserGrant {
    /// RFC 6749 §4.1: the browser goes there, and comes back.
    #[default]
    AuthorizationCode,
    /// RFC 8628: the user enters a code there, in any browser.
    DeviceCode,
}

impl UserGrant {
    /// Whether it is the usual one; for serde.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Issuer {
    /// Before the end of a session policy, users are told for so long: a tenth of it.
    pub fn warning(&self) -> Option<Duration> {
        self.session_seconds
            .map(|seconds| Duration::from_secs(seconds / 10))
    }
}

/// What a bearer token (RFC 6750) is good for, with which a user asked a workload.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum BearerTokens {
    /// Nothing.
    #[default]
    Ignored,
    /// It stands for its user, as a session would.
    Accepted,
    /// And it is exchanged for tokens of services that the user has not connected: by RFC 8693, or, at Globus, for
    /// dependent tokens.
    Exchanged,
}

impl BearerTokens {
    /// Whether they are good for nothing.
    pub const fn is_ignored(&self) -> bool {
        matches!(self, Self::Ignored)
    }
}

/// What an issuer does with a refresh token that was redeemed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", tag = "type")]
pub enum Rotation {
    /// It stays good.
    Never,
    /// A new one takes its place.
    #[serde(rename_all = "camelCase")]
    Rotates {
        /// For so many seconds after its first use the old one is good, too.
        grace_seconds: u32,
    },
}

/// Workloads that may ask for tokens of users who logged in there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Consumer {
    /// Their namespace.
    pub namespace: String,
    /// Their ServiceAccount; `*` is every one of the namespace.
    pub service_account: String,
    /// The resource servers for whose tokens they may ask.
    pub resource_servers: Vec<String>,
    /// The resource servers for which they may have tokens of our client itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_credentials: Vec<String>,
    /// For how many days at most users may let them act while they are away; none, not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation_days: Option<u32>,
}

/// Who may see and take back what users consented to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Admins {
    /// The issuer of the JWTs with which they come.
    pub issuer: IssuerUrl,
    /// `aud` of those JWTs: no client of [`VaultConfig::issuers`], whose tokens proxies see.
    pub audience: String,
    /// Whether an address counts that is not said to be verified.
    pub email_verification: EmailVerification,
    /// Their addresses.
    pub emails: Vec<Email>,
    /// Their groups.
    pub groups: Vec<String>,
    /// The claim that lists groups.
    pub groups_claim: String,
}

/// When tokens are refreshed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refresh {
    /// A grant that nobody uses is refreshed within so many seconds.
    pub keep_alive_seconds: u64,
    /// Refreshes under way at one issuer at a time.
    pub max_concurrent_per_issuer: u32,
    /// A grant that nobody has used for so many seconds is taken back and forgotten; none, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_unused_after_seconds: Option<u64>,
}

impl VaultConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// [`BadConfig`], which names the member and never its value.
    pub fn parse(json: &[u8]) -> Result<Self, BadConfig> {
        let config: Self = parse(json)?;
        if config.version == VERSION {
            Ok(config)
        } else {
            Err(BadConfig::Version {
                found: config.version,
            })
        }
    }

    /// Whether pods of `service_account` in `namespace` may ask for tokens of `resource_server`.
    pub fn allows(&self, namespace: &str, service_account: &str, resource_server: &str) -> bool {
        self.consumers.iter().any(|consumer| {
            consumer.is(namespace, service_account)
                && consumer
                    .resource_servers
                    .iter()
                    .any(|one| one == resource_server)
        })
    }

    /// For how many days at most users may let pods of `service_account` in `namespace` use
    /// `resource_server` while they are away; none, not at all.
    pub fn delegation_days(
        &self,
        namespace: &str,
        service_account: &str,
        resource_server: &str,
    ) -> Option<u32> {
        let allowing = self.consumers.iter().filter(|consumer| {
            consumer.is(namespace, service_account)
                && consumer
                    .resource_servers
                    .iter()
                    .any(|one| one == resource_server)
        });
        allowing
            .filter_map(|consumer| consumer.delegation_days)
            .max()
    }

    /// Whether pods of `service_account` in `namespace` may have tokens of our client itself for
    /// `resource_server`.
    pub fn allows_own(
        &self,
        namespace: &str,
        service_account: &str,
        resource_server: &str,
    ) -> bool {
        self.consumers.iter().any(|consumer| {
            consumer.is(namespace, service_account)
                && consumer
                    .client_credentials
                    .iter()
                    .any(|one| one == resource_server)
        })
    }

    /// Whether pods of `service_account` in `namespace` may ask for anything.
    pub fn knows(&self, namespace: &str, service_account: &str) -> bool {
        self.consumers
            .iter()
            .any(|consumer| consumer.is(namespace, service_account))
    }
}

impl Consumer {
    fn is(&self, namespace: &str, service_account: &str) -> bool {
        self.namespace == namespace
            && (self.service_account == "*" || self.service_account == service_account)
    }
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn config() -> VaultConfig {
        let json = json!({
            "version": 1,
            "vault": {"namespace": "auth", "name": "alcf"},
            "issuers": [{"name": "globus", "kind": "Globus", "issuer": "https://auth.globus.org",
                "clientId": "id", "clientSecret": "canary", "rotation": {"type": "never"},
                "requestsPerSecond": 20}],
            "consumers": [
                {"namespace": "ml", "serviceAccount": "app", "resourceServers": ["r", "s"], "delegationDays": 7},
                {"namespace": "any", "serviceAccount": "*", "resourceServers": ["r"], "clientCredentials": ["own"]}
            ],
            "refresh": {"keepAliveSeconds": 2_592_000, "maxConcurrentPerIssuer": 8},
            "logLevel": "info"
        });
        VaultConfig::parse(json.to_string().as_bytes()).unwrap()
    }

    #[rstest]
    #[case("ml", "app", "r", true)]
    #[case("ml", "app", "s", true)]
    #[case("ml", "app", "t", false)]
    #[case("ml", "other", "r", false)]
    #[case("other", "app", "r", false)]
    #[case("any", "whatever", "r", true)]
    #[case("any", "whatever", "s", false)]
    fn a_workload_may_ask_for_what_is_listed(
        #[case] namespace: &str,
        #[case] account: &str,
        #[case] resource_server: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(
            config().allows(namespace, account, resource_server),
            expected
        );
    }

    #[rstest]
    #[case("any", "own", true)]
    #[case("any", "r", false)]
    #[case("ml", "own", false)]
    fn a_workload_has_tokens_of_its_own_only_where_that_is_listed(
        #[case] namespace: &str,
        #[case] resource_server: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(
            config().allows_own(namespace, "app", resource_server),
            expected
        );
        assert!(!config().allows(namespace, "app", "own"));
    }

    #[rstest]
    #[case("ml", "app", "r", Some(7))]
    #[case("ml", "app", "t", None)]
    #[case("ml", "other", "r", None)]
    #[case("any", "whatever", "r", None)]
    fn a_workload_acts_for_users_who_are_away_only_where_that_is_listed(
        #[case] namespace: &str,
        #[case] account: &str,
        #[case] resource_server: &str,
        #[case] expected: Option<u32>,
    ) {
        assert_eq!(
            config().delegation_days(namespace, account, resource_server),
            expected
        );
    }

    #[test]
    fn debug_output_has_no_secret() {
        assert!(!format!("{:?}", config()).contains("canary"));
    }
}

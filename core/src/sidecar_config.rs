//! The contract between operator and sidecar: the configuration of one proxy, as the operator writes
//! it into a Secret and the sidecar reads it from a mounted volume.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::email::{Email, EmailDomain};
use crate::identity::{EmailVerification, ServiceAccount};
use crate::oauth::globus::requirements::SessionRequirements;
use crate::oauth::jwt::SignatureAlgorithm;
use crate::sealer::{KeyBytes, KeyId};
use crate::url::{CollectorUrl, ExternalUrl, Issuer, UpstreamUrl};

/// The file in the mounted Secret.
pub const FILE_NAME: &str = "config.json";
/// The only format there is. A sidecar refuses any other, so that it never half-understands one.
pub const VERSION: u32 = 1;

/// The configuration of one proxy. An unknown member is refused: it may be a rule.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SidecarConfig {
    /// [`VERSION`].
    pub version: u32,
    /// The resource that this was rendered from.
    pub proxy: ProxyReference,
    /// Where users reach the workload.
    pub external_url: ExternalUrl,
    /// Who vouches for users.
    pub provider: Provider,
    /// Who may enter.
    pub access: Access,
    /// How long sessions last.
    pub session: Session,
    /// Bearer tokens that are accepted beside sessions.
    pub bearer: Bearer,
    /// How the workload is reached.
    pub upstream: Upstream,
    /// How the workload learns who the user is, beside the usual headers.
    #[serde(default, skip_serializing_if = "IdentityHeaders::is_empty")]
    pub identity_headers: IdentityHeaders,
    /// What the listener shows, if it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Where traces go, if anybody wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// The vault that keeps what logins return, and what of it the workload gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Vault>,
    /// Keys that seal cookies; the first seals, all open.
    pub session_keys: Vec<SessionKey>,
    /// Where to report what only the sidecar sees.
    pub operator: Operator,
    /// Which log lines to write.
    pub log_level: LogLevel,
}

/// Names a `GlobusAuthProxy`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyReference {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: a proxy that was deleted and created again shares no cookie with the old one.
    pub uid: String,
}

/// An identity provider and our client there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Provider {
    /// Which provider's ways to expect.
    pub kind: ProviderKind,
    /// The issuer identifier.
    pub issuer: Issuer,
    /// Our client id.
    pub client_id: String,
    /// Our client secret.
    #[serde(serialize_with = "expose")]
    pub client_secret: SecretString,
    /// Scopes beside `openid`.
    pub scopes: Vec<String>,
    /// Whether `email_verified` must be there.
    pub email_verification: EmailVerification,
    /// The claim that lists a user's groups, where the provider has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// What a login session at Globus must have.
    #[serde(default, skip_serializing_if = "SessionRequirements::is_empty")]
    pub session_requirements: SessionRequirements,
}

/// Which provider's ways to expect.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ProviderKind {
    /// Globus Auth: opaque tokens, an introspection endpoint that it does not advertise.
    Globus,
    /// Any OpenID Connect provider.
    OIDC,
}

/// Who may enter: whoever any member names. Empty means nobody.
///
/// Members that say nothing are left out when this is written, so that a sidecar of the version before
/// goes on reading it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Access {
    /// Addresses that may enter.
    pub emails: Vec<Email>,
    /// Domains whose addresses may enter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_domains: Vec<EmailDomain>,
    /// Groups whose members may enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupAccess>,
    /// Providers whose identities count; empty, all. The only member that narrows the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_providers: Vec<String>,
    /// ServiceAccounts that may enter, and how their tokens are recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountAccess>,
    /// Whether everybody may enter whom the provider vouches for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_authenticated: bool,
    /// What everybody may fetch without a login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<PublicRoute>,
}

/// Groups whose members may enter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GroupAccess {
    /// Their names or ids, as the provider tells them.
    pub names: Vec<String>,
    /// Seconds after which a membership that the provider told of no longer counts.
    pub max_age_seconds: u32,
}

/// ServiceAccounts that may enter.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceAccountAccess {
    /// Which.
    pub accounts: Vec<ServiceAccount>,
    /// The issuer of the cluster's ServiceAccount tokens.
    pub issuer: String,
    /// What their `aud` must contain.
    pub audience: String,
    /// The cluster's public keys, a JWK set (RFC 7517 §5).
    pub keys: serde_json::Value,
}

/// Requests that everybody may make without a login.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PublicRoute {
    /// Starts with `/`.
    pub path: String,
    /// How `path` is compared.
    pub path_match: PathMatch,
    /// Upper-case methods.
    pub methods: Vec<String>,
}

/// How the path of a public route is compared with that of a request, byte for byte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PathMatch {
    /// The same.
    Exact,
    /// The same, or below it: `/a` covers `/a` and `/a/b` and not `/ab`.
    Prefix,
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Session {
    /// Seconds without use.
    pub idle_timeout_seconds: u32,
    /// Seconds since the login.
    pub absolute_timeout_seconds: u32,
}

/// Bearer tokens that are accepted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bearer {
    /// Ask the provider about opaque tokens.
    pub introspection: bool,
    /// Issuers whose JWTs count.
    pub jwt: Vec<JwtIssuer>,
}

/// An issuer whose JWTs are accepted as bearer tokens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtIssuer {
    /// `iss`.
    pub issuer: Issuer,
    /// `aud` must be, or contain, one of these.
    pub audiences: Vec<String>,
    /// Allowed signature algorithms.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Whether `email_verified` must be there.
    pub email_verification: EmailVerification,
    /// The claim that lists a user's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
}

/// How the workload is reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Upstream {
    /// The `Host` that the workload sees.
    pub host_header: HostHeader,
    /// What to do when the workload can be reached beside the proxy.
    pub exposure: Exposure,
    /// What is spoken with the workload.
    #[serde(default, skip_serializing_if = "Protocol::is_usual")]
    pub protocol: Protocol,
    /// Longer bodies of requests are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body_bytes: Option<u64>,
    /// How long the workload may take to begin its answer, from the last byte of the request on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout_seconds: Option<u32>,
}

/// What is spoken with the workload, beside upgrades, which are HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    #[default]
    HTTP1,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3).
    H2C,
}

impl Protocol {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// The `Host` that the workload sees.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum HostHeader {
    /// That of the external address.
    External,
    /// `localhost` and the workload's port, for servers that trust nothing else.
    Localhost,
}

/// What to do when the workload listens on an address that other pods can reach.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Exposure {
    /// Do not become ready.
    Refuse,
    /// Say so, and serve.
    Report,
}

/// Further headers that tell the workload who the user is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentityHeaders {
    /// Names for the subject.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<String>,
    /// Names for the address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<String>,
    /// Names for the user name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_username: Vec<String>,
    /// Names for the groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What shows the workload that a request came through the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_secret: Option<SharedSecret>,
}

impl IdentityHeaders {
    /// Whether `name` may say who a user is. Names of this shape mean nothing to HTTP itself, so none of
    /// them can change what a request is; the three that say where a request came from are left out.
    pub fn allows(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let rest = name
            .strip_prefix("x-")
            .or_else(|| name.strip_prefix("remote-"));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain))
            && !["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].contains(&&*name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let Self {
            user,
            email,
            preferred_username,
            groups,
            shared_secret,
        } = self;
        let lists = [user, email, preferred_username, groups];
        lists.iter().all(|list| list.is_empty()) && shared_secret.is_none()
    }
}

/// A header whose value only proxy and workload know.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SharedSecret {
    /// Its name.
    pub header: String,
    /// Its value.
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
}

/// A certificate for TLS (RFC 8446), and its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// The chain in PEM, the server's own certificate first.
    pub certificates: String,
    /// The private key in PEM.
    #[serde(serialize_with = "expose")]
    pub private_key: SecretString,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
            && self.private_key.expose_secret() == other.private_key.expose_secret()
    }
}

impl Eq for Tls {}

/// A key that seals cookies.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionKey {
    /// Names the key in what it sealed.
    pub id: KeyId,
    /// 32 bytes, in base64.
    pub key: KeyText,
}

/// A key as text. Its `Debug` output hides it.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyText(KeyBytes);

impl KeyText {
    /// The key.
    pub fn bytes(&self) -> &KeyBytes {
        &self.0
    }
}

impl From<KeyBytes> for KeyText {
    fn from(bytes: KeyBytes) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.as_slice()))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        let mut key = KeyBytes::default();
        // The error says nothing of the text, which is a key all the same.
        match STANDARD.decode_slice(text.as_bytes(), key.as_mut_slice()) {
            Ok(32) => Ok(Self(key)),
            _ => Err(de::Error::custom(
                "a session key must be 32 bytes in base64",
            )),
        }
    }
}

/// Where traces go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tracing {
    /// The collector.
    pub endpoint: CollectorUrl,
    /// Of a million requests that no trace has caused, so many start one.
    pub sampling_rate_per_million: u32,
}

/// The vault that keeps what logins return.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Vault {
    /// Its address, `https`.
    pub url: String,
    /// The certificate authorities that vouch for it, in PEM.
    pub certificate_authorities: String,
    /// What the workload gets, on behalf of whom it serves.
    pub tokens: Vec<DeliveredToken>,
    /// Whose bearer tokens it takes for users; none, nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_tokens: Option<VaultClient>,
}

/// A client of the vault.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VaultClient {
    /// The issuer.
    pub issuer: Issuer,
    /// The client id.
    pub client_id: String,
}

/// An access token that the workload gets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeliveredToken {
    /// What it is called.
    pub name: String,
    /// For whom it is good.
    pub resource_server: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// What the vault calls its issuer, if it is not that of the login: users connect it by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "GrantType::is_authorization_code")]
    pub grant_type: GrantType,
    /// The header of forwarded requests that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Where requests of the workload get it attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<TokenRoute>,
    /// The file in which jobs have it, for the user whom the pod names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Who may get it while the user is away, if the user agrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
}

impl DeliveredToken {
    /// Whether users are asked for it, when they log in or when they connect it.
    pub const fn is_for_users(&self) -> bool {
        matches!(self.grant_type, GrantType::AuthorizationCode)
            && (self.header.is_some() || self.route.is_some() || self.delegation.is_some())
    }

    /// Whether it comes with a login.
    pub const fn comes_with_login(&self) -> bool {
        self.is_for_users() && self.issuer.is_none()
    }
}

/// Who may act for users who are away.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Delegation {
    /// The ServiceAccount, of the workload's namespace.
    pub service_account: String,
    /// For how many days.
    pub days: u32,
}

/// How a token is got, and so on whose behalf it acts (RFC 6749 §1.3).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum GrantType {
    /// For the user whose request is served, who consented at a login.
    #[default]
    AuthorizationCode,
    /// For the vault's client itself: no user takes part.
    ClientCredentials,
}

impl GrantType {
    /// Whether it is the default; for serde.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_authorization_code(&self) -> bool {
        *self == Self::AuthorizationCode
    }
}

/// A path on loopback that stands for another origin, with a token attached.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenRoute {
    /// Starts with `/`, and is not passed on.
    pub prefix: String,
    /// The only origin that the token is sent to.
    pub upstream: UpstreamUrl,
}

/// Where the operator listens for reports.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Operator {
    /// Its address, `https`.
    pub url: String,
    /// The certificate authorities that vouch for it, in PEM.
    pub certificate_authorities: String,
}

/// Which log lines to write.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

impl SidecarConfig {
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
}

/// Reads a configuration of any kind.
///
/// # Errors
/// [`BadConfig::Parse`], which names the member and never its value.
pub(crate) fn parse<T: de::DeserializeOwned>(json: &[u8]) -> Result<T, BadConfig> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        match missing_member(error.inner()) {
            Some(name) => BadConfig::Parse {
                path: match path.as_str() {
                    "." => name,
                    parent => format!("{parent}.{name}"),
                },
                category: "lacks a member",
            },
            None => BadConfig::Parse {
                path,
                category: category(error.inner()),
            },
        }
    })
}

/// Names a configuration by its text: what the operator rendered last, what a sidecar has in force.
pub fn hash(json: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, json);
    let (short, _rest) = digest.as_ref().split_at(9);
    URL_SAFE_NO_PAD.encode(short)
}

/// serde's own message quotes the offending value, which may be a secret.
fn category(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "has a value that is not allowed",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Io => "cannot be read",
        serde_json::error::Category::Syntax => "is not JSON",
    }
}

/// The name of a member that is not there. It is one of ours, so it may be told.
fn missing_member(error: &serde_json::Error) -> Option<String> {
    let message = error.to_string();
    let rest = message.strip_prefix("missing field `")?;
    rest.split('`').next().map(str::to_owned)
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadConfig {
    /// A member is missing, unknown or has a wrong value.
    #[error("the configuration {category} at {path}")]
    Parse {
        /// Where, as `provider.issuer`.
        path: String,
        /// What is wrong there.
        category: &'static str,
    },
    /// Written by an operator of another generation.
    #[error(
        "the configuration has version {found}, this program reads version {VERSION} only; restart the pod to get the program that fits the operator"
    )]
    Version {
        /// Its version.
        found: u32,
    },
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn config() -> Value {
        json!({
            "version": 1,
            "proxy": {"namespace": "ml", "name": "mlflow", "uid": "u-1"},
            "externalUrl": "https://mlflow.example.org",
            "provider": {
                "kind": "Globus", "issuer": "https://auth.globus.org", "clientId": "id", "clientSecret": "hunter2",
                "scopes": ["email", "profile"], "emailVerification": "IfPresent"
            },
            "access": {"emails": ["Alice@example.org"]},
            "session": {"idleTimeoutSeconds": 43200, "absoluteTimeoutSeconds": 604_800},
            "bearer": {"introspection": true, "jwt": []},
            "upstream": {"hostHeader": "External", "exposure": "Report"},
            "sessionKeys": [{"id": 7, "key": STANDARD.encode([9; 32])}],
            "operator": {"url": "https://operator.test", "certificateAuthorities": ""},
            "logLevel": "info"
        })
    }

    fn parse(config: &Value) -> Result<SidecarConfig, BadConfig> {
        SidecarConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let parsed = parse(&config()).unwrap();
        assert_eq!(parsed.access.emails, ["alice@example.org".parse().unwrap()]);
        let again = serde_json::to_value(&parsed).unwrap();
        assert_eq!(again["provider"], config()["provider"]);
        assert_eq!(again["sessionKeys"], config()["sessionKeys"]);
    }

    #[test]
    fn an_unknown_member_is_refused_by_name() {
        let mut config = config();
        config["access"]["emailDomain"] = json!(["example.org"]);
        let error = parse(&config).unwrap_err().to_string();
        assert!(error.contains("access"), "{error}");
    }

    #[test]
    fn an_error_names_the_member_and_not_the_value() {
        let mut config = config();
        config["provider"]["clientSecret"] = json!({"oops": "hunter2"});
        let error = parse(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "the configuration has a value that is not allowed at provider.clientSecret"
        );
    }

    #[rstest]
    #[case("provider", "clientSecret", "provider.clientSecret")]
    #[case("access", "emails", "access.emails")]
    fn a_missing_member_is_named(#[case] parent: &str, #[case] name: &str, #[case] named: &str) {
        let mut config = config();
        config[parent].as_object_mut().unwrap().remove(name);
        let error = parse(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the configuration lacks a member at {named}")
        );
    }

    #[test]
    fn another_version_is_refused() {
        let mut config = config();
        config["version"] = json!(2);
        assert_eq!(parse(&config).unwrap_err(), BadConfig::Version { found: 2 });
    }

    #[test]
    fn debug_output_has_no_secret() {
        let debug = format!("{:?}", parse(&config()).unwrap());
        assert!(
            !debug.contains("hunter2") && !debug.contains(&STANDARD.encode([9; 32])),
            "{debug}"
        );
    }
}

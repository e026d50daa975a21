//! The contract between sidecar and vault: JSON over TLS, each request with the pod's ServiceAccount
//! token for [`audience`].
//!
//! No answer has a refresh token. Whoever asks for what is not there and whoever asks for what is not
//! theirs get the same answer.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::oauth::globus::requirements::SessionRequirements;

/// Hands over the code of a login: [`LoginRequest`] → [`LoginResponse`].
pub const LOGINS: &str = "/v1/logins";
/// Trades the session that a browser holds for a handle of this pod: [`SessionRequest`] →
/// [`SessionResponse`].
pub const SESSIONS: &str = "/v1/sessions";
/// Trades a bearer token with which a user asked the workload for a handle of this pod: [`BearerRequest`] →
/// [`SessionResponse`].
pub const BEARER_SESSIONS: &str = "/v1/sessions/bearer";
/// Ends a session: [`SessionRequest`] → nothing.
pub const SESSIONS_END: &str = "/v1/sessions/end";
/// An access token for a user: [`TokenRequest`] → [`TokenAnswer`].
pub const TOKENS: &str = "/v1/tokens";
/// An access token of the vault's client itself, for a workload that may have it: [`OwnTokenRequest`] →
/// [`TokenAnswer`].
pub const OWN_TOKENS: &str = "/v1/tokens/own";
/// What a user has connected: [`ConnectionsRequest`] → [`ConnectionsResponse`].
pub const CONNECTIONS: &str = "/v1/connections";
/// Takes back what a user has connected: [`DisconnectRequest`] → nothing.
pub const DISCONNECT: &str = "/v1/connections/disconnect";
/// Begins to connect a service of an issuer that is not that of the login: [`ConnectRequest`] → [`ConnectAnswer`].
pub const CONNECT: &str = "/v1/connections/connect";
/// Hands over the code that a browser brought back from such an issuer: [`ConnectedRequest`] → nothing.
pub const CONNECTED: &str = "/v1/connections/connected";
/// Notes that a user lets the workload use services: [`ConsentRequest`] → nothing.
pub const CONSENT: &str = "/v1/connections/consent";
/// Lets the pods of a ServiceAccount act for a user who is away: [`DelegateRequest`] → [`Delegation`].
pub const DELEGATE: &str = "/v1/delegations";
/// Takes that back: [`EndDelegationRequest`] → nothing.
pub const END_DELEGATION: &str = "/v1/delegations/end";
/// An access token for a user who is away: [`DelegatedTokenRequest`] → [`TokenAnswer`].
pub const DELEGATED_TOKENS: &str = "/v1/tokens/delegated";

/// The audience of ServiceAccount tokens for a vault.
pub fn audience(namespace: &str, name: &str) -> String {
    format!("tokenvault.{name}.{namespace}")
}

/// A code that a browser brought back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoginRequest {
    /// The issuer that gave it.
    pub issuer: String,
    /// The client to which it gave it: one of the vault's.
    pub client_id: String,
    /// The redirect address of the authorization request (RFC 6749 §4.1.3).
    pub redirect_uri: String,
    /// The code.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
    /// The verifier of its challenge (RFC 7636 §4.5).
    #[serde(serialize_with = "expose")]
    pub code_verifier: SecretString,
    /// What the ID token must repeat.
    #[serde(serialize_with = "expose")]
    pub nonce: SecretString,
    /// For how long the session will last at most, in seconds; none, as long as the vault keeps any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_seconds: Option<u64>,
}

/// A login that worked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginResponse {
    /// The ID token, which the vault has verified.
    #[serde(serialize_with = "expose")]
    pub id_token: SecretString,
    /// For the userinfo endpoint.
    #[serde(serialize_with = "expose")]
    pub access_token: SecretString,
    /// For services of the issuer that the login itself asks, such as Globus Groups.
    pub other_tokens: Vec<OtherToken>,
    /// Names the login to the vault: 16 bytes in base64url. The browser holds it, sealed.
    #[serde(serialize_with = "expose")]
    pub session: SecretString,
    /// Whether something came that the user has not let this workload use yet.
    #[serde(default)]
    pub needs_consent: bool,
}

/// An access token for a further resource server.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherToken {
    /// Whom it is for.
    pub resource_server: String,
    /// The token.
    #[serde(serialize_with = "expose")]
    pub access_token: SecretString,
}

/// The session that a browser holds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionRequest {
    /// 16 bytes in base64url.
    #[serde(serialize_with = "expose")]
    pub session: SecretString,
}

/// A bearer token (RFC 6750) with which a user asked the workload.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BearerRequest {
    /// Whose token it is.
    pub issuer: String,
    /// For which client: one of the vault's.
    pub client_id: String,
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// What this pod may use for a session.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionResponse {
    /// 32 bytes in base64url. Of no use in another pod.
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
}

/// Asks for an access token of the user of a session.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// For whom the token must be good.
    pub resource_server: String,
    /// What it must allow, at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The token that the resource server did not accept, if that is why another is asked for: the first
    /// 16 bytes of its SHA-256 in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The bearer token that [`BearerRequest`] traded for the handle: it may be exchanged for a token that the user
    /// has not connected.
    #[serde(
        default,
        serialize_with = "expose_some",
        skip_serializing_if = "Option::is_none"
    )]
    pub subject_token: Option<SecretString>,
}

/// Asks for an access token that acts for no user (RFC 6749 §4.4).
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OwnTokenRequest {
    /// For whom the token must be good.
    pub resource_server: String,
    /// What it must allow, at least one.
    pub scopes: Vec<String>,
    /// As in [`TokenRequest::rejected`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// Asks for an access token of a user who is away, and who let the pod's ServiceAccount act for them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DelegatedTokenRequest {
    /// The issuer of the user's identity.
    pub issuer: String,
    /// The subject (`sub`) of the user.
    pub subject: String,
    /// For whom the token must be good.
    pub resource_server: String,
    /// What it must allow, at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// What a token request gets, if the vault works.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum TokenAnswer {
    /// A token.
    Token(Token),
    /// The user has not let this workload use the service, or not for all of this.
    ConsentRequired {
        /// What the token would allow.
        scopes: Vec<String>,
    },
    /// Only the user can help, by a login that asks for this.
    ReauthenticationRequired {
        /// The scopes that are missing, or all of them if the grant is gone.
        scopes: Vec<String>,
        /// What the login session must have.
        #[serde(default, skip_serializing_if = "SessionRequirements::is_empty")]
        requirements: SessionRequirements,
    },
}

/// An access token.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The token (RFC 6750).
    #[serde(serialize_with = "expose")]
    pub access_token: SecretString,
    /// For how long it is good from now on, seconds.
    pub expires_in: u64,
    /// What it allows.
    pub scopes: Vec<String>,
    /// If the issuer soon wants the user to log in again: in how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ends_in: Option<u64>,
}

impl Token {
    /// For how long it is good from now on.
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_in)
    }
}

/// Asks what a user has connected.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionsRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
}

/// What a user has connected.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsResponse {
    /// One for each resource server.
    pub connections: Vec<Connection>,
    /// What waits until the user has entered a code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingConnection>,
}

/// A service that is being connected by a code that the user enters at its issuer (RFC 8628 §3.3).
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingConnection {
    /// The service.
    pub resource_server: String,
    /// What the user enters.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, if the issuer has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// Until when, seconds since 1970.
    pub ends_at: u64,
    /// Whether the issuer, or the user there, said no.
    #[serde(default)]
    pub is_refused: bool,
}

impl std::fmt::Debug for PendingConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PendingConnection({:?})", self.resource_server)
    }
}

/// Begins to connect a service.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// What the vault calls the issuer.
    pub issuer: String,
    /// The service.
    pub resource_server: String,
    /// What is asked for: what the user saw, and agreed to.
    pub scopes: Vec<String>,
    /// Where the issuer sends the browser back to.
    pub redirect_uri: String,
}

/// How a service is connected.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "next")]
pub enum ConnectAnswer {
    /// The browser goes there (RFC 6749 §4.1.1).
    Go {
        /// The address.
        address: String,
    },
    /// The user enters a code, which is among the [`PendingConnection`]s.
    EnterCode,
}

impl std::fmt::Debug for ConnectAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Go { .. } => "Go",
            Self::EnterCode => "EnterCode",
        })
    }
}

/// What a browser brought back from an issuer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectedRequest {
    /// From [`SessionResponse`], of the session that began it.
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// What the vault calls the issuer.
    pub issuer: String,
    /// `state`.
    #[serde(serialize_with = "expose")]
    pub state: SecretString,
    /// The code.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
    /// `iss` (RFC 9207 §2), if it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_issuer: Option<String>,
}

/// A service that a workload may use as the user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The service.
    pub resource_server: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// `active`, `degraded` or `needs_reauthentication`.
    pub state: String,
    /// Until when the present access token is good, seconds since 1970.
    pub expires_at: u64,
    /// Whether it is renewed without the user.
    pub is_renewed: bool,
    /// Whether the user has not let this workload use it yet: until then it does not.
    #[serde(default)]
    pub needs_consent: bool,
    /// If the issuer soon wants the user to log in again: when, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ends_at: Option<u64>,
    /// Who may act for the user while they are away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<Delegation>,
    /// As whom, where the issuer is another than that of the login, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// That the pods of a ServiceAccount may act for a user who is away (RFC 8693 §1.1).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delegation {
    /// The ServiceAccount, of the workload's namespace.
    pub service_account: String,
    /// Until when, seconds since 1970.
    pub expires_at: u64,
}

/// Lets the workload use services as a user.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsentRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// What the user saw, and agreed to.
    pub services: Vec<ConsentedService>,
}

/// A service, with what a user lets a workload do there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsentedService {
    /// The service.
    pub resource_server: String,
    /// What the workload may do there, and nothing else.
    pub scopes: Vec<String>,
}

/// Lets a ServiceAccount act for a user who is away.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DelegateRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// The service.
    pub resource_server: String,
    /// The ServiceAccount, of the caller's namespace.
    pub service_account: String,
    /// For how many days; at most as many as the vault allows.
    pub days: u32,
}

/// Takes back that a ServiceAccount may act for a user who is away.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndDelegationRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// The service.
    pub resource_server: String,
    /// The ServiceAccount, of the caller's namespace.
    pub service_account: String,
}

/// Takes back what a user has connected.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DisconnectRequest {
    /// From [`SessionResponse`].
    #[serde(serialize_with = "expose")]
    pub handle: SecretString,
    /// The service.
    pub resource_server: String,
}

/// What everybody hears who asks for what is not theirs, or not there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// `unauthenticated` (401), `forbidden` (403), `invalid_request` (400), `unavailable` (503).
    pub error: String,
}

/// Names a token without showing it: for [`TokenRequest::rejected`].
pub fn fingerprint(token: &SecretString) -> String {
    use base64::Engine;
    let bytes = token.expose_secret().as_bytes();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let (short, _rest) = digest.as_ref().split_at(16);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(short)
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn expose_some<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(secret.expose_secret()),
        None => serializer.serialize_none(),
    }
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_shows_nothing() {
        let request = TokenRequest {
            handle: "canary".into(),
            resource_server: "transfer".to_owned(),
            scopes: vec![],
            rejected: Some(fingerprint(&"token".into())),
            subject_token: Some("canary of a bearer".into()),
        };
        assert!(!format!("{request:?}").contains("canary"));
        let text = serde_json::to_string(&request).unwrap();
        let read: TokenRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(read.handle.expose_secret(), "canary");
        assert_eq!(read.rejected, request.rejected);
        let subject_token = read.subject_token.unwrap();
        assert_eq!(subject_token.expose_secret(), "canary of a bearer");
    }

    #[test]
    fn a_fingerprint_is_short_and_of_the_token() {
        let of = |token: &str| fingerprint(&token.into());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(of("a").len(), 22);
    }

    #[test]
    fn two_vaults_have_two_audiences() {
        assert_eq!(audience("auth", "alcf"), "tokenvault.alcf.auth");
    }
}

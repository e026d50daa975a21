//! What is asked of Globus beside a login: whether a token's session meets the requirements, and of which
//! groups its user is a member.

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::identity::{Groups, Identity};
use globus_auth_core::oauth::authorization_code::OtherToken;
use globus_auth_core::oauth::globus::groups::{self, BadDependentTokens, Dependent};
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::introspection::{self, ActiveToken, NotActive};
use globus_auth_core::runtime::http_client::{HttpClient, SendError};
use globus_auth_core::sidecar_config::Provider as Config;
use http::StatusCode;
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;
use url::Url;

use crate::rules::Rules;

/// Globus Auth and Globus Groups, as our client sees them.
#[derive(Debug)]
pub(crate) struct Globus {
    http: HttpClient,
    groups_endpoint: Option<Url>,
    /// The last good answer about somebody's groups, by subject; for when there is no new one.
    known: Cache<String, Groups>,
}

impl Globus {
    pub(crate) fn new(config: &Config, http: HttpClient) -> Self {
        Self {
            http,
            groups_endpoint: groups::endpoint(&config.issuer),
            known: Cache::new(MAX_REMEMBERED),
        }
    }

    /// What `token` is, with everything that rules and requirements need to know of it.
    pub(crate) async fn introspect(
        &self,
        config: &Config,
        token_endpoint: &Url,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Introspected, GlobusError> {
        let policies = config
            .session_requirements
            .session_required_policies
            .join(",");
        let mut details = vec![("include", "session_info,identity_set_detail")];
        if !policies.is_empty() {
            details.push(("authentication_policies", &policies));
        }
        let request = introspection::request(
            &introspection::globus_endpoint(token_endpoint),
            &config.client_id,
            config.client_secret.expose_secret(),
            token,
            &details,
        )
        .map_err(GlobusError::Request)?;
        let response = self.http.send(request).await.map_err(GlobusError::Send)?;
        match response.status() {
            StatusCode::OK => {}
            // Globus tells only a service that a token is for. To others it says that they are no client,
            // as it would if our secret were wrong.
            StatusCode::UNAUTHORIZED => {
                tracing::warn!(
                    "the provider would not tell about a token: it is for another service, or our client \
                     secret is wrong"
                );
                return Ok(Introspected::Refused);
            }
            status => return Err(GlobusError::Status { status }),
        }
        match introspection::parse(response.body(), &config.issuer, &config.client_id, now) {
            Ok(active) if config.session_requirements.are_met(&active.claims) => {
                Ok(Introspected::Active(active))
            }
            Ok(_insufficient) => Ok(Introspected::Insufficient),
            Err(NotActive::Parse(error)) => Err(GlobusError::Parse(error)),
            Err(reason) => {
                tracing::debug!(%reason, "refused a token");
                Ok(Introspected::Refused)
            }
        }
    }

    /// The groups of `identity`, who has just logged in and got `tokens`.
    pub(crate) async fn groups_at_login(
        &self,
        identity: &Identity,
        tokens: &[OtherToken],
        rules: &Rules,
        now: UnixSeconds,
    ) -> Result<Groups, GlobusError> {
        let token = tokens
            .iter()
            .find(|token| token.resource_server == groups::RESOURCE_SERVER)
            .ok_or(GlobusError::DependentTokens(
                BadDependentTokens::NotForGroups,
            ))?;
        self.ask_groups(identity, token.access_token.expose_secret(), rules, now)
            .await
    }

    /// The groups of `identity`, who brought `token`.
    pub(crate) async fn groups_of_bearer(
        &self,
        config: &Config,
        token_endpoint: &Url,
        (identity, token): (&Identity, &str),
        rules: &Rules,
        now: UnixSeconds,
    ) -> Result<GroupsOfBearer, GlobusError> {
        let form = [
            ("grant_type", groups::DEPENDENT_TOKEN_GRANT),
            ("token", token),
            ("scope", groups::SCOPE),
        ];
        let request = introspection::client_request(
            token_endpoint,
            &config.client_id,
            config.client_secret.expose_secret(),
            &form,
        )
        .map_err(GlobusError::Request)?;
        let response = self.http.send(request).await.map_err(GlobusError::Send)?;
        let dependent = groups::parse_dependent(response.status().is_success(), response.body())
            .map_err(GlobusError::DependentTokens)?;
        match dependent {
            Dependent::Token(token) => {
                let token = token.expose_secret();
                let groups = self.ask_groups(identity, token, rules, now).await?;
                Ok(GroupsOfBearer::Known(groups))
            }
            Dependent::ConsentRequired => Ok(GroupsOfBearer::ConsentRequired),
        }
    }

    /// What was last known of the groups of `identity`. The rules say how long that counts.
    pub(crate) fn last_known(&self, identity: &Identity, now: UnixSeconds) -> Option<Groups> {
        self.known.get(&identity.subject).map(|known| Groups {
            asked_at: now,
            ..known
        })
    }

    async fn ask_groups(
        &self,
        identity: &Identity,
        token: &str,
        rules: &Rules,
        now: UnixSeconds,
    ) -> Result<Groups, GlobusError> {
        let endpoint = self.groups_endpoint.as_ref().ok_or(GlobusError::NoGroups)?;
        let request = groups::request(endpoint, token).map_err(GlobusError::Request)?;
        let response = self.http.send(request).await.map_err(GlobusError::Send)?;
        if response.status() != StatusCode::OK {
            return Err(GlobusError::Status {
                status: response.status(),
            });
        }
        // Where only identities of certain providers count, so do only their memberships.
        let only = rules.pins_providers().then_some(identity.subject.as_str());
        let names = groups::parse(response.body(), only).map_err(GlobusError::Parse)?;
        let groups = rules.groups_among(names.iter().map(String::as_str), now);
        self.known.insert(identity.subject.clone(), groups.clone());
        Ok(groups)
    }
}

/// What a token turned out to be.
#[derive(Debug)]
pub(crate) enum Introspected {
    Active(ActiveToken),
    /// It is good, and its session does not meet the requirements.
    Insufficient,
    Refused,
}

/// What is known of the groups of whoever brought a token.
#[derive(Debug)]
pub(crate) enum GroupsOfBearer {
    Known(Groups),
    /// They have not let us ask.
    ConsentRequired,
}

/// What a program must have its user consent to before their groups can be asked about.
pub(crate) fn consent_to_groups() -> SessionRequirements {
    SessionRequirements {
        required_scopes: vec![groups::SCOPE.to_owned()],
        ..SessionRequirements::default()
    }
}

/// About 300 bytes each.
const MAX_REMEMBERED: usize = 10_000;

/// Why Globus did not tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GlobusError {
    #[error("failed to get a token for Globus Groups")]
    DependentTokens(#[source] BadDependentTokens),
    #[error("the issuer has no address for groups")]
    NoGroups,
    #[error("failed to parse the response")]
    Parse(#[source] serde_json::Error),
    #[error("failed to make the request")]
    Request(#[source] http::Error),
    #[error("failed to reach the endpoint")]
    Send(#[source] SendError),
    #[error("the endpoint answered with status {status}")]
    Status { status: StatusCode },
}

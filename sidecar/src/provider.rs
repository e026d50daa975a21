//! The identity provider, as this proxy uses it: starts logins, and turns codes into identities.

use std::sync::Arc;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::ended::Ended;
use globus_auth_core::identity::{BadIdentity, Identity, NameDigest, Reading};
use globus_auth_core::oauth::authorization_code::{
    AuthorizationCodeClient, BadRegistration, OtherToken, Prompt, RedeemError, Registration, Tokens,
};
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::id_token::{self, BadIdToken, Login};
use globus_auth_core::oauth::logout_token::{self, BadLogoutToken};
use globus_auth_core::oauth::metadata::ProviderMetadata;
use globus_auth_core::runtime::http_client::{HttpClient, SendError};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::Limits;
use globus_auth_core::sidecar_config::{Provider as Config, ProviderKind};
use globus_auth_core::transaction::LoginTransaction;
use globus_auth_core::url::ExternalUrl;
use http::{Request, StatusCode, header};
use secrecy::ExposeSecret;
use url::Url;

use crate::SIGN_IN_PATH;
use crate::globus::{Globus, GlobusError, Introspected};
use crate::live::Live;
use crate::rules::Rules;
use crate::vault::{Kept, Vault, VaultError};
use globus_auth_core::runtime::key_source::{FetchError, KeySource, MAX_AGE, get};
use globus_auth_core::runtime::refreshed::Refreshed;

/// One provider and our client there. Discovered at the first login, so that a sidecar starts, and
/// serves the sessions that exist, while the provider is down.
#[derive(Debug)]
pub(crate) struct Provider {
    config: Config,
    redirect_uri: String,
    http: HttpClient,
    discovered: Refreshed<Discovered, DiscoverError>,
    keys: Arc<KeySource>,
    globus: Option<Globus>,
    vault: Option<Arc<Vault>>,
}

/// Who logged in.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) identity: Identity,
    /// Whether rules name groups and the provider would not tell which the user is in.
    pub(crate) groups_are_unknown: bool,
    /// The provider's own session (`sid`), by which it can end ours.
    pub(crate) provider_session: Option<NameDigest>,
    /// What a vault keeps of the login, if there is one.
    pub(crate) kept: Option<Kept>,
}

#[derive(Debug)]
struct Discovered {
    metadata: ProviderMetadata,
    client: AuthorizationCodeClient,
}

impl Provider {
    pub(crate) fn new(
        config: Config,
        external: &ExternalUrl,
        http: HttpClient,
        vault: Option<Arc<Vault>>,
    ) -> Self {
        let keys = Arc::new(KeySource::new(config.issuer.clone(), http.clone()));
        let redirect_uri = external.join(crate::CALLBACK_PATH);
        let globus = match config.kind {
            ProviderKind::Globus => Some(Globus::new(&config, http.clone())),
            ProviderKind::OIDC => None,
        };
        Self {
            globus,
            config,
            redirect_uri,
            http,
            discovered: Refreshed::default(),
            keys,
            vault,
        }
    }

    /// Whether `other` is another provider or client, so that nothing learnt about it holds.
    pub(crate) fn is(
        &self,
        other: &Config,
        external: &ExternalUrl,
        vault: Option<&Arc<Vault>>,
    ) -> bool {
        let Config {
            kind,
            issuer,
            client_id,
            client_secret,
            scopes,
            email_verification,
            groups_claim,
            session_requirements,
        } = other;
        self.config.kind == *kind
            && self.config.issuer == *issuer
            && self.config.client_id == *client_id
            && self.config.client_secret.expose_secret() == client_secret.expose_secret()
            && self.config.scopes == *scopes
            && self.config.email_verification == *email_verification
            && self.config.groups_claim == *groups_claim
            && self.config.session_requirements == *session_requirements
            && self.redirect_uri == external.join(crate::CALLBACK_PATH)
            && match (&self.vault, vault) {
                (None, None) => true,
                (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
                (None, Some(_)) | (Some(_), None) => false,
            }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What the provider is called on pages.
    pub(crate) fn name(&self) -> &'static str {
        match self.config.kind {
            ProviderKind::Globus => "Globus",
            ProviderKind::OIDC => "your identity provider",
        }
    }

    /// Where a browser goes to log in.
    ///
    /// # Errors
    /// The provider could not be discovered.
    pub(crate) async fn authorization_url(
        &self,
        transaction: &LoginTransaction,
        prompt: Prompt,
        requirements: &SessionRequirements,
    ) -> Result<Url, LoginError> {
        let discovered = self.discovered().await?;
        let requirements = self.config.session_requirements.clone().and(requirements);
        Ok(discovered
            .client
            .authorization_url(transaction, prompt, &requirements))
    }

    /// Where a browser goes to log out of the provider itself, if there is such an address. Nothing is
    /// fetched for it: a sign-out waits for nobody.
    pub(crate) fn sign_out_url(&self, external: &ExternalUrl) -> Option<Url> {
        match self.config.kind {
            ProviderKind::OIDC => {
                let mut url = self
                    .discovered
                    .last()?
                    .metadata
                    .end_session_endpoint
                    .clone()?;
                // Without the ID token, which no session keeps, the provider asks the user once more.
                url.query_pairs_mut()
                    .append_pair("client_id", &self.config.client_id)
                    .append_pair("post_logout_redirect_uri", &external.join(SIGN_IN_PATH));
                Some(url)
            }
            ProviderKind::Globus => {
                let discovered = self.discovered.last();
                let site = match &discovered {
                    Some(discovered) => discovered.metadata.authorization_endpoint.clone(),
                    None => Url::parse(self.config.issuer.as_str()).ok()?,
                };
                let mut url = site.join("/v2/web/logout").ok()?;
                url.query_pairs_mut()
                    .append_pair("client_id", &self.config.client_id)
                    .append_pair("redirect_uri", &external.origin())
                    .append_pair("redirect_name", external.authority());
                Some(url)
            }
        }
    }

    /// Turns the code of `transaction` into the identity of whoever logged in.
    ///
    /// # Errors
    /// [`LoginError`]: nobody is logged in.
    pub(crate) async fn redeem(
        &self,
        code: String,
        issuer: Option<&str>,
        transaction: &LoginTransaction,
        live: &Live,
        now: UnixSeconds,
    ) -> Result<LoggedIn, LoginError> {
        let discovered = self.discovered().await?;
        self.check_response_issuer(issuer, &discovered.metadata)?;
        let (tokens, kept) = self
            .tokens(&discovered, code, transaction, live.limits)
            .await?;
        let identified = self
            .identified(&discovered, &tokens, transaction, &live.rules, now)
            .await;
        match (identified, kept) {
            (Ok(logged_in), kept) => Ok(LoggedIn { kept, ..logged_in }),
            (Err(error), kept) => {
                if let (Some(vault), Some(kept)) = (&self.vault, kept) {
                    vault.forget(kept).await;
                }
                Err(error)
            }
        }
    }

    /// Whose the tokens of a login are.
    async fn identified(
        &self,
        discovered: &Discovered,
        tokens: &Tokens,
        transaction: &LoginTransaction,
        rules: &Rules,
        now: UnixSeconds,
    ) -> Result<LoggedIn, LoginError> {
        let nonce = transaction.nonce();
        let login = Login {
            client_id: &self.config.client_id,
            issuer: &self.config.issuer,
            nonce: &nonce,
        };
        let id_token = tokens.id_token.expose_secret();
        let mut claims = self
            .keys
            .verify(
                |keys| id_token::verify(id_token, keys, login, now),
                |reason| reason.may_change_with_keys(),
            )
            .await
            .map_err(LoginError::Keys)?
            .map_err(LoginError::IdToken)?;
        let reading = self.reading(rules);
        let wants_groups = !reading.groups.is_empty();
        let lacks_groups = reading
            .groups_claim
            .is_some_and(|name| claims.get(name).is_none());
        if claims.get("email").is_none() || (wants_groups && lacks_groups) {
            self.add_userinfo(&mut claims, tokens, &discovered.metadata)
                .await?;
        }
        let mut identity =
            Identity::from_claims(&claims, &reading, now).map_err(LoginError::Identity)?;
        let provider_session = claims.text("sid").map(NameDigest::of);
        let Some(globus) = &self.globus else {
            return Ok(LoggedIn {
                identity,
                groups_are_unknown: false,
                provider_session,
                kept: None,
            });
        };
        self.check_requirements(globus, tokens, &discovered.metadata, now)
            .await?;
        let groups_are_unknown = rules.has_groups()
            && !add_groups(globus, &mut identity, &tokens.other_tokens, rules, now).await;
        Ok(LoggedIn {
            identity,
            groups_are_unknown,
            provider_session,
            kept: None,
        })
    }

    /// Redeems a code, or has the vault redeem it and keep what came.
    async fn tokens(
        &self,
        discovered: &Discovered,
        code: String,
        transaction: &LoginTransaction,
        limits: Limits,
    ) -> Result<(Tokens, Option<Kept>), LoginError> {
        let Some(vault) = &self.vault else {
            let tokens = discovered
                .client
                .redeem(code, transaction.code_verifier(), &self.http)
                .await
                .map_err(LoginError::Redeem)?;
            return Ok((tokens, None));
        };
        let client = (
            self.config.issuer.as_str(),
            self.config.client_id.as_str(),
            self.redirect_uri.as_str(),
        );
        let (tokens, kept) = vault
            .login(client, code, transaction, limits.absolute)
            .await
            .map_err(LoginError::Vault)?;
        Ok((tokens, Some(kept)))
    }

    /// The vault that keeps what logins return.
    pub(crate) const fn vault(&self) -> Option<&Arc<Vault>> {
        self.vault.as_ref()
    }

    /// What `rules` want to know of this provider's identities.
    pub(crate) fn reading<'a>(&'a self, rules: &'a Rules) -> Reading<'a> {
        let claim = self.config.groups_claim.as_deref();
        rules.reading(self.config.email_verification, claim)
    }

    /// Globus is asked for sessions that meet the requirements; whether it gave one, only it can say.
    async fn check_requirements(
        &self,
        globus: &Globus,
        tokens: &Tokens,
        metadata: &ProviderMetadata,
        now: UnixSeconds,
    ) -> Result<(), LoginError> {
        if self.config.session_requirements.is_empty() {
            return Ok(());
        }
        let token = tokens.access_token.expose_secret();
        let introspected = globus
            .introspect(&self.config, &metadata.token_endpoint, token, now)
            .await
            .map_err(LoginError::Introspect)?;
        match introspected {
            Introspected::Active(_) => Ok(()),
            Introspected::Insufficient | Introspected::Refused => {
                Err(LoginError::SessionRequirements)
            }
        }
    }

    /// Which sessions the provider ends with this logout token.
    pub(crate) async fn ended_by(&self, token: &str, now: UnixSeconds) -> Result<Ended, NotEnded> {
        let (issuer, client_id) = (&self.config.issuer, &self.config.client_id);
        self.keys
            .verify(
                |keys| logout_token::verify(token, keys, issuer, client_id, now),
                |reason| reason.may_change_with_keys(),
            )
            .await
            .map_err(NotEnded::Keys)?
            .map_err(NotEnded::Token)
    }

    /// What is asked of Globus, if that is the provider.
    pub(crate) fn globus(&self) -> Option<&Globus> {
        self.globus.as_ref()
    }

    /// RFC 9207 §2.4: a response that names another issuer belongs to a mix-up; so does one without
    /// issuer if the provider always names it.
    fn check_response_issuer(
        &self,
        issuer: Option<&str>,
        metadata: &ProviderMetadata,
    ) -> Result<(), LoginError> {
        match issuer {
            Some(issuer) if issuer == self.config.issuer.as_str() => Ok(()),
            None if !metadata.response_has_issuer => Ok(()),
            Some(_) | None => Err(LoginError::ResponseIssuer),
        }
    }

    /// Adds what the ID token lacks. The `sub` must be the ID token's (OpenID Connect Core §5.3.2).
    async fn add_userinfo(
        &self,
        claims: &mut Claims,
        tokens: &Tokens,
        metadata: &ProviderMetadata,
    ) -> Result<(), LoginError> {
        let Some(endpoint) = &metadata.userinfo_endpoint else {
            return Ok(());
        };
        let request = Request::get(endpoint.as_str())
            .header(header::ACCEPT, "application/json")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", tokens.access_token.expose_secret()),
            )
            .body(Vec::new())
            .map_err(|_invalid| LoginError::Userinfo)?;
        let response = self
            .http
            .send(request)
            .await
            .map_err(LoginError::SendUserinfo)?;
        if response.status() != StatusCode::OK {
            return Err(LoginError::Userinfo);
        }
        let userinfo: Claims =
            serde_json::from_slice(response.body()).map_err(|_format| LoginError::Userinfo)?;
        if userinfo.subject().is_none() || userinfo.subject() != claims.subject() {
            return Err(LoginError::UserinfoSubject);
        }
        claims.fill_from(userinfo);
        Ok(())
    }

    /// The token endpoint, for what lies next to it.
    pub(crate) async fn token_endpoint(&self) -> Result<Url, LoginError> {
        Ok(self.discovered().await?.metadata.token_endpoint.clone())
    }

    async fn discovered(&self) -> Result<Arc<Discovered>, LoginError> {
        self.discovered
            .get(MAX_AGE, async || self.discover().await)
            .await
            .map_err(LoginError::Discover)
    }

    /// What is asked for: with a vault, also what the workload gets, and that it be renewed.
    fn scopes(&self) -> (Vec<String>, &'static [(&'static str, &'static str)]) {
        let mut scopes = self.config.scopes.clone();
        let Some(vault) = &self.vault else {
            return (scopes, &[]);
        };
        let delivered = vault.deliveries_for_users();
        let delivered = delivered.filter(|token| token.comes_with_login());
        let delivered = delivered.flat_map(|token| &token.scopes);
        for scope in delivered {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        match self.config.kind {
            ProviderKind::Globus => (scopes, &[("access_type", "offline")]),
            ProviderKind::OIDC => {
                scopes.push("offline_access".to_owned());
                // Without it, providers may give no refresh token (OpenID Connect Core §11).
                (scopes, &[("prompt", "consent")])
            }
        }
    }

    async fn discover(&self) -> Result<Discovered, DiscoverError> {
        let document = get(&self.http, &self.config.issuer.discovery_url())
            .await
            .map_err(DiscoverError::Fetch)?;
        let metadata = ProviderMetadata::parse(&document, &self.config.issuer)
            .map_err(|error| DiscoverError::Fetch(FetchError::BadMetadata(error)))?;
        let (scopes, offline) = self.scopes();
        let registration = Registration {
            client_id: &self.config.client_id,
            client_secret: &self.config.client_secret,
            redirect_uri: &self.redirect_uri,
            scopes: &scopes,
            offline,
        };
        let client = AuthorizationCodeClient::new(&metadata, registration)
            .map_err(DiscoverError::Registration)?;
        Ok(Discovered { metadata, client })
    }
}

/// Adds the groups, or the last that were known while Globus does not tell; false if there are none.
async fn add_groups(
    globus: &Globus,
    identity: &mut Identity,
    tokens: &[OtherToken],
    rules: &Rules,
    now: UnixSeconds,
) -> bool {
    match globus.groups_at_login(identity, tokens, rules, now).await {
        Ok(groups) => {
            identity.groups = groups;
            true
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "failed to ask about the groups of a user");
            identity.groups.asked_at = now;
            match globus.last_known(identity, now) {
                Some(known) => {
                    identity.groups = known;
                    true
                }
                None => false,
            }
        }
    }
}

/// Why a provider is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoverError {
    #[error(transparent)]
    Fetch(FetchError),
    #[error("failed to register")]
    Registration(#[source] BadRegistration),
}

/// Why a logout token ended nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEnded {
    #[error("failed to get the provider's keys")]
    Keys(#[source] Arc<FetchError>),
    #[error("the logout token does not count")]
    Token(#[source] BadLogoutToken),
}

/// Why a login did not end with an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("failed to discover the provider")]
    Discover(#[source] Arc<DiscoverError>),
    #[error("the ID token does not belong to this login")]
    IdToken(#[source] BadIdToken),
    #[error("the provider names no identity that counts")]
    Identity(#[source] BadIdentity),
    #[error("failed to ask about the login session")]
    Introspect(#[source] GlobusError),
    #[error("failed to get the provider's keys")]
    Keys(#[source] Arc<FetchError>),
    #[error("failed to redeem the code")]
    Redeem(#[source] RedeemError<SendError>),
    #[error("the authorization response names another issuer, or none although it must")]
    ResponseIssuer,
    #[error("the login session does not meet provider.sessionRequirements")]
    SessionRequirements,
    #[error("failed to reach the userinfo endpoint")]
    SendUserinfo(#[source] SendError),
    #[error("the userinfo endpoint did not answer with claims")]
    Userinfo,
    #[error("the userinfo endpoint answered about another user")]
    UserinfoSubject,
    #[error("the vault did not redeem the code")]
    Vault(#[source] VaultError),
}

impl LoginError {
    /// Whether the provider did not answer, so that trying again later may help.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Discover(_)
            | Self::Introspect(_)
            | Self::Keys(_)
            | Self::SendUserinfo(_)
            | Self::Vault(_)
            | Self::Redeem(RedeemError::Send(_) | RedeemError::Parse) => true,
            Self::Redeem(RedeemError::NoIdToken | RedeemError::Refused { .. })
            | Self::IdToken(_)
            | Self::Identity(_)
            | Self::ResponseIssuer
            | Self::SessionRequirements
            | Self::Userinfo
            | Self::UserinfoSubject => false,
        }
    }

    /// The metric label.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Discover(_) => "discover",
            Self::IdToken(_) => "id_token",
            Self::Identity(_) => "identity",
            Self::Introspect(_) => "introspect",
            Self::Keys(_) => "keys",
            Self::Redeem(_) => "redeem",
            Self::ResponseIssuer => "response_issuer",
            Self::SessionRequirements => "session_requirements",
            Self::SendUserinfo(_) | Self::Userinfo | Self::UserinfoSubject => "userinfo",
            Self::Vault(_) => "vault",
        }
    }
}

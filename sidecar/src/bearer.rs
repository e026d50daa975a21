//! Bearer tokens (RFC 6750): opaque ones by asking the provider, JWTs by the keys of their issuer.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::identity::{Identity, ServiceAccount};
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::introspection::{self, NotActive};
use globus_auth_core::oauth::jwks::{BadKeySet, KeySet};
use globus_auth_core::oauth::jwt::{self, Expected, SignatureAlgorithm};
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::sidecar_config::{Bearer as Config, JwtIssuer, ServiceAccountAccess};
use globus_auth_core::url::Issuer;
use http::StatusCode;
use http::header::{self, HeaderMap};
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;

use crate::decide::Credentials;
use crate::key_source::KeySource;
use crate::live::Tools;
use crate::provider::Provider;
use crate::rules::Rules;
use globus_auth_core::runtime::telemetry::Chain;

/// Decides what a bearer token is worth.
#[derive(Debug)]
pub(crate) struct BearerVerifier {
    config: Config,
    issuers: Vec<(JwtIssuer, KeySource)>,
    cluster: Option<Cluster>,
    provider: Arc<Provider>,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    introspected: Cache<TokenDigest, Answer>,
}

/// The cluster, as the issuer of its ServiceAccounts' tokens. The operator keeps the keys fresh: a
/// sidecar has no rights to ask for them.
#[derive(Debug)]
struct Cluster {
    config: ServiceAccountAccess,
    issuer: Issuer,
    audiences: [String; 1],
    keys: KeySet,
}

/// Tokens are remembered by their digest, never by themselves.
type TokenDigest = [u8; 32];

/// What the provider said of a token.
#[derive(Clone, Debug)]
struct Answer {
    identity: Option<Identity>,
    valid_until: UnixSeconds,
}

/// The token in an `Authorization` header (RFC 6750 §2.1). The scheme is case-insensitive (RFC 9110
/// §11.1).
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl BearerVerifier {
    /// # Errors
    /// [`BadCluster`].
    pub(crate) fn new(
        config: Config,
        service_accounts: Option<&ServiceAccountAccess>,
        provider: Arc<Provider>,
        tools: &Tools,
    ) -> Result<Self, BadCluster> {
        let key_source =
            |issuer: &JwtIssuer| KeySource::new(issuer.issuer.clone(), tools.http.clone());
        let issuers = config
            .jwt
            .iter()
            .map(|one| (one.clone(), key_source(one)))
            .collect();
        Ok(Self {
            config,
            issuers,
            cluster: service_accounts.map(Cluster::new).transpose()?,
            provider,
            http: tools.http.clone(),
            clock: Arc::clone(&tools.clock),
            introspected: Cache::new(MAX_REMEMBERED),
        })
    }

    /// Whether this was made of the same configuration.
    pub(crate) fn is(&self, config: &Config, cluster: Option<&ServiceAccountAccess>) -> bool {
        self.config == *config && self.cluster.as_ref().map(|one| &one.config) == cluster
    }

    /// Whether opaque tokens are asked about at this provider.
    pub(crate) fn asks(&self, provider: &Arc<Provider>) -> bool {
        Arc::ptr_eq(&self.provider, provider)
    }

    /// What `token` is worth, read for what `rules` want to know.
    pub(crate) async fn verify(&self, token: &str, rules: &Rules) -> Credentials {
        if token.is_empty() || token.len() > MAX_LENGTH {
            return Credentials::InvalidBearer;
        }
        if let Some(cluster) = &self.cluster
            && jwt::claims_issuer(token, &cluster.issuer)
        {
            return cluster.verify(token, self.clock.now());
        }
        let mut undecided = false;
        for (issuer, keys) in &self.issuers {
            match self.verify_jwt(token, issuer, keys, rules).await {
                Credentials::InvalidBearer => {}
                Credentials::Undecided => undecided = true,
                decided @ (Credentials::Absent
                | Credentials::Bearer(_)
                | Credentials::Session(_)) => return decided,
            }
        }
        match self.config.introspection && !token.contains('.') {
            true => self.introspect(token, rules).await,
            false if undecided => Credentials::Undecided,
            false => Credentials::InvalidBearer,
        }
    }

    async fn verify_jwt(
        &self,
        token: &str,
        issuer: &JwtIssuer,
        keys: &KeySource,
        rules: &Rules,
    ) -> Credentials {
        let now = self.clock.now();
        // Whether it can be of this issuer is read before its keys are fetched; nothing is trusted yet.
        if !jwt::claims_issuer(token, &issuer.issuer) {
            return Credentials::InvalidBearer;
        }
        let expected = Expected {
            issuer: &issuer.issuer,
            audiences: &issuer.audiences,
            algorithms: &issuer.algorithms,
        };
        match keys
            .verify(
                |keys| jwt::verify(token, keys, expected, now),
                |reason| reason.may_change_with_keys(),
            )
            .await
        {
            Ok(Ok(claims)) => {
                // An ID token says who logged in somewhere; it is not a key to anything.
                if claims.get("nonce").is_some() || claims.get("at_hash").is_some() {
                    return Credentials::InvalidBearer;
                }
                let reading =
                    rules.reading(issuer.email_verification, issuer.groups_claim.as_deref());
                Identity::from_claims(&claims, &reading, now)
                    .map_or(Credentials::InvalidBearer, Credentials::Bearer)
            }
            Ok(Err(reason)) => {
                tracing::debug!(%reason, "refused a bearer token");
                Credentials::InvalidBearer
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&*error), issuer = %issuer.issuer, "failed to verify a bearer token");
                Credentials::Undecided
            }
        }
    }

    /// Asks the provider, once for all requests that bring the same token at the same time.
    async fn introspect(&self, token: &str, rules: &Rules) -> Credentials {
        let digest = digest(token);
        if let Some(answer) = self.introspected.get(&digest) {
            if self.clock.now() < answer.valid_until {
                return answer.credentials();
            }
            self.introspected.remove(&digest);
        }
        match self
            .introspected
            .get_or_insert_async(&digest, self.ask(token, rules))
            .await
        {
            Ok(answer) => answer.credentials(),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to introspect a bearer token");
                Credentials::Undecided
            }
        }
    }

    async fn ask(&self, token: &str, rules: &Rules) -> Result<Answer, IntrospectError> {
        let token_endpoint = self
            .provider
            .token_endpoint()
            .await
            .map_err(IntrospectError::Discover)?;
        let provider = self.provider.config();
        let request = introspection::request(
            &introspection::globus_endpoint(&token_endpoint),
            &provider.client_id,
            provider.client_secret.expose_secret(),
            token,
        )
        .map_err(IntrospectError::Request)?;
        let response = self
            .http
            .send(request)
            .await
            .map_err(IntrospectError::Send)?;
        let now = self.clock.now();
        match response.status() {
            StatusCode::OK => {}
            // Globus tells only a service that a token is for. To others it says that they are no client,
            // as it would if our secret were wrong.
            StatusCode::UNAUTHORIZED => {
                tracing::warn!(
                    "the provider would not tell about a bearer token: it is for another service, or our client \
                     secret is wrong"
                );
                return Ok(Answer::refused(now));
            }
            status => return Err(IntrospectError::Status { status }),
        }
        match introspection::parse(response.body(), &provider.issuer, &provider.client_id, now) {
            Ok(active) => {
                let reading = self.provider.reading(rules);
                let identity = Identity::from_claims(&active.claims, &reading, now).ok();
                let valid_until = now.after(POSITIVE_TTL).min(active.expires_at);
                Ok(Answer {
                    identity,
                    valid_until,
                })
            }
            Err(NotActive::Parse(error)) => Err(IntrospectError::Parse(error)),
            Err(reason) => {
                tracing::debug!(%reason, "refused a bearer token");
                Ok(Answer::refused(now))
            }
        }
    }
}

impl Cluster {
    fn new(config: &ServiceAccountAccess) -> Result<Self, BadCluster> {
        Ok(Self {
            issuer: config.issuer.parse().map_err(|_url| BadCluster::Issuer)?,
            audiences: [config.audience.clone()],
            keys: KeySet::parse(config.keys.to_string().as_bytes()).map_err(BadCluster::Keys)?,
            config: config.clone(),
        })
    }

    /// A token that a ServiceAccount got for this proxy. Another audience, such as the API server's,
    /// makes it worth nothing here: whoever gets hold of such a token gets no further.
    fn verify(&self, token: &str, now: UnixSeconds) -> Credentials {
        let expected = Expected {
            issuer: &self.issuer,
            audiences: &self.audiences,
            algorithms: &SignatureAlgorithm::ALL,
        };
        let account = jwt::verify(token, &self.keys, expected, now)
            .map_err(|reason| tracing::debug!(%reason, "refused a ServiceAccount token"))
            .ok()
            .and_then(|claims| service_account(&claims));
        account.map_or(Credentials::InvalidBearer, |account| {
            Credentials::Bearer(Identity::of_service_account(account))
        })
    }
}

/// The ServiceAccount that `sub` names.
fn service_account(claims: &Claims) -> Option<ServiceAccount> {
    let name = claims.subject()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, name) = name.split_once(':')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(':');
    (is_name(namespace) && is_name(name)).then(|| ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

impl Answer {
    fn refused(now: UnixSeconds) -> Self {
        Self {
            identity: None,
            valid_until: now.after(NEGATIVE_TTL),
        }
    }

    fn credentials(self) -> Credentials {
        self.identity
            .map_or(Credentials::InvalidBearer, Credentials::Bearer)
    }
}

fn digest(token: &str) -> TokenDigest {
    let mut digest = TokenDigest::default();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.copy_from_slice(hash.as_ref());
    digest
}

/// A revoked token is refused after this time at the latest.
const POSITIVE_TTL: Duration = Duration::from_secs(30);
/// A token that is not active now may be soon: clocks differ. Short, but it stops a flood.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// About 400 bytes each.
const MAX_REMEMBERED: usize = 10_000;
/// Globus tokens are about 100 characters; JWTs with many groups reach some kilobytes.
const MAX_LENGTH: usize = 16 * 1024;

/// Why the cluster's tokens cannot be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCluster {
    #[error("issuer is no issuer")]
    Issuer,
    #[error("keys cannot be used")]
    Keys(#[source] BadKeySet),
}

/// Why the provider could not be asked about a token.
#[derive(Debug, thiserror::Error)]
enum IntrospectError {
    #[error("failed to find the introspection endpoint")]
    Discover(#[source] crate::provider::LoginError),
    #[error("failed to parse the introspection response")]
    Parse(#[source] serde_json::Error),
    #[error("failed to make the introspection request")]
    Request(#[source] http::Error),
    #[error("failed to reach the introspection endpoint")]
    Send(#[source] globus_auth_core::runtime::http_client::SendError),
    #[error("the introspection endpoint answered with status {status}")]
    Status { status: StatusCode },
}

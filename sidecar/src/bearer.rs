//! Bearer tokens (RFC 6750): opaque ones by asking the provider, JWTs by the keys of their issuer.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::identity::{Identity, ServiceAccount};
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::jwks::{BadKeySet, KeySet};
use globus_auth_core::oauth::jwt::{self, Expected, LEEWAY, SignatureAlgorithm};
use globus_auth_core::sidecar_config::{Bearer as Config, JwtIssuer, ServiceAccountAccess};
use globus_auth_core::url::Issuer;
use http::header::{self, HeaderMap};
use quick_cache::sync::Cache;

use crate::decide::Credentials;
use crate::globus::{GlobusError, GroupsOfBearer, Introspected, consent_to_groups};
use crate::live::Tools;
use crate::provider::Provider;
use crate::rules::Rules;
use globus_auth_core::runtime::key_source::KeySource;
use globus_auth_core::runtime::telemetry::Chain;

/// Decides what a bearer token is worth.
#[derive(Debug)]
pub(crate) struct BearerVerifier {
    config: Config,
    issuers: Vec<(JwtIssuer, KeySource)>,
    cluster: Option<Cluster>,
    provider: Arc<Provider>,
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
    worth: Worth,
    valid_until: UnixSeconds,
}

#[derive(Clone, Debug)]
enum Worth {
    /// Until then.
    Identity(Identity, UnixSeconds),
    /// The token is good, and its user must do more at the provider.
    Insufficient(SessionRequirements),
    Nothing,
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
                | Credentials::Bearer(..)
                | Credentials::InsufficientBearer(_)
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
                let until = claims.count_until().unwrap_or(now);
                Identity::from_claims(&claims, &reading, now)
                    .map_or(Credentials::InvalidBearer, |identity| {
                        Credentials::Bearer(identity, until)
                    })
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
        let globus = self.provider.globus().ok_or(IntrospectError::NotGlobus)?;
        let endpoint = self
            .provider
            .token_endpoint()
            .await
            .map_err(IntrospectError::Discover)?;
        let config = self.provider.config();
        let now = self.clock.now();
        let active = match globus
            .introspect(config, &endpoint, token, now)
            .await
            .map_err(IntrospectError::Globus)?
        {
            Introspected::Active(active) => active,
            Introspected::Insufficient => {
                let requirements = config.session_requirements.clone();
                return Ok(Answer::brief(Worth::Insufficient(requirements), now));
            }
            Introspected::Refused => return Ok(Answer::brief(Worth::Nothing, now)),
        };
        let reading = self.provider.reading(rules);
        let Ok(mut identity) = Identity::from_claims(&active.claims, &reading, now) else {
            return Ok(Answer::brief(Worth::Nothing, now));
        };
        // Who enters by another rule is not asked about groups.
        if rules.has_groups() && !rules.allow(&identity, now) {
            let asked = globus
                .groups_of_bearer(config, &endpoint, (&identity, token), rules, now)
                .await;
            match (asked, globus.last_known(&identity, now)) {
                (Ok(GroupsOfBearer::Known(groups)), _) => identity.groups = groups,
                (Ok(GroupsOfBearer::ConsentRequired), _) => {
                    return Ok(Answer::brief(Worth::Insufficient(consent_to_groups()), now));
                }
                (Err(error), Some(known)) => {
                    tracing::warn!(error = %Chain(&error), "failed to ask about the groups of a user; the last known ones count for a while");
                    identity.groups = known;
                }
                (Err(error), None) => return Err(IntrospectError::Globus(error)),
            }
        }
        Ok(Answer {
            worth: Worth::Identity(identity, active.expires_at.after(LEEWAY)),
            valid_until: now.after(POSITIVE_TTL).min(active.expires_at),
        })
    }

    /// Forgets what is known of `token`, because the workload answered 401 or its user signed out.
    pub(crate) fn forget(&self, token: &str) {
        self.introspected.remove(&digest(token));
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
        jwt::verify(token, &self.keys, expected, now)
            .map_err(|reason| tracing::debug!(%reason, "refused a ServiceAccount token"))
            .ok()
            .and_then(|claims| {
                let identity = Identity::of_service_account(service_account(&claims)?);
                Some(Credentials::Bearer(identity, claims.count_until()?))
            })
            .unwrap_or(Credentials::InvalidBearer)
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
    /// One that may be another soon: clocks differ, and users do what they are asked to.
    fn brief(worth: Worth, now: UnixSeconds) -> Self {
        Self {
            worth,
            valid_until: now.after(NEGATIVE_TTL),
        }
    }

    fn credentials(self) -> Credentials {
        match self.worth {
            Worth::Identity(identity, until) => Credentials::Bearer(identity, until),
            Worth::Insufficient(requirements) => Credentials::InsufficientBearer(requirements),
            Worth::Nothing => Credentials::InvalidBearer,
        }
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
    #[error("failed to ask Globus")]
    Globus(#[source] GlobusError),
    #[error("only Globus is asked about opaque tokens")]
    NotGlobus,
}

#[cfg(test)]
mod tests;

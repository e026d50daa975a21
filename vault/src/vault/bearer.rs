//! Users who ask a workload with a bearer token (RFC 6750), as programs do, in place of a login.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::vault_api::{
    BearerRequest, Token, TokenAnswer, TokenRequest as Wanted, fingerprint,
};
use globus_auth_core::vault_config::{self, BearerTokens};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};

use super::tokens::reauthentication;
use super::{Vault, VaultError};
use crate::answer::{Problem, TokenSet};
use crate::caller::Caller;
use crate::endpoint::{Exchange, Introspection, TokenRequest};
use crate::grant::{Digest, User, digest};
use crate::progress::Moment;
use crate::refresher;
use crate::schedule;
use crate::store::sessions::SessionRow;

/// What issuers gave for bearer tokens, until it ends. It is stored nowhere else: whoever has the bearer token can
/// have it again.
pub(super) struct Exchanged(Cache<Digest, Arc<Given>>);

struct Given {
    token: SecretString,
    scopes: Vec<String>,
    expires_at: Moment,
    /// Until when it is fresh enough to be handed out.
    fresh_until: Moment,
}

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchanged({})", self.0.len())
    }
}

impl Default for Exchanged {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

/// Why an exchange brought no token: an answer for who asked, or an error.
enum Refusal {
    Answer(TokenAnswer),
    Error(VaultError),
}

impl Vault {
    /// Trades a bearer token for a handle of the caller's pod. The issuer says whose it is, and whether it is good;
    /// a while later it is asked again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open_bearer_session(
        &self,
        caller: &Caller,
        request: &BearerRequest,
    ) -> Result<SecretString, VaultError> {
        let is_asked = |one: &&vault_config::Issuer| {
            one.issuer.as_str() == request.issuer && one.client_id == request.client_id
        };
        let config = self.config.issuers.iter().find(is_asked);
        let issuer = self.refresher.issuer(&request.issuer, &request.client_id);
        let (Some(config), Some(issuer)) = (config, issuer) else {
            return Err(VaultError::Invalid("no such issuer and client"));
        };
        if config.bearer_tokens.is_ignored()
            || request.token.expose_secret().is_empty()
            || !self
                .config
                .knows(&caller.namespace, &caller.service_account)
        {
            self.refuse(caller, "bearer session", None).await;
            return Err(VaultError::Forbidden);
        }
        let now = self.refresher.now();
        let seconds = UnixSeconds(now.as_secs());
        let active = match issuer.endpoint.introspect(&request.token, seconds).await {
            Introspection::Active(active) => active,
            Introspection::Refused => {
                self.refuse(caller, "bearer session", None).await;
                return Err(VaultError::Forbidden);
            }
            Introspection::Unavailable => {
                return Err(VaultError::Unavailable(
                    "the issuer did not tell about a bearer token",
                ));
            }
        };
        let subject = active.claims.subject().ok_or(VaultError::Forbidden)?;
        let token = digest(request.token.expose_secret().as_bytes());
        let session = SessionRow {
            digest: token,
            login: token,
            tenant: caller.tenant(),
            user: User {
                issuer: request.issuer.clone(),
                subject: subject.to_owned(),
            },
            pod: None,
            ends_at: Moment::from_secs(active.expires_at.0).min(now.saturating_add(BELIEVED)),
        };
        let user = session.user.clone();
        let handle = self.open(caller, session).await?;
        self.note(caller, "bearer session", Some(&user), None, "ok")
            .await?;
        Ok(handle)
    }

    /// What the issuer gives for the bearer token of `session`; none, if it is not to be asked.
    pub(super) async fn exchange(
        &self,
        caller: &Caller,
        session: &SessionRow,
        wanted: &Wanted,
        subject_token: &SecretString,
    ) -> Result<Option<TokenAnswer>, VaultError> {
        if digest(subject_token.expose_secret().as_bytes()) != session.login {
            self.refuse(caller, "exchange", Some(&session.user)).await;
            return Err(VaultError::Forbidden);
        }
        let exchanges = |one: &&vault_config::Issuer| {
            one.issuer.as_str() == session.user.issuer
                && one.bearer_tokens == BearerTokens::Exchanged
        };
        let Some(config) = self.config.issuers.iter().find(exchanges) else {
            return Ok(None);
        };
        let now = self.refresher.now();
        let key = key(session, wanted);
        let is_useless = |given: &Arc<Given>| {
            given.fresh_until <= now || wanted.rejected == Some(fingerprint(&given.token))
        };
        self.exchanged.0.remove_if(&key, is_useless);
        let ask = async {
            let given = self.ask_exchange(config, wanted, subject_token, now).await;
            let result = match &given {
                Ok(_) => "ok",
                Err(Refusal::Answer(_)) => "needs the user",
                Err(Refusal::Error(_)) => "failed",
            };
            let (user, resource) = (Some(&session.user), Some(wanted.resource_server.as_str()));
            self.note(caller, "exchange", user, resource, result)
                .await
                .map_err(Refusal::Error)?;
            given.map(Arc::new)
        };
        match self.exchanged.0.get_or_insert_async(&key, ask).await {
            Ok(given) => Ok(Some(TokenAnswer::Token(Token {
                access_token: given.token.clone(),
                expires_in: given.expires_at.saturating_sub(now).as_secs(),
                scopes: given.scopes.clone(),
                session_ends_in: None,
            }))),
            Err(Refusal::Answer(answer)) => Ok(Some(answer)),
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    async fn ask_exchange(
        &self,
        config: &vault_config::Issuer,
        wanted: &Wanted,
        subject_token: &SecretString,
        now: Moment,
    ) -> Result<Given, Refusal> {
        use globus_auth_core::sidecar_config::ProviderKind;
        let unavailable = |why| Refusal::Error(VaultError::Unavailable(why));
        let issuer = self
            .refresher
            .issuer(config.issuer.as_str(), &config.client_id)
            .ok_or_else(|| unavailable("no such issuer and client"))?;
        let scopes = &wanted.scopes;
        let request = match config.kind {
            ProviderKind::Globus => TokenRequest::DependentTokens {
                token: subject_token,
                scopes,
            },
            ProviderKind::OIDC => TokenRequest::TokenExchange {
                subject_token,
                resource_server: &wanted.resource_server,
                scopes,
            },
        };
        let sets = match issuer.ask(request, now).await {
            Exchange::Answered(Ok(response)) => response.sets,
            Exchange::Answered(Err(problem)) => return Err(refusal(problem, scopes)),
            Exchange::NotSent | Exchange::Unanswered => {
                return Err(unavailable("the issuer did not answer an exchange"));
            }
        };
        let set = refresher::own_set(sets, &wanted.resource_server).filter(|set| set.is_bearer);
        let set = set.ok_or_else(|| unavailable("an exchange brought no token for the service"))?;
        given(set, scopes, now).map_err(|missing| Refusal::Answer(reauthentication(missing)))
    }
}

/// What came, if it allows all of `scopes`; else what it does not allow.
fn given(set: TokenSet, scopes: &[String], now: Moment) -> Result<Given, Vec<String>> {
    let granted = set.scopes.unwrap_or_else(|| scopes.to_vec());
    let missing: Vec<String> = scopes
        .iter()
        .filter(|scope| !granted.contains(scope))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let expires_at = now.saturating_add(set.lifetime);
    let margin = schedule::MARGIN.min(set.lifetime / 5);
    Ok(Given {
        token: set.access_token,
        scopes: granted,
        expires_at,
        fresh_until: expires_at.saturating_sub(margin),
    })
}

fn refusal(problem: Problem, scopes: &[String]) -> Refusal {
    match problem {
        Problem::Interaction { mut requirements } => {
            let asked = std::mem::take(&mut requirements.required_scopes);
            Refusal::Answer(TokenAnswer::ReauthenticationRequired {
                scopes: if asked.is_empty() {
                    scopes.to_vec()
                } else {
                    asked
                },
                requirements,
            })
        }
        // The bearer token has ended, or does not go so far: another one may.
        Problem::Grant | Problem::Scope => Refusal::Answer(reauthentication(scopes.to_vec())),
        Problem::Client
        | Problem::Denied
        | Problem::GrantType
        | Problem::Pending
        | Problem::Throttled { .. }
        | Problem::Transient
        | Problem::Unclassified
        | Problem::Unclear => {
            tracing::warn!(?problem, "an issuer refused to exchange a bearer token");
            Refusal::Error(VaultError::Unavailable(
                "the issuer refused to exchange a bearer token",
            ))
        }
    }
}

/// What was given for a bearer token, in a workload, for a service and scopes.
fn key(session: &SessionRow, wanted: &Wanted) -> Digest {
    let mut scopes: Vec<&str> = wanted.scopes.iter().map(String::as_str).collect();
    scopes.sort_unstable();
    let (tenant, resource) = (&session.tenant, &wanted.resource_server);
    // No name and no scope has a line end (RFC 6749 §3.3).
    let text = format!("{tenant}\n{resource}\n{}\n", scopes.join("\n"));
    digest(&[text.as_bytes(), &session.login].concat())
}

/// After so long, a bearer token that was revoked stands for nobody any more.
const BELIEVED: Duration = Duration::from_mins(5);
/// About 2 KiB each.
const CAPACITY: usize = 10_000;

//! Access tokens, for those who may have them.

use std::time::Duration;

use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::vault_api::{
    OwnTokenRequest, Token, TokenAnswer, TokenRequest as Wanted, fingerprint,
};
use secrecy::SecretString;

use super::{Vault, VaultError};
use crate::answer::TokenSet;
use crate::authorize::OFFLINE_ACCESS;
use crate::caller::Caller;
use crate::envelope::{Field, OpenError};
use crate::grant::{Grant, Kind, Owner, State, User};
use crate::progress::Moment;
use crate::refresher::{self, RefreshError};
use crate::schedule;
use crate::secrets::SecretsError;

impl Vault {
    /// An access token for the user of a session.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn token(&self, caller: &Caller, wanted: &Wanted) -> Result<TokenAnswer, VaultError> {
        let now = self.refresher.now();
        if let Some(token) = self.ready.get(caller, wanted, now) {
            self.metrics.asked("token");
            return Ok(TokenAnswer::Token(token));
        }
        let generation = self.ready.generation();
        let answer = self.find_token(caller, wanted).await;
        if let Ok(TokenAnswer::Token(token)) = &answer {
            // As much as a grant of this lifetime would have; what is older is asked for again.
            let margin = schedule::MARGIN.min(token.lifetime() / 5);
            let times = (now, margin);
            self.ready.put(caller, wanted, token, times, generation);
        }
        self.metrics.asked(result(&answer));
        answer
    }

    async fn find_token(
        &self,
        caller: &Caller,
        wanted: &Wanted,
    ) -> Result<TokenAnswer, VaultError> {
        let session = self.session(caller, &wanted.handle, "token").await?;
        let resource = &wanted.resource_server;
        if !self
            .config
            .allows(&caller.namespace, &caller.service_account, resource)
        {
            self.refuse(caller, "token", Some(&session.user)).await;
            return Err(VaultError::Forbidden);
        }
        let (tenant, user) = (&session.tenant, &session.user);
        let answer = match self.find(tenant, user, resource).await? {
            None => reauthentication(wanted.scopes.clone()),
            Some(grant) => match obstacle(&grant, &wanted.scopes) {
                Some(obstacle) => obstacle,
                None => {
                    self.fresh(grant, &wanted.scopes, wanted.rejected.as_ref())
                        .await?
                }
            },
        };
        match (&answer, &wanted.subject_token) {
            (TokenAnswer::Token(_), _) | (_, None) => Ok(answer),
            (_, Some(subject_token)) => {
                let exchanged = self.exchange(caller, &session, wanted, subject_token);
                Ok(exchanged.await?.unwrap_or(answer))
            }
        }
    }

    /// An access token of our client itself at the first issuer, for a workload that may have it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn own_token(
        &self,
        caller: &Caller,
        wanted: &OwnTokenRequest,
    ) -> Result<TokenAnswer, VaultError> {
        let answer = self.find_own_token(caller, wanted).await;
        self.metrics.asked(result(&answer));
        answer
    }

    async fn find_own_token(
        &self,
        caller: &Caller,
        wanted: &OwnTokenRequest,
    ) -> Result<TokenAnswer, VaultError> {
        let resource = &wanted.resource_server;
        if !self
            .config
            .allows_own(&caller.namespace, &caller.service_account, resource)
        {
            self.refuse(caller, "own token", None).await;
            return Err(VaultError::Forbidden);
        }
        // RFC 6749 §3.3: what is stored with spaces between is found again.
        let is_scope = |scope: &String| !scope.is_empty() && !scope.contains(char::is_whitespace);
        if !wanted.scopes.iter().all(is_scope) {
            return Err(VaultError::Invalid("a scope is not one"));
        }
        let owner = self.own(caller, resource)?;
        for _ in 0..TRIES {
            let present = self.store().find(&owner).await?;
            let has_all = |grant: &Grant| {
                grant.kind == Kind::ClientCredentials
                    && is_own_to_use(grant, self.refresher.now())
                    && wanted
                        .scopes
                        .iter()
                        .all(|scope| grant.scopes.contains(scope))
            };
            if let Some(grant) = present.as_ref().filter(|grant| has_all(grant)) {
                return self
                    .fresh(grant.clone(), &wanted.scopes, wanted.rejected.as_ref())
                    .await;
            }
            let now = self.refresher.now();
            let mut scopes = wanted.scopes.clone();
            // What the issuer refused, another request need not ask for again.
            let working = present.iter().filter(|grant| grant.state == State::Active);
            scopes.extend(working.flat_map(|grant| grant.scopes.clone()));
            scopes.sort();
            scopes.dedup();
            let set = TokenSet::none(scopes);
            let mut grant = Grant::given(
                owner.clone(),
                Kind::ClientCredentials,
                &set,
                present.as_ref(),
                now,
            )
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
            grant.tokens = self
                .refresher
                .secrets()
                .seal(&grant, None, None)
                .map_err(|_seal| VaultError::Unavailable("a grant could not be sealed"))?;
            let version = present.map(|grant| grant.progress.version);
            match version {
                Some(version) => self.store().replace(&grant, version).await?,
                None => self.store().insert(&grant).await?,
            };
        }
        Err(VaultError::Unavailable("others ask for other scopes"))
    }

    /// Our client at the first issuer, as the user of `caller`.
    pub(super) fn own(&self, caller: &Caller, resource: &str) -> Result<Owner, VaultError> {
        let issuer = self.config.issuers.first();
        let issuer = issuer.ok_or(VaultError::Invalid("no such issuer and client"))?;
        let name = issuer.issuer.as_str();
        Ok(Owner {
            tenant: caller.tenant(),
            user: User {
                issuer: name.to_owned(),
                subject: issuer.client_id.clone(),
            },
            issuer: name.to_owned(),
            client_id: issuer.client_id.clone(),
            resource: resource.to_owned(),
        })
    }

    /// What `user` let the workload `tenant` do at `resource`.
    pub(super) async fn find(
        &self,
        tenant: &str,
        user: &User,
        resource: &str,
    ) -> Result<Option<Grant>, VaultError> {
        for issuer in &self.config.issuers {
            let owner = Owner {
                tenant: tenant.to_owned(),
                user: user.clone(),
                issuer: issuer.issuer.as_str().to_owned(),
                client_id: issuer.client_id.clone(),
                resource: resource.to_owned(),
            };
            let found = self.store().find(&owner).await?;
            if let Some(grant) = found.filter(|grant| grant.state != State::Revoked) {
                return Ok(Some(grant));
            }
        }
        Ok(None)
    }

    pub(super) async fn fresh(
        &self,
        grant: Grant,
        scopes: &[String],
        rejected: Option<&String>,
    ) -> Result<TokenAnswer, VaultError> {
        let now = self.refresher.now();
        let present = self.opened(&grant)?;
        let is_rejected = match (rejected, &present) {
            (Some(rejected), Some(present)) => *rejected == fingerprint(present),
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if let (Some(token), false, true) =
            (&present, is_rejected, grant.is_fresh(now, margin(&grant)))
        {
            self.note_use(&grant, now).await;
            return Ok(self.answer(token.clone(), &grant, now));
        }
        if let (Some(rejected), true) = (rejected, is_rejected)
            && self.was_forced(&grant, rejected, now)
        {
            return Err(VaultError::Unavailable("the service refuses new tokens"));
        }
        let refreshed = self
            .refresher
            .refresh(&grant.id, grant.access_expires_at)
            .await;
        match refreshed {
            Ok(()) => {
                let grant = self.store().grant(&grant.id).await?;
                let grant = grant.ok_or(VaultError::Forbidden)?;
                let token = self.opened(&grant)?;
                let token = token.ok_or(VaultError::Unavailable("the issuer gave no token"))?;
                self.note_use(&grant, now).await;
                Ok(self.answer(token, &grant, now))
            }
            // What is still good is served, whatever becomes of the grant.
            Err(error) => match (present, error) {
                (Some(token), _) if !is_rejected && grant.is_fresh(now, Duration::ZERO) => {
                    Ok(self.answer(token, &grant, now))
                }
                (_, RefreshError::NeedsUser) => {
                    // What the issuer has just said, if it did.
                    let newest = self.store().grant(&grant.id).await?.unwrap_or(grant);
                    Ok(needed(newest))
                }
                (_, RefreshError::Gone) => Ok(reauthentication(scopes.to_vec())),
                (_, RefreshError::Unavailable) => {
                    Err(VaultError::Unavailable("the issuer gave no token"))
                }
            },
        }
    }

    /// Whether a token was got not long ago because the service refused another one than `rejected`. It refuses the new one,
    /// too: that is no matter of the token.
    fn was_forced(&self, grant: &Grant, rejected: &String, now: Moment) -> bool {
        let before = self.forced.get(&grant.id);
        let before = before.filter(|(at, _)| now < at.saturating_add(COOL_DOWN));
        if let Some((_, token)) = before {
            return token != *rejected;
        }
        self.forced
            .insert(grant.id.clone(), (now, rejected.clone()));
        false
    }

    /// What is used is refreshed before it ends. That this could not be noted is no matter for who asked.
    async fn note_use(&self, grant: &Grant, now: Moment) {
        let Some(used) = schedule::after_use(grant, now, refresher::spread()) else {
            return;
        };
        let noted = self.store().replace(&used, grant.progress.version).await;
        if let Err(error) = noted {
            tracing::warn!(grant = grant.id, %error, "failed to note that a grant is used");
        }
    }

    fn answer(&self, token: SecretString, grant: &Grant, now: Moment) -> TokenAnswer {
        let session_ends_at = self.session_ends_at(grant, now);
        TokenAnswer::Token(Token {
            access_token: token,
            expires_in: grant.access_expires_at.saturating_sub(now).as_secs(),
            scopes: grant.scopes.clone(),
            session_ends_in: session_ends_at.map(|at| at.saturating_sub(now).as_secs()),
        })
    }

    /// When the issuer wants the user to log in again, if that is soon.
    pub(super) fn session_ends_at(&self, grant: &Grant, now: Moment) -> Option<Moment> {
        if grant.kind != Kind::AuthorizationCode {
            return None;
        }
        let issuer = self.configured(&grant.owner)?;
        let session = Duration::from_secs(issuer.session_seconds?);
        let ends_at = grant.authenticated_at.saturating_add(session);
        (now.saturating_add(issuer.warning()?) >= ends_at).then_some(ends_at)
    }

    /// The access token of a grant. One that is not what was stored is none, and another one is got.
    fn opened(&self, grant: &Grant) -> Result<Option<SecretString>, VaultError> {
        match self.refresher.secrets().open(grant, Field::AccessToken) {
            Err(SecretsError::Open(OpenError::UnknownKey { .. })) => Err(VaultError::Unavailable(
                "a stored token is under a key that is not here",
            )),
            Err(error) => {
                tracing::error!(grant = grant.id, error = %error, "an access token does not open");
                Ok(None)
            }
            Ok(opened) => Ok(opened),
        }
    }
}

/// Whether a grant of our client itself is gone on with. There is no user to ask: one that the issuer refused is begun anew,
/// once in a while.
fn is_own_to_use(grant: &Grant, now: Moment) -> bool {
    match grant.state {
        State::Active | State::Degraded => true,
        State::NeedsReauthentication => grant
            .failing_since
            .is_some_and(|since| now < since.saturating_add(COOL_DOWN)),
        State::Revoked => false,
    }
}

/// Exactly what the issuer asks for; if it does not say, everything again.
fn needed(grant: Grant) -> TokenAnswer {
    let mut requirements = grant.requirements;
    let mut scopes = std::mem::take(&mut requirements.required_scopes);
    if scopes.is_empty() {
        scopes = grant.scopes;
    }
    TokenAnswer::ReauthenticationRequired {
        scopes,
        requirements,
    }
}

/// Why the tokens of `grant` are not given out to somebody who wants `scopes`, if not.
pub(super) fn obstacle(grant: &Grant, scopes: &[String]) -> Option<TokenAnswer> {
    // These ask for other tokens beside; of an access token, an issuer need not say them.
    let is_of_protocol = |scope: &String| [OFFLINE_ACCESS, "openid"].contains(&scope.as_str());
    let is_missing = |scope: &&String| !is_of_protocol(scope) && !grant.scopes.contains(scope);
    let missing: Vec<String> = scopes.iter().filter(is_missing).cloned().collect();
    if !missing.is_empty() {
        return Some(reauthentication(missing));
    }
    let scopes = grant.scopes.clone();
    (!grant.is_consented()).then_some(TokenAnswer::ConsentRequired { scopes })
}

pub(super) fn reauthentication(scopes: Vec<String>) -> TokenAnswer {
    TokenAnswer::ReauthenticationRequired {
        scopes,
        requirements: SessionRequirements::default(),
    }
}

/// How a request for a token ended, for the metric.
pub(super) const fn result(answer: &Result<TokenAnswer, VaultError>) -> &'static str {
    match answer {
        Ok(TokenAnswer::Token(_)) => "token",
        Ok(TokenAnswer::ConsentRequired { .. }) => "consent_required",
        Ok(TokenAnswer::ReauthenticationRequired { .. }) => "reauthentication_required",
        Err(VaultError::Forbidden | VaultError::Invalid(_)) => "refused",
        Err(VaultError::Unavailable(_) | VaultError::Store(_)) => "unavailable",
    }
}

/// A token of a minute is not refreshed all the time.
fn margin(grant: &Grant) -> Duration {
    schedule::MARGIN.min(grant.lifetime() / 5)
}

/// A service that refuses tokens has another one got once in so long, and an issuer that refuses our client itself is asked.
const COOL_DOWN: Duration = Duration::from_mins(1);
/// Others who ask for other scopes at the same time are waited for so often.
const TRIES: u32 = 8;

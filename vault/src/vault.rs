//! What the vault does for its callers.

pub mod admin;
mod bearer;
mod consent;
mod delegations;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::id_token::{self, Login};
use globus_auth_core::random;
use globus_auth_core::runtime::key_source::KeySource;
use globus_auth_core::vault_api::{
    Connection, LoginRequest, LoginResponse, OtherToken, OwnTokenRequest, Token, TokenAnswer,
    TokenRequest as Wanted, fingerprint,
};
use globus_auth_core::vault_config::VaultConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::answer::{Problem, TokenResponse, TokenSet};
use crate::caller::Caller;
use crate::endpoint::{Exchange, TokenRequest};
use crate::envelope::{Field, OpenError};
use crate::grant::{Digest, Grant, Kind, Owner, SealedTokens, State, User, digest};
use crate::issuer::Issuer;
use crate::metrics::Metrics;
use crate::progress::{Moment, Progress};
use crate::ready::Ready;
use crate::refresher::{self, RefreshError, Refresher};
use crate::schedule;
use crate::secrets::SecretsError;
use crate::store::audit::Entry;
use crate::store::sessions::SessionRow;
use crate::store::{Store, StoreError};

/// The vault.
#[derive(Debug)]
pub struct Vault {
    config: VaultConfig,
    refresher: Arc<Refresher>,
    /// The signing keys of each issuer, in the order of the configuration.
    keys: Vec<KeySource>,
    metrics: Metrics,
    ready: Ready,
    exchanged: bearer::Exchanged,
}

/// Why a caller does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The request cannot be right.
    #[error("the request is not valid: {0}")]
    Invalid(&'static str),
    /// It is not there, or not theirs: nobody is told which.
    #[error("not there, or not theirs")]
    Forbidden,
    /// Not now.
    #[error("not now: {0}")]
    Unavailable(&'static str),
    /// The store.
    #[error("the store does not work")]
    Store(#[from] StoreError),
}

impl Vault {
    /// A vault.
    pub fn new(
        config: VaultConfig,
        refresher: Arc<Refresher>,
        keys: Vec<KeySource>,
        metrics: Metrics,
    ) -> Self {
        Self {
            config,
            refresher,
            keys,
            metrics,
            ready: Ready::default(),
            exchanged: bearer::Exchanged::default(),
        }
    }

    fn store(&self) -> &Store {
        self.refresher.store()
    }

    /// Redeems the code of a login, keeps what came with it, and says who it is.
    ///
    /// # Errors
    /// [`VaultError`]. A code is good for one try.
    pub async fn login(
        &self,
        caller: &Caller,
        request: &LoginRequest,
    ) -> Result<LoginResponse, VaultError> {
        if !self
            .config
            .knows(&caller.namespace, &caller.service_account)
        {
            self.refuse(caller, "login", None).await;
            return Err(VaultError::Forbidden);
        }
        let issuer = self
            .refresher
            .issuer(&request.issuer, &request.client_id)
            .ok_or(VaultError::Invalid("no such issuer and client"))?;
        let now = self.refresher.now();
        let code = digest(request.code.expose_secret().as_bytes());
        let ends_at = now.saturating_add(CODE_LIFETIME);
        if !self.store().spend(&code, ends_at).await? {
            self.refuse(caller, "login", None).await;
            return Err(VaultError::Forbidden);
        }
        let response = redeemed(issuer, request).await?;
        let id_token = response
            .id_token
            .ok_or(VaultError::Invalid("the issuer gave no ID token"))?;
        let (user, authenticated_at) = self.verify(request, &id_token, now).await?;
        let mut needs_consent = false;
        for set in &response.sets {
            let times = (authenticated_at, now);
            needs_consent |= self.keep(caller, issuer, &user, set, times).await?;
        }
        let session = self.open_login(caller, &user, now).await?;
        self.note(caller, "login", Some(&user), None, "ok").await?;
        let mut sets = response.sets.into_iter();
        let first = sets
            .next()
            .ok_or(VaultError::Invalid("the issuer gave no token"))?;
        Ok(LoginResponse {
            id_token,
            access_token: first.access_token,
            // What a login itself asks services of the issuer. Other tokens are got one by one.
            other_tokens: sets
                .filter_map(|set| {
                    let resource_server = set.resource_server?;
                    (resource_server == GLOBUS_GROUPS).then_some(OtherToken {
                        resource_server,
                        access_token: set.access_token,
                    })
                })
                .collect(),
            session,
            needs_consent,
        })
    }

    /// Who logged in, and when: the issuer may know them from before.
    async fn verify(
        &self,
        request: &LoginRequest,
        id_token: &SecretString,
        now: Moment,
    ) -> Result<(User, Moment), VaultError> {
        let mut issuers = self.config.issuers.iter().zip(&self.keys);
        let (issuer, keys) = issuers
            .find(|(issuer, _)| {
                issuer.issuer.as_str() == request.issuer && issuer.client_id == request.client_id
            })
            .ok_or(VaultError::Invalid("no such issuer and client"))?;
        let login = Login {
            client_id: &issuer.client_id,
            issuer: &issuer.issuer,
            nonce: request.nonce.expose_secret(),
        };
        let claims = keys
            .verify(
                |keys| {
                    let now = UnixSeconds(now.as_secs());
                    id_token::verify(id_token.expose_secret(), keys, login, now)
                },
                |reason| reason.may_change_with_keys(),
            )
            .await
            .map_err(|_fetch| VaultError::Unavailable("the issuer's keys could not be had"))?
            .map_err(|reason| {
                tracing::warn!(%reason, "refused an ID token");
                VaultError::Forbidden
            })?;
        let subject = claims.subject().ok_or(VaultError::Forbidden)?;
        let user = User {
            issuer: issuer.issuer.as_str().to_owned(),
            subject: subject.to_owned(),
        };
        let authenticated_at = claims.time("auth_time");
        let authenticated_at = authenticated_at.map_or(now, |at| Moment::from_secs(at.0));
        Ok((user, authenticated_at.min(now)))
    }

    /// Keeps the tokens of one resource server, in place of those of an earlier login. Whether the user must
    /// still let the workload use them.
    async fn keep(
        &self,
        caller: &Caller,
        issuer: &Issuer,
        user: &User,
        set: &TokenSet,
        (authenticated_at, now): (Moment, Moment),
    ) -> Result<bool, VaultError> {
        let resource = set.resource_server.as_deref().unwrap_or(&issuer.issuer);
        if !self
            .config
            .allows(&caller.namespace, &caller.service_account, resource)
        {
            return Ok(false);
        }
        let owner = Owner {
            tenant: caller.tenant(),
            user: user.clone(),
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            resource: resource.to_owned(),
        };
        loop {
            let present = self.store().find(&owner).await?;
            let from = present.as_ref().map(|grant| grant.progress.version);
            let mut grant = self.granted(issuer, owner.clone(), present.as_ref(), set, now)?;
            grant.authenticated_at = authenticated_at;
            let is_written = match from {
                Some(version) => self.store().replace(&grant, version).await?,
                None => self.store().insert(&grant).await?,
            };
            // Somebody refreshed it meanwhile; what the user has just given is newer.
            if is_written {
                self.ready.clear();
                return Ok(!grant.is_consented());
            }
        }
    }

    fn granted(
        &self,
        issuer: &Issuer,
        owner: Owner,
        present: Option<&Grant>,
        set: &TokenSet,
        now: Moment,
    ) -> Result<Grant, VaultError> {
        let token = set.refresh_token.as_ref();
        let mut grant = Grant::given(owner, Kind::AuthorizationCode, set, present, now)
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
        let access = set.is_bearer.then_some(&set.access_token);
        grant.tokens = self
            .refresher
            .secrets()
            .seal(&grant, token, access)
            .map_err(|_seal| VaultError::Unavailable("a token could not be encrypted"))?;
        grant.due_at = schedule::after_success(&grant, issuer.keep_alive, now, 0.5);
        Ok(grant)
    }

    async fn open_login(
        &self,
        caller: &Caller,
        user: &User,
        now: Moment,
    ) -> Result<SecretString, VaultError> {
        let bytes = random::bytes::<16>()
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
        let session = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
        let digest = digest(session.expose_secret().as_bytes());
        let row = SessionRow {
            digest,
            login: digest,
            tenant: caller.tenant(),
            user: user.clone(),
            pod: None,
            ends_at: now.saturating_add(LONGEST_LOGIN),
        };
        self.store().add_session(&row).await?;
        Ok(session)
    }

    /// Trades what a browser holds for a handle of the caller's pod.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open_session(
        &self,
        caller: &Caller,
        session: &SecretString,
    ) -> Result<SecretString, VaultError> {
        let now = self.refresher.now();
        let name = digest(session.expose_secret().as_bytes());
        let login = self.store().session(&name, now).await?;
        let login = login.filter(|login| login.pod.is_none() && login.tenant == caller.tenant());
        let Some(login) = login else {
            self.refuse(caller, "session", None).await;
            return Err(VaultError::Forbidden);
        };
        self.open(caller, login).await
    }

    /// A handle of the caller's pod for `session`.
    async fn open(&self, caller: &Caller, session: SessionRow) -> Result<SecretString, VaultError> {
        let bytes = random::bytes::<32>()
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
        let handle = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
        let row = SessionRow {
            digest: digest(handle.expose_secret().as_bytes()),
            pod: Some(caller.pod.clone()),
            ..session
        };
        self.store().add_session(&row).await?;
        Ok(handle)
    }

    /// Ends a login. With the last one of a user at a workload, what the user consented to there is taken
    /// back at the issuers.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn end_session(
        &self,
        caller: &Caller,
        session: &SecretString,
    ) -> Result<(), VaultError> {
        let now = self.refresher.now();
        let name = digest(session.expose_secret().as_bytes());
        let login = self.store().session(&name, now).await?;
        let Some(login) = login.filter(|login| login.tenant == caller.tenant()) else {
            // It has ended before, or is another workload's: in both cases there is nothing to do.
            return Ok(());
        };
        let was_last = self.store().end_login(&login, now).await?;
        self.ready.clear();
        if was_last {
            let (tenant, user) = (&login.tenant, &login.user);
            let delegations = self.store().delegations_of(tenant, user, now).await?;
            for grant in self.store().grants_of(tenant, user).await? {
                let resource = &grant.owner.resource;
                // Somebody acts for the user while they are away.
                if !delegations.iter().any(|one| one.resource == *resource) {
                    self.revoke(caller, grant).await?;
                }
            }
        }
        self.note(caller, "logout", Some(&login.user), None, "ok")
            .await
    }

    /// The session of a handle: of this pod, and of no other.
    async fn session(
        &self,
        caller: &Caller,
        handle: &SecretString,
        action: &str,
    ) -> Result<SessionRow, VaultError> {
        let name = digest(handle.expose_secret().as_bytes());
        let session = self.store().session(&name, self.refresher.now()).await?;
        match session {
            Some(session)
                if session.pod.as_deref() == Some(&caller.pod)
                    && session.tenant == caller.tenant() =>
            {
                Ok(session)
            }
            Some(session) => {
                tracing::error!(
                    pod = caller.pod,
                    workload = caller.tenant(),
                    "a pod showed the handle of another pod"
                );
                self.refuse(caller, action, Some(&session.user)).await;
                Err(VaultError::Forbidden)
            }
            None => Err(VaultError::Forbidden),
        }
    }

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
        let owner = self.own(caller, resource)?;
        loop {
            let present = self.store().find(&owner).await?;
            let has_all = |grant: &Grant| {
                grant.kind == Kind::ClientCredentials
                    && grant.state != State::Revoked
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
            scopes.extend(present.iter().flat_map(|grant| grant.scopes.clone()));
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
    }

    /// Our client at the first issuer, as the user of `caller`.
    fn own(&self, caller: &Caller, resource: &str) -> Result<Owner, VaultError> {
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
    async fn find(
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

    async fn fresh(
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
    fn session_ends_at(&self, grant: &Grant, now: Moment) -> Option<Moment> {
        if grant.kind != Kind::AuthorizationCode {
            return None;
        }
        let mut issuers = self.config.issuers.iter();
        let issuer = issuers.find(|one| {
            one.issuer.as_str() == grant.owner.issuer && one.client_id == grant.owner.client_id
        })?;
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

    /// What the user of a session has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn connections(
        &self,
        caller: &Caller,
        handle: &SecretString,
    ) -> Result<Vec<Connection>, VaultError> {
        let session = self.session(caller, handle, "connections").await?;
        let (tenant, user) = (&session.tenant, &session.user);
        let now = self.refresher.now();
        let grants = self.store().grants_of(tenant, user).await?;
        let delegations = self.store().delegations_of(tenant, user, now).await?;
        let alive = grants
            .into_iter()
            .filter(|grant| grant.state != State::Revoked);
        Ok(alive
            .map(|grant| Connection {
                needs_consent: !grant.is_consented(),
                session_ends_at: self.session_ends_at(&grant, now).map(|at| at.as_secs()),
                delegations: delegations
                    .iter()
                    .filter(|one| one.resource == grant.owner.resource)
                    .map(delegations::shown)
                    .collect(),
                state: grant.state.as_str().to_owned(),
                expires_at: grant.access_expires_at.as_secs(),
                is_renewed: schedule::is_refreshable(&grant),
                resource_server: grant.owner.resource,
                scopes: grant.scopes,
            })
            .collect())
    }

    /// Takes back what the user of a session has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn disconnect(
        &self,
        caller: &Caller,
        handle: &SecretString,
        resource: &str,
    ) -> Result<(), VaultError> {
        let session = self.session(caller, handle, "disconnect").await?;
        let (tenant, user) = (&session.tenant, &session.user);
        self.end_delegations(tenant, user, resource).await?;
        match self.find(tenant, user, resource).await? {
            Some(grant) => self.revoke(caller, grant).await,
            None => Ok(()),
        }
    }

    /// Forgets the tokens first, and then takes them back at the issuer: a refresh token, and the access
    /// token with it (RFC 7009 §2.1).
    async fn revoke(&self, caller: &Caller, grant: Grant) -> Result<(), VaultError> {
        let actor = (caller.tenant(), Some(caller.pod.clone()));
        self.take_back(actor, grant).await
    }

    async fn take_back(
        &self,
        (actor, pod): (String, Option<String>),
        grant: Grant,
    ) -> Result<(), VaultError> {
        let mut present = grant;
        let tokens = loop {
            let secrets = self.refresher.secrets();
            let tokens = [Field::RefreshToken, Field::AccessToken]
                .map(|field| secrets.open(&present, field).ok().flatten());
            let version = present.progress.version;
            let revoked = revoked(present.clone());
            if self.store().replace(&revoked, version).await? {
                self.ready.clear();
                break tokens;
            }
            match self.store().grant(&present.id).await? {
                Some(newer) => present = newer,
                None => return Ok(()),
            }
        };
        let issuer = self
            .refresher
            .issuer(&present.owner.issuer, &present.owner.client_id);
        let mut result = "ok";
        if let Some(issuer) = issuer {
            for token in tokens.iter().flatten() {
                if !issuer.endpoint.revoke(token).await {
                    result = "not revoked at the issuer";
                }
            }
        }
        let entry = Entry {
            at: self.milliseconds(),
            action: "revoke".to_owned(),
            actor,
            pod,
            user: Some(present.owner.user.subject),
            resource: Some(present.owner.resource),
            result: result.to_owned(),
        };
        Ok(self.store().append(&entry).await?)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.refresher.now().as_millis()).unwrap_or(u64::MAX)
    }

    async fn note(
        &self,
        caller: &Caller,
        action: &str,
        user: Option<&User>,
        resource: Option<&str>,
        result: &str,
    ) -> Result<(), VaultError> {
        let entry = Entry {
            at: self.milliseconds(),
            action: action.to_owned(),
            actor: caller.tenant(),
            pod: Some(caller.pod.clone()),
            user: user.map(|user| user.subject.clone()),
            resource: resource.map(str::to_owned),
            result: result.to_owned(),
        };
        Ok(self.store().append(&entry).await?)
    }

    /// Notes a refusal. That the note failed changes nothing: the refusal stands.
    async fn refuse(&self, caller: &Caller, action: &str, user: Option<&User>) {
        tracing::warn!(
            action,
            workload = caller.tenant(),
            pod = caller.pod,
            "refused a request"
        );
        let noted = self.note(caller, action, user, None, "refused").await;
        if let Err(error) = noted {
            tracing::error!(%error, "failed to note a refusal");
        }
    }

    /// Removes what has ended, now and then.
    pub async fn tidy_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TIDY).await;
            if let Err(error) = self.store().tidy(self.refresher.now()).await {
                tracing::warn!(%error, "failed to remove sessions that ended");
            }
            if let Err(error) = self.end_expired_delegations().await {
                tracing::warn!(%error, "failed to remove delegations that ended");
            }
            if let Err(error) = self.forget_unused().await {
                tracing::warn!(%error, "failed to forget grants that nobody uses");
            }
        }
    }

    /// Takes back and removes what nobody has used for as long as the configuration says.
    ///
    /// # Errors
    /// [`VaultError`]; the rest is tried next time.
    pub async fn forget_unused(&self) -> Result<(), VaultError> {
        let Some(seconds) = self.config.refresh.forget_unused_after_seconds else {
            return Ok(());
        };
        let after = Duration::from_secs(seconds);
        let before = self.refresher.now().saturating_sub(after);
        loop {
            let unused = self.store().unused(before, BATCH).await?;
            if unused.is_empty() {
                return Ok(());
            }
            for grant in unused {
                let id = grant.id.clone();
                if grant.state != State::Revoked {
                    self.take_back(("vault".to_owned(), None), grant).await?;
                }
                // Somebody may have consented again meanwhile.
                let left = self.store().grant(&id).await?;
                if let Some(left) = left.filter(|left| left.state == State::Revoked) {
                    self.store().remove(&id, left.progress.version).await?;
                }
            }
        }
    }
}

async fn redeemed(issuer: &Issuer, request: &LoginRequest) -> Result<TokenResponse, VaultError> {
    let code = TokenRequest::AuthorizationCode {
        code: &request.code,
        code_verifier: &request.code_verifier,
        redirect_uri: &request.redirect_uri,
    };
    match issuer.endpoint.ask(code).await {
        Exchange::Answered(Ok(response)) => Ok(response),
        Exchange::Answered(Err(Problem::Grant)) => Err(VaultError::Forbidden),
        Exchange::Answered(Err(_)) | Exchange::NotSent | Exchange::Unanswered => {
            Err(VaultError::Unavailable("the issuer did not give tokens"))
        }
    }
}

/// A grant without tokens.
fn revoked(grant: Grant) -> Grant {
    let mut revoked = Grant {
        state: State::Revoked,
        reason: None,
        consented: vec![],
        due_at: None,
        tokens: SealedTokens {
            refresh: None,
            access: None,
            ..grant.tokens
        },
        ..grant
    };
    revoked.progress = Progress {
        version: revoked.progress.version + 1,
        token: None::<Digest>,
        parent: None,
        attempt: None,
        lease_until: Moment::ZERO,
        ..revoked.progress
    };
    revoked
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
fn obstacle(grant: &Grant, scopes: &[String]) -> Option<TokenAnswer> {
    let missing: Vec<String> = scopes
        .iter()
        .filter(|scope| !grant.scopes.contains(scope))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Some(reauthentication(missing));
    }
    let scopes = grant.scopes.clone();
    (!grant.is_consented()).then_some(TokenAnswer::ConsentRequired { scopes })
}

fn reauthentication(scopes: Vec<String>) -> TokenAnswer {
    TokenAnswer::ReauthenticationRequired {
        scopes,
        requirements: SessionRequirements::default(),
    }
}

/// How a request for a token ended, for the metric.
const fn result(answer: &Result<TokenAnswer, VaultError>) -> &'static str {
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

/// Codes live for ten minutes at most (RFC 6749 §4.1.2).
const CODE_LIFETIME: Duration = Duration::from_mins(15);
/// Beyond the longest session of a proxy, which ends before.
const LONGEST_LOGIN: Duration = Duration::from_hours(31 * 24);
const TIDY: Duration = Duration::from_mins(10);
/// So many grants at a time are in memory.
const BATCH: u32 = 100;
const GLOBUS_GROUPS: &str = "groups.api.globus.org";

#[cfg(test)]
mod tests;

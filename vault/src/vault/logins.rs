//! Logins, and what pods may use of them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::id_token::{self, Login};
use globus_auth_core::random;
use globus_auth_core::sidecar_config::ProviderKind;
use globus_auth_core::vault_api::{LoginRequest, LoginResponse, OtherToken};
use secrecy::{ExposeSecret, SecretString};

use super::revocations::{self, forget};
use super::{Vault, VaultError};
use crate::answer::{Problem, TokenResponse, TokenSet};
use crate::caller::Caller;
use crate::endpoint::{Exchange, TokenRequest};
use crate::envelope::Field;
use crate::grant::{Grant, Kind, Owner, State, User, digest};
use crate::issuer::Issuer;
use crate::progress::{Moment, Progress};
use crate::schedule;
use crate::store::sessions::SessionRow;

impl Vault {
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
        let response = redeemed(issuer, request, now).await?;
        let verified = match &response.id_token {
            Some(id_token) => self.verify(request, id_token, now).await,
            None => Err(VaultError::Invalid("the issuer gave no ID token")),
        };
        let (user, authenticated_at) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                forget(issuer, &response).await;
                return Err(error);
            }
        };
        let mut needs_consent = false;
        for set in &response.sets {
            let times = (authenticated_at, now);
            needs_consent |= self.keep(caller, issuer, &user, set, times).await?;
        }
        let session = self.open_login(caller, request, &user, now).await?;
        self.note(caller, "login", Some(&user), None, "ok").await?;
        let mut sets = response.sets.into_iter();
        let first = sets
            .next()
            .ok_or(VaultError::Invalid("the issuer gave no token"))?;
        Ok(LoginResponse {
            id_token: response.id_token.unwrap_or_default(),
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
        let client = (request.issuer.as_str(), request.client_id.as_str());
        let claims = self.claims(client, &request.nonce, id_token, now).await?;
        let subject = claims.subject().ok_or(VaultError::Forbidden)?;
        let user = User {
            issuer: request.issuer.clone(),
            subject: subject.to_owned(),
        };
        let authenticated_at = claims.time("auth_time");
        let authenticated_at = authenticated_at.map_or(now, |at| Moment::from_secs(at.0));
        Ok((user, authenticated_at.min(now)))
    }

    /// What an ID token says that is of this issuer, for this client, and of the request with this nonce.
    pub(super) async fn claims(
        &self,
        (issuer, client_id): (&str, &str),
        nonce: &SecretString,
        id_token: &SecretString,
        now: Moment,
    ) -> Result<Claims, VaultError> {
        let mut issuers = self.config.issuers.iter().zip(&self.keys);
        let (issuer, keys) = issuers
            .find(|(one, _)| one.issuer.as_str() == issuer && one.client_id == client_id)
            .ok_or(VaultError::Invalid("no such issuer and client"))?;
        let login = Login {
            client_id: &issuer.client_id,
            issuer: &issuer.issuer,
            nonce: nonce.expose_secret(),
        };
        keys.verify(
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
        })
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
        let owner = Owner {
            tenant: caller.tenant(),
            user: user.clone(),
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            resource: resource.to_owned(),
        };
        if !self
            .config
            .allows(&caller.namespace, &caller.service_account, resource)
        {
            self.discard(issuer, owner, set, now).await?;
            return Ok(false);
        }
        let change = |grant: &mut Grant| grant.authenticated_at = authenticated_at;
        let kept = self.replace(issuer, &owner, set, now, change).await?;
        Ok(!kept.is_consented())
    }

    /// Writes what an issuer has given, with a `change`, in place of what is there.
    pub(super) async fn replace(
        &self,
        issuer: &Issuer,
        owner: &Owner,
        set: &TokenSet,
        now: Moment,
        change: impl Fn(&mut Grant),
    ) -> Result<Grant, VaultError> {
        loop {
            let present = self.store().find(owner).await?;
            let from = present.as_ref().map(|grant| grant.progress.version);
            let mut grant = self.granted(issuer, owner.clone(), present.as_ref(), set, now)?;
            change(&mut grant);
            let superseded = present.filter(|present| self.is_left_behind(present, &grant));
            let revocation = superseded.and_then(|present| revocations::superseded(&present, now));
            let is_written = match from {
                Some(version) => {
                    let store = self.store();
                    store
                        .take_back(&grant, version, revocation.as_ref())
                        .await?
                }
                None => self.store().insert(&grant).await?,
            };
            // Somebody refreshed it meanwhile; what the user has just given is newer.
            if is_written {
                self.ready.clear();
                return Ok(grant);
            }
        }
    }

    /// That of a grant that is refreshed. A login that renews what is known of its user brings no other one.
    fn refresh_token_that_works(&self, present: &Grant) -> Option<SecretString> {
        if !schedule::is_refreshable(present) || present.kind != Kind::AuthorizationCode {
            return None;
        }
        let opened = self.refresher.secrets().open(present, Field::RefreshToken);
        opened.ok().flatten()
    }

    /// Whether the refresh token of `present` stays good, although `grant` takes its place, and can be taken back alone.
    /// At Globus each login brings another one. Other issuers would end what came with the new login, too.
    fn is_left_behind(&self, present: &Grant, grant: &Grant) -> bool {
        self.configured(&grant.owner)
            .is_some_and(|one| one.kind == ProviderKind::Globus)
            && grant.progress.token.is_some()
            && present.progress.token != grant.progress.token
    }

    /// Takes back, a little later, a refresh token that came with a login and that nobody may have.
    async fn discard(
        &self,
        issuer: &Issuer,
        owner: Owner,
        set: &TokenSet,
        now: Moment,
    ) -> Result<(), VaultError> {
        let grant = self.granted(issuer, owner, None, set, now)?;
        match revocations::superseded(&grant, now) {
            Some(revocation) => Ok(self.store().add_revocation(revocation).await?),
            None => Ok(()),
        }
    }

    pub(super) fn granted(
        &self,
        issuer: &Issuer,
        owner: Owner,
        present: Option<&Grant>,
        set: &TokenSet,
        now: Moment,
    ) -> Result<Grant, VaultError> {
        let mut grant = Grant::given(owner, Kind::AuthorizationCode, set, present, now)
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
        let stays = match (&set.refresh_token, present) {
            (None, Some(present)) => self.refresh_token_that_works(present),
            _ => None,
        };
        if let (Some(_), Some(present)) = (&stays, present) {
            grant.progress = Progress {
                version: grant.progress.version,
                ..present.progress
            };
        }
        let token = set.refresh_token.as_ref().or(stays.as_ref());
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
        request: &LoginRequest,
        user: &User,
        now: Moment,
    ) -> Result<SecretString, VaultError> {
        let lifetime = request.session_seconds.map(Duration::from_secs);
        let lifetime = lifetime.map_or(LONGEST_LOGIN, |lifetime| lifetime.min(LONGEST_LOGIN));
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
            ends_at: now.saturating_add(lifetime),
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
        let handle = self.open(caller, login.clone()).await?;
        // It may have ended while its handle was written.
        if self.store().session(&name, now).await?.is_none() {
            self.store().end_login(&login, now).await?;
            return Err(VaultError::Forbidden);
        }
        Ok(handle)
    }

    /// A handle of the caller's pod for `session`.
    pub(super) async fn open(
        &self,
        caller: &Caller,
        session: SessionRow,
    ) -> Result<SecretString, VaultError> {
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
        // The login goes last: whoever is told that this failed asks again, and finds it.
        let is_only = self.store().is_only_login(&login, now).await?;
        if is_only {
            self.take_back_all_of(caller, &login, now).await?;
        }
        let was_last = self.store().end_login(&login, now).await?;
        self.ready.clear();
        if was_last && !is_only {
            // Two logins ended at a time.
            self.take_back_all_of(caller, &login, now).await?;
        }
        self.note(caller, "logout", Some(&login.user), None, "ok")
            .await
    }

    /// Takes back what the user of a login let its workload use, unless somebody acts for them while they are away.
    async fn take_back_all_of(
        &self,
        caller: &Caller,
        login: &SessionRow,
        now: Moment,
    ) -> Result<(), VaultError> {
        let (tenant, user) = (&login.tenant, &login.user);
        let delegations = self.store().delegations_of(tenant, user, now).await?;
        let is_delegated = |grant: &Grant| {
            let mut resources = delegations.iter().map(|one| &one.resource);
            resources.any(|resource| *resource == grant.owner.resource)
        };
        let grants = self.store().grants_of(tenant, user).await?.into_iter();
        let alive = grants.filter(|grant| grant.state != State::Revoked && !is_delegated(grant));
        let taken = alive.map(|grant| self.revoke(caller, grant));
        // All at a time, so that a slow issuer is waited for once; one that fails stops no other.
        let results = futures_util::future::join_all(taken).await;
        results.into_iter().collect()
    }

    /// The session of a handle: of this pod, and of no other.
    pub(super) async fn session(
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
}

async fn redeemed(
    issuer: &Issuer,
    request: &LoginRequest,
    now: Moment,
) -> Result<TokenResponse, VaultError> {
    let code = TokenRequest::AuthorizationCode {
        code: &request.code,
        code_verifier: &request.code_verifier,
        redirect_uri: &request.redirect_uri,
        resource: None,
    };
    match issuer.ask_anyway(code, now).await {
        Exchange::Answered(Ok(response)) => Ok(response),
        Exchange::Answered(Err(Problem::Grant)) => Err(VaultError::Forbidden),
        Exchange::Answered(Err(_)) | Exchange::NotSent | Exchange::Unanswered => {
            Err(VaultError::Unavailable("the issuer did not give tokens"))
        }
    }
}

/// Codes live for ten minutes at most (RFC 6749 §4.1.2).
const CODE_LIFETIME: Duration = Duration::from_mins(15);
/// Beyond the longest session of a proxy, which ends before.
const LONGEST_LOGIN: Duration = Duration::from_hours(31 * 24);
const GLOBUS_GROUPS: &str = "groups.api.globus.org";

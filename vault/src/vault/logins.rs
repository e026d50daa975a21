//! Logins, and what pods may use of them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::oauth::id_token::{self, Login};
use globus_auth_core::random;
use globus_auth_core::vault_api::{LoginRequest, LoginResponse, OtherToken};
use secrecy::{ExposeSecret, SecretString};

use super::{Vault, VaultError};
use crate::answer::{Problem, TokenResponse, TokenSet};
use crate::caller::Caller;
use crate::endpoint::{Exchange, TokenRequest};
use crate::grant::{Grant, Kind, Owner, User, digest};
use crate::issuer::Issuer;
use crate::progress::Moment;
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
            let is_written = match from {
                Some(version) => self.store().replace(&grant, version).await?,
                None => self.store().insert(&grant).await?,
            };
            // Somebody refreshed it meanwhile; what the user has just given is newer.
            if is_written {
                self.ready.clear();
                return Ok(grant);
            }
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

async fn redeemed(issuer: &Issuer, request: &LoginRequest) -> Result<TokenResponse, VaultError> {
    let code = TokenRequest::AuthorizationCode {
        code: &request.code,
        code_verifier: &request.code_verifier,
        redirect_uri: &request.redirect_uri,
        resource: None,
    };
    match issuer.endpoint.ask(code).await {
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

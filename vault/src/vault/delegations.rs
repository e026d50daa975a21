//! Jobs that act for users who are away (RFC 8693 §1.1): a user who is logged in at a workload lets a
//! ServiceAccount of its namespace use a service until a certain day.

use std::time::Duration;

use globus_auth_core::vault_api::{
    DelegateRequest, DelegatedTokenRequest, Delegation as Shown, EndDelegationRequest, TokenAnswer,
};

use super::tokens::{obstacle, result};
use super::{BATCH, Vault, VaultError};
use crate::caller::Caller;
use crate::grant::{Grant, User};
use crate::store::delegations::Delegation;

impl Vault {
    /// Lets the pods of a ServiceAccount act for the user of a session, at a service that the user has
    /// connected, for as many days as they wish and the configuration allows.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn delegate(
        &self,
        caller: &Caller,
        request: &DelegateRequest,
    ) -> Result<Shown, VaultError> {
        let session = self.session(caller, &request.handle, "delegate").await?;
        let (namespace, account) = (&caller.namespace, &request.service_account);
        let resource = &request.resource_server;
        let (tenant, user) = (&session.tenant, &session.user);
        let longest = self.config.delegation_days(namespace, account, resource);
        let Some(longest) = longest else {
            self.refuse(caller, "delegate", Some(user)).await;
            return Err(VaultError::Forbidden);
        };
        let grant = self.find(tenant, user, resource).await?;
        let grant = grant.filter(Grant::is_consented);
        let grant = grant.ok_or(VaultError::Invalid("nothing is connected there"))?;
        let now = self.refresher.now();
        let days = request.days.clamp(1, longest);
        let delegation = Delegation {
            delegate: format!("{namespace}/{account}"),
            tenant: tenant.clone(),
            user: user.clone(),
            resource: resource.clone(),
            scopes: grant.scopes,
            ends_at: now.saturating_add(DAY.saturating_mul(days)),
            used_at: Duration::ZERO,
        };
        // What is noted is done, and not the other way round.
        let noted = format!("to {} for {days} days", delegation.delegate);
        self.note(caller, "delegate", Some(user), Some(resource), &noted)
            .await?;
        self.store().put_delegation(&delegation).await?;
        Ok(shown(&delegation))
    }

    /// Takes back that a ServiceAccount may act for the user of a session.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn end_delegation(
        &self,
        caller: &Caller,
        request: &EndDelegationRequest,
    ) -> Result<(), VaultError> {
        let session = self
            .session(caller, &request.handle, "end delegation")
            .await?;
        let (tenant, user) = (&session.tenant, &session.user);
        let delegate = format!("{}/{}", caller.namespace, request.service_account);
        let delegations = self
            .store()
            .delegations_of(tenant, user, self.refresher.now());
        for delegation in delegations.await? {
            if delegation.delegate == delegate && delegation.resource == request.resource_server {
                self.store().remove_delegation(&delegation).await?;
            }
        }
        let resource = Some(request.resource_server.as_str());
        self.note(
            caller,
            "end delegation",
            Some(user),
            resource,
            &format!("to {delegate}"),
        )
        .await
    }

    /// An access token for a user who is away, and who let the caller's ServiceAccount act for them.
    ///
    /// # Errors
    /// [`VaultError`]: [`VaultError::Forbidden`] whether there is no such user, or they did not.
    pub async fn delegated_token(
        &self,
        caller: &Caller,
        wanted: &DelegatedTokenRequest,
    ) -> Result<TokenAnswer, VaultError> {
        let answer = self.find_delegated_token(caller, wanted).await;
        self.metrics.asked(result(&answer));
        answer
    }

    async fn find_delegated_token(
        &self,
        caller: &Caller,
        wanted: &DelegatedTokenRequest,
    ) -> Result<TokenAnswer, VaultError> {
        let (namespace, account) = (&caller.namespace, &caller.service_account);
        let resource = &wanted.resource_server;
        let now = self.refresher.now();
        let user = User {
            issuer: wanted.issuer.clone(),
            subject: wanted.subject.clone(),
        };
        if self
            .config
            .delegation_days(namespace, account, resource)
            .is_none()
        {
            self.refuse(caller, "delegated token", None).await;
            return Err(VaultError::Forbidden);
        }
        let delegate = caller.tenant();
        let delegations = self.store().delegations_to(&delegate, &user, resource, now);
        for delegation in delegations.await? {
            let Some(grant) = self.find(&delegation.tenant, &user, resource).await? else {
                continue;
            };
            // The user has agreed to more since, but not for this.
            if !grant
                .scopes
                .iter()
                .all(|scope| delegation.scopes.contains(scope))
            {
                return Ok(TokenAnswer::ConsentRequired {
                    scopes: grant.scopes,
                });
            }
            if let Some(obstacle) = obstacle(&grant, &wanted.scopes) {
                return Ok(obstacle);
            }
            let answer = self.fresh(grant, &wanted.scopes, None).await?;
            let before = now.saturating_sub(NOTED_EVERY);
            if self
                .store()
                .use_delegation(&delegation, now, before)
                .await?
            {
                self.note(caller, "delegated token", Some(&user), Some(resource), "ok")
                    .await?;
            }
            return Ok(answer);
        }
        // A job that waits for its user asks again and again: nothing for the audit log.
        Err(VaultError::Forbidden)
    }

    /// Ends what `user` delegated of what they consented to at `tenant`.
    pub(super) async fn end_delegations(
        &self,
        tenant: &str,
        user: &User,
        resource: &str,
    ) -> Result<(), VaultError> {
        let delegations = self
            .store()
            .delegations_of(tenant, user, self.refresher.now());
        for delegation in delegations.await? {
            if delegation.resource == resource {
                self.store().remove_delegation(&delegation).await?;
            }
        }
        Ok(())
    }

    /// Removes delegations that have ended. What only they kept alive is taken back at the issuer.
    ///
    /// # Errors
    /// [`VaultError`]; the rest is tried next time.
    pub async fn end_expired_delegations(&self) -> Result<(), VaultError> {
        let now = self.refresher.now();
        loop {
            let ended = self.store().ended_delegations(now, BATCH).await?;
            if ended.is_empty() {
                return Ok(());
            }
            for delegation in ended {
                let Delegation {
                    tenant,
                    user,
                    resource,
                    ..
                } = &delegation;
                let left = self.store().delegations_of(tenant, user, now).await?;
                let is_last = !left.iter().any(|one| one.resource == *resource);
                if is_last
                    && !self.store().has_session(tenant, user, now).await?
                    && let Some(grant) = self.find(tenant, user, resource).await?
                {
                    self.take_back(("vault".to_owned(), None), grant).await?;
                }
                self.store()
                    .remove_ended_delegation(&delegation, now)
                    .await?;
            }
        }
    }
}

/// What its user sees of a delegation.
pub(super) fn shown(delegation: &Delegation) -> Shown {
    let delegate = &delegation.delegate;
    let account = delegate
        .split_once('/')
        .map_or(delegate.as_str(), |(_, account)| account);
    Shown {
        service_account: account.to_owned(),
        expires_at: delegation.ends_at.as_secs(),
    }
}

const DAY: Duration = Duration::from_hours(24);
/// The use of a delegation is noted in the audit log once in so long.
const NOTED_EVERY: Duration = Duration::from_hours(1);

//! What administrators may do: see which grants there are, take them back, and bring tokens. No token comes out.

use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::claims::Claims;
use secrecy::{ExposeSecret, SecretString};

use super::{Vault, VaultError};
use crate::answer::TokenSet;
use crate::grant::{Grant, Kind, Owner, State, User};
use crate::store::audit::Entry;
use crate::store::{Filter, StoreError};

/// A token that an administrator brings.
#[derive(Debug)]
pub struct Upload {
    /// The workload that may use it: `namespace/serviceaccount`.
    pub workload: String,
    /// For whom.
    pub user: User,
    /// Where it is good.
    pub resource_server: String,
    /// A JWT (RFC 9068) that says when it ends.
    pub token: SecretString,
}

/// Why an administrator does not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is a grant that is worth more.
    #[error("there is a grant that is refreshed; take it back first")]
    Conflict,
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(&'static str),
    /// No such grant.
    #[error("there is no such grant")]
    NotFound,
    /// As for everybody.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Vault(error.into())
    }
}

impl Vault {
    /// Up to `limit` grants after the id `after`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list(
        &self,
        admin: &str,
        filter: &Filter,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Grant>, AdminError> {
        let grants = self.store().list(filter, after, limit).await?;
        self.note_admin(admin, "list", None, "ok").await?;
        Ok(grants)
    }

    /// Takes a grant back, with what was delegated of it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn revoke_grant(&self, admin: &str, id: &str) -> Result<(), AdminError> {
        let grant = self.store().grant(id).await?;
        let grant = grant.filter(|grant| grant.state != State::Revoked);
        let grant = grant.ok_or(AdminError::NotFound)?;
        let Owner {
            tenant,
            user,
            resource,
            ..
        } = &grant.owner;
        self.end_delegations(tenant, user, resource).await?;
        Ok(self.take_back((admin.to_owned(), None), grant).await?)
    }

    /// Keeps a token that cannot be refreshed, for a workload that the configuration lets have it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn upload(&self, admin: &str, upload: Upload) -> Result<String, AdminError> {
        let (namespace, account) = upload.workload.split_once('/').ok_or(AdminError::Invalid(
            "workload must be NAMESPACE/SERVICEACCOUNT",
        ))?;
        if !self
            .config
            .allows(namespace, account, &upload.resource_server)
        {
            return Err(AdminError::Invalid(
                "spec.consumers does not let the workload have tokens of this resource server",
            ));
        }
        let now = self.refresher.now();
        let set = set_of(upload.token, UnixSeconds(now.as_secs())).ok_or(AdminError::Invalid(
            "token must be a JWT whose exp is in the future; opaque tokens do not say when they end",
        ))?;
        let issuer = self.config.issuers.first();
        let issuer = issuer.ok_or(AdminError::Invalid("the vault has no issuer"))?;
        let owner = Owner {
            tenant: upload.workload,
            user: upload.user,
            issuer: issuer.issuer.as_str().to_owned(),
            client_id: issuer.client_id.clone(),
            resource: upload.resource_server,
        };
        let present = self.store().find(&owner).await?;
        let is_refreshed = |grant: &Grant| {
            grant.tokens.refresh.is_some() && matches!(grant.state, State::Active | State::Degraded)
        };
        if present.as_ref().is_some_and(is_refreshed) {
            return Err(AdminError::Conflict);
        }
        let grant = self.uploaded(owner, present.as_ref(), &set)?;
        let is_written = match present {
            Some(present) => {
                self.store()
                    .replace(&grant, present.progress.version)
                    .await?
            }
            None => self.store().insert(&grant).await?,
        };
        if !is_written {
            return Err(AdminError::Conflict);
        }
        self.ready.clear();
        self.note_admin(admin, "upload", Some(&grant), "ok").await?;
        Ok(grant.id)
    }

    fn uploaded(
        &self,
        owner: Owner,
        present: Option<&Grant>,
        set: &TokenSet,
    ) -> Result<Grant, AdminError> {
        let now = self.refresher.now();
        let mut grant = Grant::given(owner, Kind::Manual, set, present, now)
            .map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
        // Whoever brings it says for which workload.
        grant.consented.clone_from(&grant.scopes);
        grant.tokens = self
            .refresher
            .secrets()
            .seal(&grant, None, Some(&set.access_token))
            .map_err(|_seal| VaultError::Unavailable("a token could not be encrypted"))?;
        Ok(grant)
    }

    /// Up to `limit` entries of the audit log after the number `after`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn audit(&self, after: i64, limit: u32) -> Result<Vec<(i64, Entry)>, AdminError> {
        Ok(self.store().entries(after, limit).await?)
    }

    /// Follows the audit log from its beginning. The number of entries, or that of the first that does not follow.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn verify_audit(&self) -> Result<Result<i64, i64>, AdminError> {
        Ok(self.store().verify_audit().await?)
    }

    /// Notes what an administrator did, or tried.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn note_admin(
        &self,
        admin: &str,
        action: &str,
        grant: Option<&Grant>,
        result: &str,
    ) -> Result<(), AdminError> {
        let entry = Entry {
            at: self.milliseconds(),
            action: action.to_owned(),
            actor: admin.to_owned(),
            pod: None,
            user: grant.map(|grant| grant.owner.user.subject.clone()),
            resource: grant.map(|grant| grant.owner.resource.clone()),
            result: result.to_owned(),
        };
        Ok(self.store().append(&entry).await?)
    }
}

/// What a JWT says of itself. It is not verified: that is the resource server's business.
fn set_of(token: SecretString, now: UnixSeconds) -> Option<TokenSet> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut parts = token.expose_secret().split('.');
    let (Some(_header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let left = claims.time("exp")?.since(now);
    if left.is_zero() {
        return None;
    }
    let scopes = claims.text("scope").unwrap_or_default();
    let scopes = scopes.split_whitespace().map(str::to_owned).collect();
    Some(TokenSet {
        access_token: token,
        lifetime: left.min(LONGEST),
        is_bearer: true,
        ..TokenSet::none(scopes)
    })
}

/// A token that says that it is good for longer is forgotten after this.
const LONGEST: Duration = Duration::from_hours(24 * 366);

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn jwt(claims: &serde_json::Value) -> SecretString {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("e30.{payload}.c2ln").into()
    }

    #[test]
    fn a_jwt_says_when_it_ends_and_what_it_allows() {
        let token = jwt(&json!({"exp": 1600, "scope": "storage.read:/ storage.modify:/x"}));
        let set = set_of(token, UnixSeconds(1000)).unwrap();
        assert_eq!(set.lifetime, Duration::from_mins(10));
        assert_eq!(set.scopes.unwrap(), ["storage.read:/", "storage.modify:/x"]);
        assert!(set.refresh_token.is_none());
    }

    #[rstest]
    #[case::over(jwt(&json!({"exp": 1000})))]
    #[case::endless(jwt(&json!({"scope": "x"})))]
    #[case::an_end_before_time(jwt(&json!({"exp": -5})))]
    #[case::opaque("Agx38jbmp3".into())]
    #[case::two_parts("e30.e30".into())]
    #[case::four_parts("e30.e30.e30.e30".into())]
    #[case::no_json("e30.AAAA.e30".into())]
    fn another_token_is_not_taken(#[case] token: SecretString) {
        assert!(set_of(token, UnixSeconds(1000)).is_none());
    }

    #[test]
    fn no_token_is_good_for_ever() {
        let set = set_of(jwt(&json!({"exp": u64::MAX})), UnixSeconds(1000)).unwrap();
        assert_eq!(set.lifetime, LONGEST);
    }
}

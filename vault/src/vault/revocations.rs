//! Taking grants back: here at once, and at the issuer as soon as it answers.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::{Vault, VaultError};
use crate::answer::TokenResponse;
use crate::bulkhead::Permit;
use crate::caller::Caller;
use crate::endpoint::Revoked;
use crate::envelope::{Field, OpenError};
use crate::grant::{Digest, Grant, SealedTokens, State};
use crate::issuer::Issuer;
use crate::progress::{Moment, Progress};
use crate::secrets::SecretsError;
use crate::store::audit::Entry;
use crate::store::revocations::Revocation;

impl Vault {
    /// Takes back a grant for a pod's user.
    pub(super) async fn revoke(&self, caller: &Caller, grant: Grant) -> Result<(), VaultError> {
        let actor = (caller.tenant(), Some(caller.pod.clone()));
        self.take_back(actor, grant).await
    }

    /// Forgets the tokens of a grant, and takes them back at the issuer: the refresh token, and the access token with
    /// it (RFC 7009 §2.1). While the issuer does not answer, that is tried again.
    pub(super) async fn take_back(
        &self,
        (actor, pod): (String, Option<String>),
        grant: Grant,
    ) -> Result<(), VaultError> {
        let now = self.refresher.now();
        let mut present = grant;
        let revocation = loop {
            let version = present.progress.version;
            let (revoked, revocation) = (revoked(present.clone()), revocation(&present, now));
            let store = self.store();
            if store
                .take_back(&revoked, version, revocation.as_ref())
                .await?
            {
                self.ready.clear();
                break revocation;
            }
            match store.grant(&present.id).await? {
                Some(newer) => present = newer,
                None => return Ok(()),
            }
        };
        let result = match &revocation {
            // Somebody waits for this; the rest can be done later.
            Some(revocation) => {
                let asked = self.ask_to_revoke(revocation);
                let asked = tokio::time::timeout(PROMPT, asked).await;
                let answer = asked.unwrap_or(Revoked::NotNow);
                self.revoked_at_issuer(revocation, answer, now).await?
            }
            None => "ok",
        };
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

    /// Writes down what the issuer said. What is said of it in the audit log.
    async fn revoked_at_issuer(
        &self,
        revocation: &Revocation,
        answer: Revoked,
        now: Moment,
    ) -> Result<&'static str, VaultError> {
        let result = match answer {
            Revoked::Yes => "ok",
            Revoked::Never => "the issuer takes no such tokens back",
            Revoked::NotNow if now >= revocation.ends_at => "given up at the issuer",
            Revoked::NotNow => {
                let attempts = revocation.attempts.saturating_add(1);
                let due_at = now.saturating_add(pause(attempts));
                self.store().put_off(revocation, due_at, attempts).await?;
                return Ok(NOT_YET);
            }
        };
        self.store().end_revocation(&revocation.id).await?;
        Ok(result)
    }

    async fn ask_to_revoke(&self, revocation: &Revocation) -> Revoked {
        let Revocation {
            grant,
            owner,
            tokens,
            ..
        } = revocation;
        let Some(issuer) = self.refresher.issuer(&owner.issuer, &owner.client_id) else {
            // It was taken out of the configuration; it may come back.
            return Revoked::NotNow;
        };
        let mut outcome = Revoked::Never;
        for field in [Field::RefreshToken, Field::AccessToken] {
            let secrets = self.refresher.secrets();
            let token: SecretString = match secrets.open_tokens((grant, owner), tokens, field) {
                Ok(Some(token)) => token,
                Ok(None) => continue,
                Err(SecretsError::Open(OpenError::UnknownKey { .. })) => return Revoked::NotNow,
                Err(error) => {
                    tracing::error!(grant, %error, "a token that is to be taken back does not open");
                    continue;
                }
            };
            let answer = issuer.endpoint.revoke(&token).await;
            issuer.note_revocation(answer, self.refresher.now());
            outcome = match (answer, outcome) {
                (Revoked::NotNow, _) => return Revoked::NotNow,
                (Revoked::Yes, _) | (_, Revoked::Yes) => Revoked::Yes,
                (Revoked::Never, _) => outcome,
            };
        }
        outcome
    }

    /// Asks issuers again that did not answer.
    pub async fn revoke_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.revoke_due().await {
                tracing::warn!(%error, "failed to look for tokens that are to be taken back");
            }
        }
    }

    /// Asks once about each token that is due to be taken back.
    ///
    /// # Errors
    /// [`VaultError`]; the rest is tried next time.
    pub async fn revoke_due(&self) -> Result<(), VaultError> {
        let now = self.refresher.now();
        for revocation in self.store().due_revocations(now, AT_ONCE).await? {
            let owner = &revocation.owner;
            let issuer = self.refresher.issuer(&owner.issuer, &owner.client_id);
            let permit = issuer.map(|issuer| issuer.permit(now));
            if let Some(Permit::NotBefore(not_before)) = permit
                && now < revocation.ends_at
            {
                // Those of another issuer are not kept waiting.
                let attempts = revocation.attempts;
                self.store()
                    .put_off(&revocation, not_before, attempts)
                    .await?;
                continue;
            }
            // The replica that writes this asks.
            let leased = now.saturating_add(LEASE);
            let attempts = revocation.attempts;
            if !self.store().put_off(&revocation, leased, attempts).await? {
                continue;
            }
            let mine = Revocation {
                due_at: leased,
                ..revocation
            };
            let answer = self.ask_to_revoke(&mine).await;
            let result = self.revoked_at_issuer(&mine, answer, now).await?;
            if result != NOT_YET {
                let whose = (
                    Some(mine.owner.user.subject.clone()),
                    Some(mine.owner.resource.clone()),
                );
                let entry = Entry::of_vault(now, "revoke at issuer", whose, result);
                self.store().append(&entry).await?;
            }
        }
        Ok(())
    }
}

/// What is to be taken back at the issuer; nothing, if there is no token.
fn revocation(grant: &Grant, now: Moment) -> Option<Revocation> {
    let SealedTokens {
        refresh, access, ..
    } = &grant.tokens;
    (refresh.is_some() || access.is_some()).then(|| Revocation {
        // A grant is taken back once in a version.
        id: format!("{}.{}", grant.id, grant.progress.version),
        grant: grant.id.clone(),
        owner: grant.owner.clone(),
        tokens: grant.tokens.clone(),
        due_at: now.saturating_add(LEASE),
        attempts: 0,
        ends_at: now.saturating_add(PATIENCE),
    })
}

/// The refresh token of a grant whose place another one takes. The access token is left to end: it may be in use, as that
/// of a login is by the login itself.
pub(super) fn superseded(grant: &Grant, now: Moment) -> Option<Revocation> {
    let mut left = grant.clone();
    left.tokens.access = None;
    let revocation = revocation(&left, now)?;
    Some(Revocation {
        due_at: now.saturating_add(IN_USE),
        ..revocation
    })
}

/// Takes back at once what nobody wants; once, as it is stored nowhere.
pub(super) async fn forget(issuer: &Issuer, response: &TokenResponse) {
    for set in &response.sets {
        for token in set.refresh_token.iter().chain([&set.access_token]) {
            issuer.endpoint.revoke(token).await;
        }
    }
}

/// How long to wait after so many tries that failed.
fn pause(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
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

/// In the audit log.
const NOT_YET: &str = "not revoked at the issuer yet";
/// Longer than two requests to an issuer take.
const LEASE: Duration = Duration::from_mins(1);
/// Longer than a login takes, and than sidecars remember a token.
const IN_USE: Duration = Duration::from_mins(5);
/// So long a user waits for an issuer at each service that they disconnect.
const PROMPT: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// An issuer that was away for so long has other worries; most tokens have ended.
const PATIENCE: Duration = Duration::from_hours(7 * 24);
const LOOK: Duration = Duration::from_secs(5);
const AT_ONCE: u32 = 32;

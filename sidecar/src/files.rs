//! Access tokens in files on tmpfs, for jobs that serve nobody (WLCG Bearer Token Discovery): of the user whom the
//! pod names and who let its ServiceAccount act for them, or of the vault's client.
//!
//! A file is there only while its token is good as far as anybody knows. A new one takes its place in one step, so a
//! reader sees one token or the other.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::sidecar_config::DeliveredToken;
use globus_auth_core::vault_api::{Token, fingerprint};
use http::StatusCode;
use secrecy::ExposeSecret;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::app::App;
use crate::live::Live;
use crate::status::Status;
use crate::vault::VaultError;

/// The folder that the workload reads, and for whom its tokens act.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    /// The subject of the user whom the pod names.
    user: Option<String>,
}

/// What lies in a file.
struct Written {
    fingerprint: String,
    good_until: Instant,
}

impl Files {
    pub(crate) fn new(folder: PathBuf, user: Option<String>) -> Self {
        let user = user.filter(|user| !user.is_empty());
        Self { folder, user }
    }

    /// Keeps the files fresh; never returns.
    pub(crate) async fn keep(self, app: Arc<App>, status: Arc<Status>) {
        let mut written = BTreeMap::new();
        loop {
            let live = app.live();
            let (wait, missing) = self.renew(&live, &mut written).await;
            drop(live);
            let lines: Vec<_> = missing
                .iter()
                .map(|(name, reason)| format!("no file with the token {name:?}: {reason}"))
                .collect();
            status.saw_tokens((!lines.is_empty()).then(|| lines.join("; ")));
            tokio::time::sleep(wait).await;
        }
    }

    /// One round over all files. How long to wait until the next, and which tokens have no file, with the reason.
    async fn renew(
        &self,
        live: &Live,
        written: &mut BTreeMap<String, Written>,
    ) -> (Duration, BTreeMap<String, &'static str>) {
        let tokens = live.vault.iter().flat_map(|vault| &vault.deliveries);
        let tokens: Vec<_> = tokens
            .filter_map(|delivery| Some((delivery.token.file.as_ref()?, &delivery.token)))
            .collect();
        let gone: Vec<_> = written
            .keys()
            .filter(|name| !tokens.iter().any(|(file, _)| file == name))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name).await;
            written.remove(&name);
        }
        let mut missing = BTreeMap::new();
        let mut wait = LONGEST_WAIT;
        for (file, token) in tokens {
            let (next, reason) = self.renew_one(live, file, token, written).await;
            wait = wait.min(next);
            if let Some(reason) = reason {
                missing.insert(token.name.clone(), reason);
            }
        }
        (wait, missing)
    }

    /// When to ask again, and why the file is not there.
    async fn renew_one(
        &self,
        live: &Live,
        file: &str,
        wanted: &DeliveredToken,
        written: &mut BTreeMap<String, Written>,
    ) -> (Duration, Option<&'static str>) {
        let Some(vault) = &live.vault else {
            return (LONGEST_WAIT, None);
        };
        let issuer = live.provider.config().issuer.as_str();
        let user = self.user.as_deref().map(|user| (issuer, user));
        let error = match vault.token_for_file(wanted, user).await {
            Ok(token) => match self.put(file, &token, written).await {
                Ok(()) => {
                    return (
                        LONGEST_WAIT.min(token.lifetime() / 4).max(SHORTEST_WAIT),
                        None,
                    );
                }
                Err(error) => {
                    tracing::error!(%error, token = wanted.name, "failed to write the file of a token");
                    return (RETRY, Some("it cannot be written"));
                }
            },
            Err(error) => error,
        };
        let is_refused = is_final(&error);
        tracing::debug!(error = %Chain(&error), token = wanted.name, "no token for a file");
        let is_good = written
            .get(file)
            .is_some_and(|written| Instant::now() < written.good_until);
        if is_good && !is_refused {
            return (RETRY, None);
        }
        // Also one of a container before this one: nobody knows whether it is good.
        self.remove(file).await;
        written.remove(file);
        (RETRY, Some(reason(&error)))
    }

    /// Writes what is new: readable by the owner only, and in one step.
    async fn put(
        &self,
        file: &str,
        token: &Token,
        written: &mut BTreeMap<String, Written>,
    ) -> std::io::Result<()> {
        let fingerprint = fingerprint(&token.access_token);
        let is_new = written
            .get(file)
            .is_none_or(|present| present.fingerprint != fingerprint);
        if is_new {
            let begun = self.folder.join(format!(".{file}.new"));
            ignore_missing(fs::remove_file(&begun).await)?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(OWNER_READS);
            let mut target = options.open(&begun).await?;
            target
                .write_all(token.access_token.expose_secret().as_bytes())
                .await?;
            target.flush().await?;
            fs::rename(&begun, self.folder.join(file)).await?;
        }
        let good_until = Instant::now() + token.lifetime();
        let written_now = Written {
            fingerprint,
            good_until,
        };
        written.insert(file.to_owned(), written_now);
        Ok(())
    }

    async fn remove(&self, file: &str) {
        let removed = fs::remove_file(self.folder.join(file)).await;
        if let Err(error) = ignore_missing(removed) {
            tracing::error!(%error, file, "failed to remove the file of a token");
        }
    }
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether the vault has decided, so that what was given before is not good any more.
const fn is_final(error: &VaultError) -> bool {
    matches!(
        error,
        VaultError::Consent
            | VaultError::NoUser
            | VaultError::Reauthenticate(_)
            | VaultError::Refused(StatusCode::FORBIDDEN)
    )
}

/// For whoever looks at a pod that does not start.
const fn reason(error: &VaultError) -> &'static str {
    match error {
        VaultError::Consent => {
            "the user has consented to less than the token would allow; they must allow it again"
        }
        VaultError::NoUser => "the pod has no annotation globus-auth.dev/on-behalf-of",
        VaultError::Reauthenticate(_) => "the user must sign in again, and consent",
        VaultError::Refused(StatusCode::FORBIDDEN) => {
            "the user whom the pod names has not let its ServiceAccount act for them, or not any more, or the \
             vault does not allow it"
        }
        VaultError::Answer
        | VaultError::Encode(_)
        | VaultError::IdentityToken(_)
        | VaultError::Refused(_)
        | VaultError::Request(_)
        | VaultError::Send(_) => "the vault does not answer",
    }
}

/// A consent that was taken back takes the file away within this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Who waits for a file, waits for a person or for the vault.
const RETRY: Duration = Duration::from_secs(5);
const OWNER_READS: u32 = 0o400;

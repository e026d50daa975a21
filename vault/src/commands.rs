//! What the program does instead of serving.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use globus_auth_core::clock::{Clock, SystemClock};
use globus_auth_core::vault_config::VaultConfig;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::args::{Args, ImportArgs};
use crate::import::{self, Outcome, Target, file};
use crate::run;
use crate::secrets::Secrets;
use crate::store::Store;

/// Imports a file, and prints what became of each row.
///
/// # Errors
/// What kept it from being imported, in words for whoever runs it. Nothing was written then, unless rows were
/// reported.
pub(crate) async fn import(args: &Args, wanted: &ImportArgs) -> anyhow::Result<()> {
    let target = target(wanted).await?;
    let bytes = content(&wanted.file).await?;
    let key = match &wanted.file_key {
        Some(path) => Some(secret(path).await?),
        None => None,
    };
    let rows = file::read(&bytes, key.as_ref()).await?;
    let (config, store, secrets) = open(args).await?;
    let now = SystemClock.since_epoch();
    let parts = (&store, &secrets);
    let lines = import::import(rows, &target, &config, parts, now, wanted.dry_run).await?;
    let mut out = std::io::stdout().lock();
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    let refused = lines
        .iter()
        .filter(|line| matches!(line.outcome, Outcome::Refused(_)));
    let refused = refused.count();
    let taken = lines.len() - refused;
    let done = if wanted.dry_run {
        "nothing was changed; without --dry-run, these would be taken"
    } else {
        "these were taken"
    };
    writeln!(
        out,
        "{done}: {taken} of {}; refused: {refused}",
        lines.len()
    )?;
    Ok(())
}

/// Follows the audit log, and prints how far it is whole.
///
/// # Errors
/// An entry is not as it was written, or the database cannot be read.
pub(crate) async fn verify(args: &Args) -> anyhow::Result<()> {
    let store = Store::open(&run::database(args).await?)
        .await
        .context("failed to open the database")?;
    match store.verify_audit().await? {
        Ok(entries) => {
            writeln!(
                std::io::stdout(),
                "the audit log is whole: {entries} entries"
            )?;
            Ok(())
        }
        Err(number) => bail!(
            "the audit log is broken at entry {number}: it, or the one before, was changed or removed after it was written"
        ),
    }
}

async fn open(args: &Args) -> anyhow::Result<(VaultConfig, Store, Secrets)> {
    let config = run::config(args).await?;
    let keys = run::keys(args).await?;
    let store = Store::open(&run::database(args).await?)
        .await
        .context("failed to open the database")?;
    let secrets = Secrets::open_store(&store, &keys).await?;
    Ok((config, store, secrets))
}

async fn target(wanted: &ImportArgs) -> anyhow::Result<Target> {
    let (namespace, account) = wanted
        .workload
        .split_once('/')
        .context("--workload is NAMESPACE/SERVICEACCOUNT")?;
    let users: BTreeMap<String, String> = match &wanted.users {
        Some(path) => serde_json::from_slice(&run::read(path).await?).with_context(|| {
            format!(
                "{} is not JSON of the form {{\"address\": \"sub\"}}",
                path.display()
            )
        })?,
        None => BTreeMap::new(),
    };
    let services = wanted.services.iter().map(|pair| {
        let pair = pair
            .split_once('=')
            .context("--service is SERVICE=RESOURCE_SERVER");
        pair.map(|(name, resource)| (name.to_owned(), resource.to_owned()))
    });
    Ok(Target {
        workload: (namespace.to_owned(), account.to_owned()),
        issuer: wanted.issuer.clone(),
        user: wanted.user.clone(),
        users,
        services: services.collect::<anyhow::Result<_>>()?,
    })
}

async fn content(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("failed to read the standard input")?;
    } else {
        *bytes = run::read(path).await?;
    }
    Ok(bytes)
}

async fn secret(path: &Path) -> anyhow::Result<SecretString> {
    let bytes = Zeroizing::new(run::read(path).await?);
    let text =
        std::str::from_utf8(&bytes).with_context(|| format!("{} is not text", path.display()))?;
    Ok(text.trim().into())
}

//! `globus-auth-vault import`: takes over tokens that other programs keep in files.
//!
//! The whole file is read, and every row decided, before anything is written. A row becomes a grant of one
//! workload and one user; of two for the same, the one that is good for longer wins. Nothing is guessed: an
//! e-mail address that is not mapped to a user is refused, and told.

mod fernet;
pub mod file;
mod sqlite;

use std::collections::BTreeMap;

use globus_auth_core::vault_config::VaultConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::answer::TokenSet;
use crate::grant::{Grant, Kind, Owner, State, User};
use crate::progress::Moment;
use crate::secrets::{Secrets, SecretsError};
use crate::store::audit::Entry;
use crate::store::{Store, StoreError};
use file::Row;

/// For whom, and from where, the rows of a file are.
#[derive(Debug)]
pub struct Target {
    /// Whose pods may use them: `namespace/serviceaccount`.
    pub workload: (String, String),
    /// What the issuer and the client that gave them are called in the resource; none, the only one.
    pub issuer: Option<String>,
    /// `sub` of the user, where the file is of one user.
    pub user: Option<String>,
    /// `sub` by e-mail address, where the file names users by that.
    pub users: BTreeMap<String, String>,
    /// The resource server by the name that the file has for a service, where that is another.
    pub services: BTreeMap<String, String>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is a grant now.
    Imported,
    /// It has taken the place of an older one.
    Merged,
    /// It is not taken.
    Refused(Refusal),
}

/// Why a row is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The policy would never give it out.
    #[error("spec.consumers does not let the workload have tokens of this resource server")]
    NotAllowed,
    /// It is not an OAuth access token.
    #[error("not a bearer token, but of another type")]
    NotBearer,
    /// There is a newer one in the vault.
    #[error("the vault has one that is good for longer")]
    Older,
    /// There is a newer one in the file.
    #[error("another row of the file is good for longer")]
    OlderInFile,
    /// Nobody has said who that is.
    #[error(
        "nobody has said which user that is; map the address in the file of --users, or name the subject with --user"
    )]
    UnknownUser,
    /// It can neither be used nor renewed.
    #[error("it has expired, and has no refresh token")]
    Useless,
}

/// What was decided about a row.
#[derive(Debug)]
pub struct Line {
    /// The user: as the file has it, or `sub`.
    pub user: String,
    /// The resource server.
    pub resource: String,
    /// What becomes of it.
    pub outcome: Outcome,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            user,
            resource,
            outcome,
        } = self;
        match outcome {
            Outcome::Imported => write!(f, "imported {user:?} {resource:?}"),
            Outcome::Merged => write!(f, "merged   {user:?} {resource:?}"),
            Outcome::Refused(reason) => write!(f, "refused  {user:?} {resource:?}: {reason}"),
        }
    }
}

/// Takes over `rows`, or, with `dry_run`, only says what would become of them.
///
/// # Errors
/// [`ImportError`].
pub async fn import(
    rows: Vec<Row>,
    target: &Target,
    config: &VaultConfig,
    (store, secrets): (&Store, &Secrets),
    now: Moment,
    dry_run: bool,
) -> Result<Vec<Line>, ImportError> {
    let issuer = issuer(config, target)?;
    let (mut lines, newest) = sift(rows, target, config, now);
    for ((user, resource), (row, number)) in newest {
        let owner = Owner {
            tenant: format!("{}/{}", target.workload.0, target.workload.1),
            user: User {
                issuer: issuer.0.clone(),
                subject: user,
            },
            issuer: issuer.0.clone(),
            client_id: issuer.1.clone(),
            resource,
        };
        let outcome = write(&row, owner, (store, secrets), now, dry_run).await?;
        if let Some(line) = lines.get_mut(number) {
            line.outcome = outcome;
        }
    }
    Ok(lines)
}

/// For each user and resource server the row to take, and its line.
type Newest = BTreeMap<(String, String), (Row, usize)>;

/// Refuses what cannot be taken, and of several rows for the same all but one.
fn sift(rows: Vec<Row>, target: &Target, config: &VaultConfig, now: Moment) -> (Vec<Line>, Newest) {
    let mut lines: Vec<Line> = Vec::new();
    let mut newest = Newest::new();
    for row in rows {
        let resource = target.services.get(&row.service).unwrap_or(&row.service);
        let resource = resource.clone();
        let user = subject(target, &row);
        let mut line = Line {
            user: row
                .email
                .clone()
                .or_else(|| user.clone())
                .unwrap_or_default(),
            outcome: Outcome::Imported,
            resource: resource.clone(),
        };
        let refused = match &user {
            None => Some(Refusal::UnknownUser),
            Some(_) => refusal(config, target, &row, &resource, now),
        };
        let key = (user.unwrap_or_default(), resource);
        let known = newest.get(&key);
        if let Some(refusal) = refused {
            line.outcome = Outcome::Refused(refusal);
        } else if known.is_some_and(|(other, _)| other.expires_at >= row.expires_at) {
            line.outcome = Outcome::Refused(Refusal::OlderInFile);
        } else if let Some((_, older)) = newest.insert(key, (row, lines.len()))
            && let Some(older) = lines.get_mut(older)
        {
            older.outcome = Outcome::Refused(Refusal::OlderInFile);
        }
        lines.push(line);
    }
    (lines, newest)
}

fn issuer(config: &VaultConfig, target: &Target) -> Result<(String, String), ImportError> {
    let mut issuers = config.issuers.iter().filter(|issuer| {
        let name = target.issuer.as_ref();
        name.is_none_or(|name| *name == issuer.name)
    });
    match (issuers.next(), issuers.next()) {
        (Some(issuer), None) => Ok((issuer.issuer.as_str().to_owned(), issuer.client_id.clone())),
        _ => Err(ImportError::Issuer {
            names: config
                .issuers
                .iter()
                .map(|issuer| issuer.name.clone())
                .collect(),
        }),
    }
}

/// Addresses are compared without regard to case, as the stores that have them write them.
fn subject(target: &Target, row: &Row) -> Option<String> {
    match (&row.email, &row.subject, &target.user) {
        (Some(email), _, _) => {
            let mut users = target.users.iter();
            let found = users.find(|(address, _)| address.eq_ignore_ascii_case(email));
            found.map(|(_, subject)| subject.clone())
        }
        (None, Some(told), Some(wanted)) if told != wanted => None,
        (None, told, wanted) => told.clone().or_else(|| wanted.clone()),
    }
}

fn refusal(
    config: &VaultConfig,
    target: &Target,
    row: &Row,
    resource: &str,
    now: Moment,
) -> Option<Refusal> {
    let (namespace, service_account) = &target.workload;
    let is_bearer = ["bearer", "jwt", "oauth_access"]
        .iter()
        .any(|kind| row.token_type.eq_ignore_ascii_case(kind));
    let is_over = row.expires_at.is_some_and(|expires_at| expires_at <= now);
    let is_empty = row.access_token.expose_secret().is_empty();
    if !is_bearer {
        Some(Refusal::NotBearer)
    } else if !config.allows(namespace, service_account, resource) {
        Some(Refusal::NotAllowed)
    } else if row.refresh_token.is_none() && (is_over || is_empty) {
        Some(Refusal::Useless)
    } else {
        None
    }
}

async fn write(
    row: &Row,
    owner: Owner,
    (store, secrets): (&Store, &Secrets),
    now: Moment,
    dry_run: bool,
) -> Result<Outcome, ImportError> {
    let present = store.find(&owner).await?;
    let is_alive = |grant: &&Grant| grant.state != State::Revoked;
    let alive = present.as_ref().filter(is_alive);
    let expires_at = row.expires_at.unwrap_or_default();
    if alive.is_some_and(|grant| grant.access_expires_at >= expires_at) {
        return Ok(Outcome::Refused(Refusal::Older));
    }
    let outcome = match alive {
        Some(_) => Outcome::Merged,
        None => Outcome::Imported,
    };
    if dry_run {
        return Ok(outcome);
    }
    let kind = match row.refresh_token {
        Some(_) => Kind::AuthorizationCode,
        None => Kind::Manual,
    };
    let set = TokenSet {
        resource_server: None,
        access_token: row.access_token.clone(),
        refresh_token: row.refresh_token.clone(),
        // Of one without an end nobody knows it; a day is a guess that asks the user in time.
        lifetime: match row.expires_at {
            Some(expires_at) => expires_at.saturating_sub(now),
            None => UNSAID,
        },
        scopes: Some(row.scopes.clone()),
        is_bearer: true,
    };
    let mut grant = Grant::given(owner, kind, &set, present.as_ref(), now)
        .map_err(|_no_randomness| ImportError::Randomness)?;
    // Whoever brings it says for which workload.
    grant.consented.clone_from(&grant.scopes);
    let access: Option<&SecretString> = Some(&row.access_token);
    grant.tokens = secrets
        .seal(&grant, row.refresh_token.as_ref(), access)
        .map_err(ImportError::Seal)?;
    // Whether a refresh token is good shows at once.
    grant.due_at = row.refresh_token.as_ref().map(|_| now);
    let is_written = match &present {
        Some(present) => store.replace(&grant, present.progress.version).await?,
        None => store.insert(&grant).await?,
    };
    if !is_written {
        return Ok(Outcome::Refused(Refusal::Older));
    }
    let entry = Entry {
        at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        action: "import".to_owned(),
        actor: grant.owner.tenant.clone(),
        pod: None,
        user: Some(grant.owner.user.subject.clone()),
        resource: Some(grant.owner.resource.clone()),
        result: "ok".to_owned(),
    };
    store.append(&entry).await?;
    Ok(outcome)
}

const UNSAID: std::time::Duration = std::time::Duration::from_hours(24);

/// Why nothing, or not everything, was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nobody knows who gave the tokens.
    #[error("say with --issuer which issuer and client gave the tokens: {}", names.join(", "))]
    Issuer {
        /// Those that there are.
        names: Vec<String>,
    },
    /// No randomness.
    #[error("the operating system has no randomness")]
    Randomness,
    /// A token cannot be encrypted.
    #[error("a token could not be encrypted")]
    Seal(#[source] SecretsError),
    /// The store.
    #[error("the database does not work; what was reported before is imported")]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;

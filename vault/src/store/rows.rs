//! Grants as the columns of a row, and back. Pure.

use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row};

use super::{StoreError, integer, milliseconds, moment};
use crate::grant::{Digest, Grant, Kind, Owner, Reason, SealedTokens, State, User};
use crate::progress::{Attempt, Moment, Progress};

/// Binds the columns of [`INSERT`] and [`REPLACE`], in their order.
pub(super) fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    grant: &Grant,
) -> Query<'q, Any, AnyArguments> {
    let Grant {
        id,
        owner,
        kind,
        scopes,
        consented,
        state,
        reason,
        requirements,
        progress,
        tokens,
        authenticated_at,
        issued_at,
        access_expires_at,
        due_at,
        used_at,
        failures,
        failing_since,
        account,
    } = grant.clone();
    let attempt = progress.attempt;
    bind_owner(query.bind(id), owner)
        .bind(kind.as_str().to_owned())
        .bind(scopes.join(" "))
        .bind(state.as_str().to_owned())
        .bind(reason.map(|reason| reason.as_str().to_owned()))
        .bind(integer(progress.version))
        .bind(tokens.key_id)
        .bind(tokens.refresh)
        .bind(tokens.access)
        .bind(progress.token.map(|digest| digest.to_vec()))
        .bind(progress.parent.map(|digest| digest.to_vec()))
        .bind(milliseconds(progress.sent_at))
        .bind(milliseconds(issued_at))
        .bind(milliseconds(access_expires_at))
        .bind(attempt.map(|attempt| attempt.token.to_vec()))
        .bind(attempt.map(|attempt| milliseconds(attempt.started_at)))
        .bind(attempt.map(|attempt| i64::from(attempt.tries)))
        .bind(milliseconds(progress.lease_until))
        .bind(due_at.map(milliseconds))
        .bind(milliseconds(used_at))
        .bind(i64::from(failures))
        .bind(failing_since.map(milliseconds))
        .bind(json(&requirements))
        .bind(consented.join(" "))
        .bind(milliseconds(authenticated_at))
        .bind(account)
}

/// Binds the six columns that say whose and what it is.
pub(super) fn bind_owner(
    query: Query<'_, Any, AnyArguments>,
    owner: Owner,
) -> Query<'_, Any, AnyArguments> {
    let Owner {
        tenant,
        user,
        issuer,
        client_id,
        resource,
    } = owner;
    query
        .bind(tenant)
        .bind(user.issuer)
        .bind(user.subject)
        .bind(issuer)
        .bind(client_id)
        .bind(resource)
}

/// None where nothing is required.
fn json(requirements: &SessionRequirements) -> Option<String> {
    let is_needed = !requirements.is_empty();
    is_needed.then(|| serde_json::to_string(requirements).unwrap_or_default())
}

/// The grant that a row is.
///
/// # Errors
/// [`StoreError::Corrupt`]: the row is not what a vault writes.
pub(super) fn read(row: &AnyRow) -> Result<Grant, StoreError> {
    let row = Columns(row);
    Ok(Grant {
        id: row.text("id")?,
        owner: row.owner()?,
        kind: row.word("kind", Kind::parse)?,
        scopes: words(&row.text("scopes")?),
        consented: words(&row.text("consented")?),
        state: row.word("state", State::parse)?,
        reason: row
            .get::<Option<String>>("reason")?
            .map(|word| Reason::parse(&word).ok_or(StoreError::Corrupt))
            .transpose()?,
        requirements: row
            .get::<Option<String>>("requirements")?
            .map_or(Ok(SessionRequirements::default()), |json| {
                serde_json::from_str(&json).map_err(|_quotes_values| StoreError::Corrupt)
            })?,
        progress: row.progress()?,
        tokens: SealedTokens {
            key_id: row.text("key_id")?,
            refresh: row.get("refresh_token")?,
            access: row.get("access_token")?,
        },
        authenticated_at: row.time("authenticated_at")?,
        issued_at: row.time("issued_at")?,
        access_expires_at: row.time("access_expires_at")?,
        due_at: row.get::<Option<i64>>("due_at")?.map(moment),
        used_at: row.time("used_at")?,
        failures: row.small("failures")?,
        failing_since: row.get::<Option<i64>>("failing_since")?.map(moment),
        account: row.get("account")?,
    })
}

pub(super) fn words(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// The columns of a row, by name.
pub(super) struct Columns<'r>(pub(super) &'r AnyRow);

impl Columns<'_> {
    pub(super) fn get<'c, T>(&'c self, name: &str) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'c, Any> + sqlx::Type<Any>,
    {
        self.0.try_get(name).map_err(StoreError::Query)
    }

    pub(super) fn text(&self, name: &str) -> Result<String, StoreError> {
        self.get(name)
    }

    fn word<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(&self.text(name)?).ok_or(StoreError::Corrupt)
    }

    pub(super) fn time(&self, name: &str) -> Result<Moment, StoreError> {
        self.get(name).map(moment)
    }

    pub(super) fn small(&self, name: &str) -> Result<u32, StoreError> {
        u32::try_from(self.get::<i64>(name)?).map_err(|_range| StoreError::Corrupt)
    }

    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        let digest: Option<Vec<u8>> = self.get(name)?;
        digest
            .map(|digest| Digest::try_from(digest).map_err(|_length| StoreError::Corrupt))
            .transpose()
    }

    /// What [`bind_owner`] wrote.
    pub(super) fn owner(&self) -> Result<Owner, StoreError> {
        Ok(Owner {
            tenant: self.text("tenant")?,
            user: User {
                issuer: self.text("user_issuer")?,
                subject: self.text("user_subject")?,
            },
            issuer: self.text("issuer")?,
            client_id: self.text("client_id")?,
            resource: self.text("resource")?,
        })
    }

    fn progress(&self) -> Result<Progress<Digest>, StoreError> {
        let attempt = match self.digest("attempt_digest")? {
            Some(token) => Some(Attempt {
                token,
                started_at: self.time("attempt_started_at")?,
                tries: self.small("attempt_tries")?,
            }),
            None => None,
        };
        Ok(Progress {
            version: self.get::<i64>("version")?.unsigned_abs(),
            token: self.digest("token_digest")?,
            parent: self.digest("parent_digest")?,
            sent_at: self.time("sent_at")?,
            attempt,
            lease_until: self.time("lease_until")?,
        })
    }
}

/// Adds a grant, unless its owner has one.
pub(super) const INSERT: &str = "INSERT INTO grants (id, tenant, user_issuer, user_subject, issuer, client_id, \
    resource, kind, scopes, state, reason, version, key_id, refresh_token, access_token, token_digest, \
    parent_digest, sent_at, issued_at, access_expires_at, attempt_digest, attempt_started_at, \
    attempt_tries, lease_until, due_at, used_at, failures, failing_since, requirements, consented, authenticated_at, account) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32) ON CONFLICT DO NOTHING";

/// What names a grant never changes: what is sealed is bound to it.
pub(super) const REPLACE: &str = "UPDATE grants SET kind = $8, scopes = $9, state = $10, reason = $11, \
    version = $12, key_id = $13, refresh_token = $14, access_token = $15, token_digest = $16, \
    parent_digest = $17, sent_at = $18, issued_at = $19, access_expires_at = $20, attempt_digest = $21, \
    attempt_started_at = $22, attempt_tries = $23, lease_until = $24, due_at = $25, used_at = $26, \
    failures = $27, failing_since = $28, requirements = $29, consented = $30, authenticated_at = $31, \
    account = $32 WHERE id = $1 AND tenant = $2 AND user_issuer = $3 AND user_subject = $4 AND issuer = $5 \
    AND client_id = $6 AND resource = $7 AND version = $33";

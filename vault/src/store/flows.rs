//! Services of other issuers that users are about to connect: until they come back, or enter a code there.

use std::time::Duration;

use sqlx::any::AnyRow;

use super::rows::{Columns, bind_owner, words};
use super::{Store, StoreError, milliseconds, moment};
use crate::grant::{Digest, Owner};
use crate::progress::Moment;

/// One that a user has begun.
#[derive(Clone, Eq, PartialEq)]
pub struct Flow {
    /// Of the state, or of a name that nobody is told.
    pub digest: Digest,
    /// The login that began it.
    pub login: Digest,
    /// What it is for.
    pub owner: Owner,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// What it takes to end it.
    pub sealed: Vec<u8>,
    /// Until when.
    pub ends_at: Moment,
    /// When the issuer is asked next; none, if the browser comes back.
    pub poll_at: Option<Moment>,
    /// How long to wait between two questions.
    pub poll_interval: Duration,
    /// Whether the issuer, or the user there, said no.
    pub is_refused: bool,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Adds a flow, in place of those of the same login for the same service.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_flow(&self, flow: &Flow) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Query)?;
        sqlx::query("DELETE FROM flows WHERE login = $1 AND resource = $2")
            .bind(flow.login.to_vec())
            .bind(flow.owner.resource.clone())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::Query)?;
        let query = sqlx::query(
            "INSERT INTO flows (digest, login, tenant, user_issuer, user_subject, issuer, client_id, resource, scopes, \
             sealed, ends_at, poll_at, poll_interval, is_refused) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        );
        let query = query.bind(flow.digest.to_vec()).bind(flow.login.to_vec());
        bind_owner(query, flow.owner.clone())
            .bind(flow.scopes.join(" "))
            .bind(flow.sealed.clone())
            .bind(milliseconds(flow.ends_at))
            .bind(flow.poll_at.map(milliseconds))
            .bind(milliseconds(flow.poll_interval))
            .bind(i64::from(flow.is_refused))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::Query)?;
        transaction.commit().await.map_err(StoreError::Query)
    }

    /// Takes a flow away, if it has not ended: nobody else can end it then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_flow(
        &self,
        digest: &Digest,
        now: Moment,
    ) -> Result<Option<Flow>, StoreError> {
        let row = sqlx::query("DELETE FROM flows WHERE digest = $1 AND ends_at > $2 RETURNING *")
            .bind(digest.to_vec())
            .bind(milliseconds(now))
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        row.as_ref().map(read).transpose()
    }

    /// The flows of a login that have not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flows_of(&self, login: &Digest, now: Moment) -> Result<Vec<Flow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM flows WHERE login = $1 AND ends_at > $2 ORDER BY resource")
                .bind(login.to_vec())
                .bind(milliseconds(now))
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// Up to `limit` flows about which an issuer is to be asked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flows_to_poll(&self, now: Moment, limit: u32) -> Result<Vec<Flow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM flows WHERE poll_at <= $1 AND ends_at > $1 ORDER BY poll_at LIMIT $2",
        )
        .bind(milliseconds(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        // One that cannot be read ends by itself soon, and keeps no other from being asked about.
        let readable = rows.iter().filter_map(|row| {
            let told = |error| tracing::error!(%error, "a flow cannot be read");
            read(row).map_err(told).ok()
        });
        Ok(readable.collect())
    }

    /// Writes when the issuer is asked about `flow` again (none, never), how long to wait, and whether it said no.
    /// Whether nobody else had done so since `flow` was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn poll_flow(
        &self,
        flow: &Flow,
        poll_at: Option<Moment>,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "UPDATE flows SET poll_at = $1, poll_interval = $2, is_refused = $3 WHERE digest = $4 AND poll_at = $5",
        )
        .bind(poll_at.map(milliseconds))
        .bind(milliseconds(flow.poll_interval))
        .bind(i64::from(flow.is_refused))
        .bind(flow.digest.to_vec())
        .bind(flow.poll_at.map(milliseconds))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(written.rows_affected() == 1)
    }
}

fn read(row: &AnyRow) -> Result<Flow, StoreError> {
    let row = Columns(row);
    let digest = |name| row.digest(name)?.ok_or(StoreError::Corrupt);
    Ok(Flow {
        digest: digest("digest")?,
        login: digest("login")?,
        owner: row.owner()?,
        scopes: words(&row.text("scopes")?),
        sealed: row.get("sealed")?,
        ends_at: row.time("ends_at")?,
        poll_at: row.get::<Option<i64>>("poll_at")?.map(moment),
        poll_interval: row.time("poll_interval")?,
        is_refused: row.get::<i64>("is_refused")? != 0,
    })
}

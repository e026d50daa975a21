//! Rows that are not what a vault writes: a failing disk, or somebody who writes into the database.

use globus_auth_core::clock::{Clock, SystemClock};
use globus_auth_core::runtime::telemetry::Chain;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::audit::Entry;
use super::{Store, StoreError, milliseconds, rows};
use crate::grant::Grant;

impl Store {
    /// The grants of `rows`. One that cannot be read is set aside, and the rest goes on.
    pub(super) async fn read_all(&self, rows: &[AnyRow]) -> Result<Vec<Grant>, StoreError> {
        let mut grants = Vec::with_capacity(rows.len());
        for row in rows {
            match rows::read(row) {
                Ok(grant) => grants.push(grant),
                Err(error) => grants.extend(self.set_aside(row, &error).await?),
            }
        }
        Ok(grants)
    }

    /// The grant of `row`, if there is one.
    pub(super) async fn read_one(&self, row: Option<AnyRow>) -> Result<Option<Grant>, StoreError> {
        let rows: Vec<AnyRow> = row.into_iter().collect();
        Ok(self.read_all(&rows).await?.pop())
    }

    /// Makes of a row that cannot be read one that waits for its user. Its tokens stay where they are, and are sent
    /// nowhere. What a newer vault wrote into the database is left to it.
    async fn set_aside(
        &self,
        row: &AnyRow,
        error: &StoreError,
    ) -> Result<Option<Grant>, StoreError> {
        if self.is_of_newer_vault().await? {
            return Err(StoreError::Newer);
        }
        let id: String = row.try_get("id").map_err(StoreError::Query)?;
        tracing::error!(grant = id, error = %Chain(error), "a row of the database cannot be read; its user is asked again");
        let now = SystemClock.since_epoch();
        let set_aside = sqlx::query(SET_ASIDE)
            .bind(id.clone())
            .bind(milliseconds(now))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        if set_aside.rows_affected() == 1 {
            let named = |column| row.try_get::<String, _>(column).ok();
            let whose = (named("user_subject"), named("resource"));
            let entry = Entry::of_vault(now, "quarantine", whose, "corrupt");
            self.append(&entry).await?;
        }
        let again = sqlx::query("SELECT * FROM grants WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        again.as_ref().map(rows::read).transpose()
    }

    async fn is_of_newer_vault(&self) -> Result<bool, StoreError> {
        let newest = sqlx::query("SELECT max(version) AS newest FROM _sqlx_migrations")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        let newest: i64 = newest.try_get("newest").map_err(StoreError::Query)?;
        let known = self.migrations().iter().map(|one| one.version).max();
        Ok(Some(newest) > known)
    }
}

/// Everything but names, scopes and tokens, which a row of these tables always has.
const SET_ASIDE: &str = "UPDATE grants SET kind = 'authorization_code', state = 'needs_reauthentication', \
    reason = 'corrupt', version = version + 1, token_digest = NULL, parent_digest = NULL, sent_at = 0, \
    access_expires_at = 0, attempt_digest = NULL, attempt_started_at = NULL, attempt_tries = NULL, lease_until = 0, \
    due_at = NULL, used_at = $2, failures = 0, failing_since = NULL, requirements = NULL \
    WHERE id = $1";

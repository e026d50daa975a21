//! Tokens that were taken back here, and not yet at their issuer (RFC 7009).

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row};

use super::rows::{Columns, REPLACE, bind, bind_owner};
use super::{Store, StoreError, integer, milliseconds};
use crate::grant::{Grant, Owner, SealedTokens};
use crate::keyring::KeyId;
use crate::progress::Moment;

/// The tokens of a grant that was taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// Names the row.
    pub id: String,
    /// The grant whose tokens they were, and for which they are sealed.
    pub grant: String,
    /// Whose.
    pub owner: Owner,
    /// The tokens.
    pub tokens: SealedTokens,
    /// When the issuer is asked next.
    pub due_at: Moment,
    /// How often it was.
    pub attempts: u32,
    /// When nobody tries any more.
    pub ends_at: Moment,
}

impl Store {
    /// Writes `grant` in place of its version `from`, and `revocation` of what it had with it: what is taken back here is
    /// never forgotten at its issuer. Whether that version was still there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back(
        &self,
        grant: &Grant,
        from: u64,
        revocation: Option<&Revocation>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Query)?;
        let changed = bind(sqlx::query(REPLACE), grant)
            .bind(integer(from))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::Query)?;
        if changed.rows_affected() != 1 {
            return Ok(false);
        }
        if let Some(one) = revocation.cloned() {
            insert(one)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::Query)?;
        }
        transaction.commit().await.map_err(StoreError::Query)?;
        Ok(true)
    }

    /// Adds what was never stored otherwise.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let inserted = insert(revocation).execute(&self.pool).await;
        inserted.map(drop).map_err(StoreError::Query)
    }

    /// Up to `limit` revocations that are due, the longest overdue first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_revocations(
        &self,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<Revocation>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM revocations WHERE due_at <= $1 ORDER BY due_at LIMIT $2")
                .bind(milliseconds(now))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// Lets be due what waits for its first try.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hasten_revocations(&self, now: Moment) -> Result<(), StoreError> {
        sqlx::query("UPDATE revocations SET due_at = $1 WHERE attempts = 0 AND due_at > $1")
            .bind(milliseconds(now))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(())
    }

    /// Puts a revocation off. Whether nobody else had done so since it was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_off(
        &self,
        revocation: &Revocation,
        due_at: Moment,
        attempts: u32,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "UPDATE revocations SET due_at = $1, attempts = $2 WHERE id = $3 AND due_at = $4",
        )
        .bind(milliseconds(due_at))
        .bind(i64::from(attempts))
        .bind(revocation.id.clone())
        .bind(milliseconds(revocation.due_at))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(written.rows_affected() == 1)
    }

    /// Up to `limit` revocations whose tokens are sealed under another key than this.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocations_not_under(
        &self,
        key: &KeyId,
        limit: u32,
    ) -> Result<Vec<Revocation>, StoreError> {
        let rows = sqlx::query("SELECT * FROM revocations WHERE key_id <> $1 LIMIT $2")
            .bind(key.as_str().to_owned())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// Writes the same tokens under another key. Whether they were still there as they were read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reseal_revocation(
        &self,
        revocation: &Revocation,
        tokens: SealedTokens,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "UPDATE revocations SET key_id = $1, refresh_token = $2, access_token = $3 \
             WHERE id = $4 AND key_id = $5",
        )
        .bind(tokens.key_id)
        .bind(tokens.refresh)
        .bind(tokens.access)
        .bind(revocation.id.clone())
        .bind(revocation.tokens.key_id.clone())
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(written.rows_affected() == 1)
    }

    /// Forgets a revocation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_revocation(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM revocations WHERE id = $1")
            .bind(id.to_owned())
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(())
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_revocations(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS n FROM revocations")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
        Ok(n.unsigned_abs())
    }
}

fn insert(one: Revocation) -> Query<'static, Any, AnyArguments> {
    let query = sqlx::query(
        "INSERT INTO revocations (id, grant_id, tenant, user_issuer, user_subject, issuer, client_id, resource, \
         key_id, refresh_token, access_token, due_at, attempts, ends_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    );
    bind_owner(query.bind(one.id).bind(one.grant), one.owner)
        .bind(one.tokens.key_id)
        .bind(one.tokens.refresh)
        .bind(one.tokens.access)
        .bind(milliseconds(one.due_at))
        .bind(i64::from(one.attempts))
        .bind(milliseconds(one.ends_at))
}

fn read(row: &AnyRow) -> Result<Revocation, StoreError> {
    let row = Columns(row);
    Ok(Revocation {
        id: row.text("id")?,
        grant: row.text("grant_id")?,
        owner: row.owner()?,
        tokens: SealedTokens {
            key_id: row.text("key_id")?,
            refresh: row.get("refresh_token")?,
            access: row.get("access_token")?,
        },
        due_at: row.time("due_at")?,
        attempts: row.small("attempts")?,
        ends_at: row.time("ends_at")?,
    })
}

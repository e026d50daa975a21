//! Sessions of users, and what was used once. Their secrets are here as digests only.

use sqlx::Row;

use super::{Store, StoreError, milliseconds, moment};
use crate::grant::{Digest, User};
use crate::progress::Moment;

/// A session: of a login, or of one pod that uses it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRow {
    /// Of what its holder shows.
    pub digest: Digest,
    /// Of the login that it belongs to, or of the bearer token.
    pub login: Digest,
    /// The workload.
    pub tenant: String,
    /// Whose it is.
    pub user: User,
    /// The pod that may use it; none for a login itself.
    pub pod: Option<String>,
    /// When it ends.
    pub ends_at: Moment,
}

impl Store {
    /// Adds a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_session(&self, session: &SessionRow) -> Result<(), StoreError> {
        let SessionRow {
            digest,
            login,
            tenant,
            user,
            pod,
            ends_at,
        } = session.clone();
        sqlx::query(
            "INSERT INTO sessions (digest, login, tenant, user_issuer, user_subject, pod, ends_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(digest.to_vec())
        .bind(login.to_vec())
        .bind(tenant)
        .bind(user.issuer)
        .bind(user.subject)
        .bind(pod)
        .bind(milliseconds(ends_at))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(())
    }

    /// The session of which this is the digest, if it has not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(
        &self,
        digest: &Digest,
        now: Moment,
    ) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE digest = $1 AND ends_at > $2")
            .bind(digest.to_vec())
            .bind(milliseconds(now))
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let text = |name| row.try_get::<String, _>(name).map_err(StoreError::Query);
        let login: Vec<u8> = row.try_get("login").map_err(StoreError::Query)?;
        Ok(Some(SessionRow {
            digest: *digest,
            login: login.try_into().map_err(|_length| StoreError::Corrupt)?,
            tenant: text("tenant")?,
            user: User {
                issuer: text("user_issuer")?,
                subject: text("user_subject")?,
            },
            pod: row.try_get("pod").map_err(StoreError::Query)?,
            ends_at: moment(row.try_get("ends_at").map_err(StoreError::Query)?),
        }))
    }

    /// Whether `login` is the only one of its user at its workload.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_only_login(&self, login: &SessionRow, now: Moment) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM sessions WHERE tenant = $1 AND user_issuer = $2 \
             AND user_subject = $3 AND ends_at > $4 AND pod IS NULL AND login <> $5",
        )
        .bind(login.tenant.clone())
        .bind(login.user.issuer.clone())
        .bind(login.user.subject.clone())
        .bind(milliseconds(now))
        .bind(login.login.to_vec())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
        Ok(n == 0)
    }

    /// Ends a login, and what pods use of it. Whether the user has no other login at the workload then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_login(&self, session: &SessionRow, now: Moment) -> Result<bool, StoreError> {
        for statement in [
            "DELETE FROM sessions WHERE login = $1",
            "DELETE FROM flows WHERE login = $1",
        ] {
            sqlx::query(statement)
                .bind(session.login.to_vec())
                .execute(&self.pool)
                .await
                .map_err(StoreError::Query)?;
        }
        let has_other = self
            .has_session(&session.tenant, &session.user, now)
            .await?;
        Ok(!has_other)
    }

    /// Whether `user` is logged in at the workload `tenant`. Whoever came with a bearer token is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_session(
        &self,
        tenant: &str,
        user: &User,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM sessions WHERE tenant = $1 AND user_issuer = $2 \
             AND user_subject = $3 AND ends_at > $4 AND pod IS NULL",
        )
        .bind(tenant.to_owned())
        .bind(user.issuer.clone())
        .bind(user.subject.clone())
        .bind(milliseconds(now))
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
        Ok(n > 0)
    }

    /// Uses something up. Whether it had not been used before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn spend(&self, digest: &Digest, ends_at: Moment) -> Result<bool, StoreError> {
        let added = sqlx::query(
            "INSERT INTO spent (digest, ends_at) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.to_vec())
        .bind(milliseconds(ends_at))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(added.rows_affected() == 1)
    }

    /// Removes what has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tidy(&self, now: Moment) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM sessions WHERE ends_at <= $1",
            "DELETE FROM spent WHERE ends_at <= $1",
            "DELETE FROM flows WHERE ends_at <= $1",
        ] {
            sqlx::query(statement)
                .bind(milliseconds(now))
                .execute(&self.pool)
                .await
                .map_err(StoreError::Query)?;
        }
        Ok(())
    }
}

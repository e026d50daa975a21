//! Where grants lie: SQLite in a file, or PostgreSQL.
//!
//! Every write of a grant says which version it was made from, and fails if that is no longer the one
//! that is there. So no lock is held while anybody waits for an issuer, and what a replica that stood
//! still writes too late is noticed. Both databases run the same statements.

pub mod audit;
pub mod delegations;
pub mod flows;
mod quarantine;
pub mod revocations;
mod rows;
pub mod sessions;

use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{AnyPool, Executor, Row};

use self::rows::{INSERT, REPLACE, bind};
use crate::grant::{Grant, Owner, State, User};
use crate::keyring::KeyId;
use crate::progress::Moment;

/// A database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    /// Whether several replicas may use it at a time.
    is_shared: bool,
}

impl Store {
    /// Opens the database at `url` (`sqlite:<path>`, created if there is none, or `postgres://…`), and
    /// brings its tables to the newest form.
    ///
    /// # Errors
    /// [`StoreError`]. A database that a newer vault wrote is refused.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let url = if is_sqlite && !url.contains('?') {
            format!("{url}?mode=rwc")
        } else {
            url.to_owned()
        };
        let options = AnyConnectOptions::from_str(&url).map_err(StoreError::Url)?;
        let pool = AnyPoolOptions::new()
            .max_connections(if is_sqlite { 4 } else { 16 })
            .acquire_timeout(ACQUIRE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        connection.execute(SQLITE_SETTINGS).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(StoreError::Connect)?;
        let store = Self {
            pool,
            is_shared: !is_sqlite,
        };
        let migrated = store.migrations().run(&store.pool).await;
        migrated.map_err(StoreError::Migrate)?;
        Ok(store)
    }

    const fn migrations(&self) -> &'static Migrator {
        if self.is_shared { &POSTGRESQL } else { &SQLITE }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Ends the leases of a process that is gone, if no other process can have one: a database in a file has
    /// one user at a time, and whoever opens it is the next.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_over(&self) -> Result<(), StoreError> {
        if self.is_shared {
            return Ok(());
        }
        sqlx::query(
            "UPDATE grants SET lease_until = 0, version = version + 1 WHERE lease_until > 0",
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(())
    }

    /// Doubts every refresh token of `issuer` and `client_id` that came before `before`: it may have been redeemed
    /// since. How many grants that concerns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn doubt(
        &self,
        (issuer, client_id): (&str, &str),
        before: Moment,
    ) -> Result<u64, StoreError> {
        let doubted = sqlx::query(
            "UPDATE grants SET attempt_digest = token_digest, attempt_started_at = 0, attempt_tries = 1, \
             lease_until = 0, version = version + 1 WHERE issuer = $1 AND client_id = $2 AND sent_at < $3 \
             AND token_digest IS NOT NULL AND state IN ('active', 'degraded')",
        )
        .bind(issuer.to_owned())
        .bind(client_id.to_owned())
        .bind(milliseconds(before))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(doubted.rows_affected())
    }

    /// Asks for nothing.
    ///
    /// # Errors
    /// [`StoreError`]: the database does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = sqlx::query("SELECT 1").execute(&self.pool).await;
        asked.map(drop).map_err(StoreError::Query)
    }

    /// The seeds, wrapped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seeds(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError> {
        let rows = sqlx::query("SELECT id, wrapped FROM seeds ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get("id").map_err(StoreError::Query)?;
                let id = KeyId::try_from(id).map_err(|_bad| StoreError::Corrupt)?;
                Ok((id, row.try_get("wrapped").map_err(StoreError::Query)?))
            })
            .collect()
    }

    /// Adds a seed, unless there is one of this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_seed(&self, id: &KeyId, wrapped: Vec<u8>) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO seeds (id, wrapped) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
            .bind(id.as_str().to_owned())
            .bind(wrapped)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(())
    }

    /// Removes a seed under which nothing is stored. Whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire_seed(&self, id: &KeyId) -> Result<bool, StoreError> {
        let removed = sqlx::query(
            "DELETE FROM seeds WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM grants WHERE key_id = $1) \
             AND NOT EXISTS (SELECT 1 FROM revocations WHERE key_id = $1)",
        )
        .bind(id.as_str().to_owned())
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(removed.rows_affected() == 1)
    }

    /// The grant of this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grant(&self, id: &str) -> Result<Option<Grant>, StoreError> {
        let row = sqlx::query("SELECT * FROM grants WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        self.read_one(row).await
    }

    /// The grant of this owner.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, owner: &Owner) -> Result<Option<Grant>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM grants WHERE tenant = $1 AND user_issuer = $2 AND user_subject = $3 \
             AND issuer = $4 AND client_id = $5 AND resource = $6",
        )
        .bind(owner.tenant.clone())
        .bind(owner.user.issuer.clone())
        .bind(owner.user.subject.clone())
        .bind(owner.issuer.clone())
        .bind(owner.client_id.clone())
        .bind(owner.resource.clone())
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        self.read_one(row).await
    }

    /// What `user` let the workload `tenant` do.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grants_of(&self, tenant: &str, user: &User) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM grants WHERE tenant = $1 AND user_issuer = $2 AND user_subject = $3 \
             ORDER BY resource",
        )
        .bind(tenant.to_owned())
        .bind(user.issuer.clone())
        .bind(user.subject.clone())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        self.read_all(&rows).await
    }

    /// Adds a grant, unless its owner has one. Whether it was added.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert(&self, grant: &Grant) -> Result<bool, StoreError> {
        let added = bind(sqlx::query(INSERT), grant)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(added.rows_affected() == 1)
    }

    /// Adds grants whose owners have none, all or none of them. How many were added.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_all(&self, grants: &[Grant]) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Query)?;
        let mut added = 0;
        for grant in grants {
            let one = bind(sqlx::query(INSERT), grant).execute(&mut *transaction);
            added += one.await.map_err(StoreError::Query)?.rows_affected();
        }
        transaction.commit().await.map_err(StoreError::Query)?;
        Ok(added)
    }

    /// Writes a grant in place of its version `from`. Whether that version was still there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace(&self, grant: &Grant, from: u64) -> Result<bool, StoreError> {
        let changed = bind(sqlx::query(REPLACE), grant)
            .bind(integer(from))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(changed.rows_affected() == 1)
    }

    /// Up to `limit` grants of `issuer` that are due: the longest overdue of every workload first, then
    /// the second of every workload, so that none waits for the crowd of another. Costs as much as there
    /// is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(
        &self,
        issuer: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM (SELECT id, due_at, row_number() OVER (PARTITION BY tenant ORDER BY due_at) AS turn \
             FROM grants WHERE issuer = $1 AND due_at IS NOT NULL AND due_at <= $2 AND lease_until <= $2) AS due \
             ORDER BY turn, due_at LIMIT $3",
        )
        .bind(issuer.to_owned())
        .bind(milliseconds(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        rows.iter()
            .map(|row| row.try_get("id").map_err(StoreError::Query))
            .collect()
    }

    /// When the next grant of `issuer` is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_due(&self, issuer: &str) -> Result<Option<Moment>, StoreError> {
        let row = sqlx::query(
            "SELECT due_at FROM grants WHERE issuer = $1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
        )
        .bind(issuer.to_owned())
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        row.map(|row| row.try_get("due_at").map(moment).map_err(StoreError::Query))
            .transpose()
    }

    /// Up to `limit` grants that nobody has used since `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unused(&self, before: Moment, limit: u32) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query("SELECT * FROM grants WHERE used_at < $1 LIMIT $2")
            .bind(milliseconds(before))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        self.read_all(&rows).await
    }

    /// Up to `limit` grants after the id `after`, in the order of their ids: those that `filter` names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        filter: &Filter,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM grants WHERE id > $1 AND (tenant = $2 OR $2 = '') AND (user_subject = $3 OR $3 = '') \
             AND (resource = $4 OR $4 = '') ORDER BY id LIMIT $5",
        )
        .bind(after.to_owned())
        .bind(filter.tenant.clone())
        .bind(filter.subject.clone())
        .bind(filter.resource.clone())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        self.read_all(&rows).await
    }

    /// Removes version `version` of a grant. Whether it was still there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove(&self, id: &str, version: u64) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM grants WHERE id = $1 AND version = $2")
            .bind(id.to_owned())
            .bind(integer(version))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(removed.rows_affected() == 1)
    }

    /// Up to `limit` grants whose secrets are not under `key`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn not_under(&self, key: &KeyId, limit: u32) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query("SELECT * FROM grants WHERE key_id <> $1 LIMIT $2")
            .bind(key.as_str().to_owned())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        self.read_all(&rows).await
    }

    /// How many grants are stored under which key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts_by_key(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = sqlx::query("SELECT key_id, count(*) AS n FROM grants GROUP BY key_id")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter()
            .map(|row| {
                let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
                let key = row.try_get("key_id").map_err(StoreError::Query)?;
                Ok((key, n.unsigned_abs()))
            })
            .collect()
    }

    /// How many grants of users at `issuer` work, and came with a login between `from` and `until`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authenticated(
        &self,
        issuer: &str,
        from: Moment,
        until: Moment,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM grants WHERE issuer = $1 AND authenticated_at > $2 AND authenticated_at <= $3 \
             AND kind = 'authorization_code' AND state IN ('active', 'degraded')",
        )
        .bind(issuer.to_owned())
        .bind(milliseconds(from))
        .bind(milliseconds(until))
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
        Ok(n.unsigned_abs())
    }

    /// How many grants are in which state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<Vec<(State, u64)>, StoreError> {
        let rows = sqlx::query("SELECT state, count(*) AS n FROM grants GROUP BY state")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter()
            .map(|row| {
                let word: String = row.try_get("state").map_err(StoreError::Query)?;
                let n: i64 = row.try_get("n").map_err(StoreError::Query)?;
                // What cannot be read waits for its user, as soon as it is looked at.
                let state = State::parse(&word).unwrap_or(State::NeedsReauthentication);
                Ok((state, n.unsigned_abs()))
            })
            .collect()
    }
}

/// Which grants to list. An empty member names all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The workload.
    pub tenant: String,
    /// `sub` of the user.
    pub subject: String,
    /// The resource server.
    pub resource: String,
}

/// Milliseconds since 1970, as the columns have them.
pub(crate) fn milliseconds(moment: Moment) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn moment(milliseconds: i64) -> Moment {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A new word in a column of words needs a new version, too: an older vault that does not know it leaves the rows of a
/// newer one alone.
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRESQL: Migrator = sqlx::migrate!("migrations/postgresql");

/// Every commit is on the disk when it returns, and what is deleted is overwritten.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA secure_delete = ON; PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON;";
/// Whoever waits longer for a connection is told that the store is down.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too many write at the same time.
    #[error("too many write into the database at the same time")]
    Busy,
    /// The database does not answer.
    #[error("failed to connect to the database")]
    Connect(#[source] sqlx::Error),
    /// A row is not what a vault writes.
    #[error("a row of the database is not what was written there")]
    Corrupt,
    /// The tables could not be brought to the newest form.
    #[error("failed to bring the tables of the database to the newest form")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A newer vault has written into the database.
    #[error("a newer vault has written into the database, and this one cannot read it")]
    Newer,
    /// A statement failed.
    #[error("failed to ask the database")]
    Query(#[source] sqlx::Error),
    /// Not an address of a database.
    #[error("the address of the database is not of the form sqlite:<path> or postgres://…")]
    Url(#[source] sqlx::Error),
}

#[cfg(test)]
pub(crate) mod tests;

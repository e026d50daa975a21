//! Who did what: an append-only list, in which each entry has the digest of the one before. Whoever
//! changes, removes or inserts an entry breaks the chain, unless they write all that follows anew.

use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{Store, StoreError, milliseconds};
use crate::grant::{Digest, digest};
use crate::progress::Moment;

/// What is written down. Never a token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What was done: `login`, `revoke`, `refuse`, ….
    pub action: String,
    /// Who did it: a workload, `admin:` and the subject of an administrator, or `vault`.
    pub actor: String,
    /// The pod that it came from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `sub` of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The resource server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// How it ended.
    pub result: String,
}

impl Entry {
    /// What the vault did by itself at `now`, to what a user has at a resource server.
    pub fn of_vault(
        now: Moment,
        action: &str,
        (user, resource): (Option<String>, Option<String>),
        result: &str,
    ) -> Self {
        Self {
            at: milliseconds(now).unsigned_abs(),
            action: action.to_owned(),
            actor: "vault".to_owned(),
            pod: None,
            user,
            resource,
            result: result.to_owned(),
        }
    }
}

impl Store {
    /// Appends `entry`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append(&self, entry: &Entry) -> Result<(), StoreError> {
        let text = serde_json::to_string(entry).map_err(|_encode| StoreError::Corrupt)?;
        // Another replica may take the same number; then the next one is tried.
        for _ in 0..ATTEMPTS {
            let (last, previous) = self.last_entry().await?;
            let seq = last + 1;
            let added = sqlx::query(
                "INSERT INTO audit (seq, digest, entry) VALUES ($1, $2, $3) ON CONFLICT (seq) DO NOTHING",
            )
            .bind(seq)
            .bind(link(&previous, seq, &text).to_vec())
            .bind(text.clone())
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
            if added.rows_affected() == 1 {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    /// Up to `limit` entries after the number `after`, with their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entries(&self, after: i64, limit: u32) -> Result<Vec<(i64, Entry)>, StoreError> {
        let rows = sqlx::query("SELECT seq, entry FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get("entry").map_err(StoreError::Query)?;
                let entry = serde_json::from_str(&text).map_err(|_text| StoreError::Corrupt)?;
                Ok((row.try_get("seq").map_err(StoreError::Query)?, entry))
            })
            .collect()
    }

    /// Follows the chain from its beginning. The number of entries, or that of the first that does not
    /// follow.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify_audit(&self) -> Result<Result<i64, i64>, StoreError> {
        let (mut last, mut previous) = (0_i64, Digest::default());
        loop {
            let rows = sqlx::query(
                "SELECT seq, digest, entry FROM audit WHERE seq > $1 ORDER BY seq LIMIT 1000",
            )
            .bind(last)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
            if rows.is_empty() {
                return Ok(Ok(last));
            }
            for row in rows {
                let seq: i64 = row.try_get("seq").map_err(StoreError::Query)?;
                let found: Vec<u8> = row.try_get("digest").map_err(StoreError::Query)?;
                let entry: String = row.try_get("entry").map_err(StoreError::Query)?;
                let expected = link(&previous, seq, &entry);
                if seq != last + 1 || found != expected {
                    return Ok(Err(seq));
                }
                (last, previous) = (seq, expected);
            }
        }
    }

    async fn last_entry(&self) -> Result<(i64, Digest), StoreError> {
        let row = sqlx::query("SELECT seq, digest FROM audit ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        let Some(row) = row else {
            return Ok((0, Digest::default()));
        };
        let digest: Vec<u8> = row.try_get("digest").map_err(StoreError::Query)?;
        Ok((
            row.try_get("seq").map_err(StoreError::Query)?,
            digest.try_into().map_err(|_length| StoreError::Corrupt)?,
        ))
    }
}

/// The digest of an entry: of the one before, of its number, and of its text.
fn link(previous: &Digest, seq: i64, entry: &str) -> Digest {
    let mut bytes = Vec::with_capacity(40 + entry.len());
    bytes.extend_from_slice(previous);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(entry.as_bytes());
    digest(&bytes)
}

const ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::store::tests::{Database, scratch_in};

    fn entry(action: &str) -> Entry {
        Entry {
            at: 1,
            action: action.to_owned(),
            actor: "ml/app".to_owned(),
            pod: None,
            user: Some("alice".to_owned()),
            resource: None,
            result: "ok".to_owned(),
        }
    }

    #[rstest]
    #[tokio::test]
    async fn a_chain_is_whole_until_somebody_touches_it(
        #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
    ) {
        for (name, tampering) in [
            (
                "change",
                "UPDATE audit SET entry = replace(entry, 'alice', 'bob') WHERE seq = 3",
            ),
            ("remove", "DELETE FROM audit WHERE seq = 3"),
            ("renumber", "UPDATE audit SET seq = 99 WHERE seq = 3"),
        ] {
            let (store, _folder) = scratch_in(database, &format!("audit-{name}")).await;
            for n in 0..5 {
                store.append(&entry(&n.to_string())).await.unwrap();
            }
            assert_eq!(store.verify_audit().await.unwrap(), Ok(5));
            sqlx::query(tampering).execute(&store.pool).await.unwrap();
            assert!(store.verify_audit().await.unwrap().is_err(), "{name}");
        }
    }

    #[rstest]
    #[tokio::test]
    async fn many_writers_make_one_chain(
        #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
    ) {
        let (store, _folder) = scratch_in(database, "audit-many").await;
        let writers = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.append(&entry(&n.to_string())).await.unwrap() })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(store.verify_audit().await.unwrap(), Ok(20));
    }
}

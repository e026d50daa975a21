//! Who may act for users who are away.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row};

use super::rows::words;
use super::{Store, StoreError, milliseconds, moment};
use crate::grant::User;
use crate::progress::Moment;

/// That the pods of a ServiceAccount may use what a user consented to at a workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegation {
    /// The ServiceAccount: `namespace/name`.
    pub delegate: String,
    /// The workload.
    pub tenant: String,
    /// For whom.
    pub user: User,
    /// The resource server.
    pub resource: String,
    /// What the user saw; a token that allows more is not given out.
    pub scopes: Vec<String>,
    /// When it ends.
    pub ends_at: Moment,
    /// When it was last noted that it is used.
    pub used_at: Moment,
}

impl Store {
    /// Adds a delegation, in place of an earlier one of the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_delegation(&self, delegation: &Delegation) -> Result<(), StoreError> {
        let one = delegation.clone();
        sqlx::query(
            "INSERT INTO delegations (delegate, tenant, user_issuer, user_subject, resource, scopes, ends_at, used_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (delegate, user_subject, user_issuer, resource, tenant) \
             DO UPDATE SET scopes = excluded.scopes, ends_at = excluded.ends_at, used_at = excluded.used_at",
        )
        .bind(one.delegate)
        .bind(one.tenant)
        .bind(one.user.issuer)
        .bind(one.user.subject)
        .bind(one.resource)
        .bind(one.scopes.join(" "))
        .bind(milliseconds(one.ends_at))
        .bind(milliseconds(one.used_at))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        Ok(())
    }

    /// What lets `delegate` use `resource` for `user`, as far as it has not ended; what lasts longest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delegations_to(
        &self,
        delegate: &str,
        user: &User,
        resource: &str,
        now: Moment,
    ) -> Result<Vec<Delegation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM delegations WHERE delegate = $1 AND user_subject = $2 AND user_issuer = $3 \
             AND resource = $4 AND ends_at > $5 ORDER BY ends_at DESC",
        )
        .bind(delegate.to_owned())
        .bind(user.subject.clone())
        .bind(user.issuer.clone())
        .bind(resource.to_owned())
        .bind(milliseconds(now))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// To whom `user` has delegated what they consented to at `tenant`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delegations_of(
        &self,
        tenant: &str,
        user: &User,
        now: Moment,
    ) -> Result<Vec<Delegation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM delegations WHERE tenant = $1 AND user_issuer = $2 AND user_subject = $3 AND ends_at > $4 \
             ORDER BY resource, delegate",
        )
        .bind(tenant.to_owned())
        .bind(user.issuer.clone())
        .bind(user.subject.clone())
        .bind(milliseconds(now))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// Up to `limit` delegations that have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended_delegations(
        &self,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<Delegation>, StoreError> {
        let rows = sqlx::query("SELECT * FROM delegations WHERE ends_at <= $1 LIMIT $2")
            .bind(milliseconds(now))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter().map(read).collect()
    }

    /// Notes that a delegation is used, unless that was noted since `before`. Whether it was noted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_delegation(
        &self,
        delegation: &Delegation,
        now: Moment,
        before: Moment,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "UPDATE delegations SET used_at = $6 WHERE delegate = $1 AND user_subject = $2 AND user_issuer = $3 \
             AND resource = $4 AND tenant = $5 AND used_at <= $7",
        );
        let noted = same(query, delegation)
            .bind(milliseconds(now))
            .bind(milliseconds(before))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(noted.rows_affected() == 1)
    }

    /// Removes a delegation that has ended; not one that was prolonged meanwhile. Whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_ended_delegation(
        &self,
        delegation: &Delegation,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "DELETE FROM delegations WHERE delegate = $1 AND user_subject = $2 AND user_issuer = $3 \
             AND resource = $4 AND tenant = $5 AND ends_at <= $6",
        );
        let removed = same(query, delegation)
            .bind(milliseconds(now))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(removed.rows_affected() == 1)
    }

    /// Removes a delegation. Whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_delegation(&self, delegation: &Delegation) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "DELETE FROM delegations WHERE delegate = $1 AND user_subject = $2 AND user_issuer = $3 \
             AND resource = $4 AND tenant = $5",
        );
        let removed = same(query, delegation)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(removed.rows_affected() == 1)
    }
}

/// What names a delegation: parameters 1 to 5.
fn same<'q>(
    query: Query<'q, Any, AnyArguments>,
    delegation: &Delegation,
) -> Query<'q, Any, AnyArguments> {
    query
        .bind(delegation.delegate.clone())
        .bind(delegation.user.subject.clone())
        .bind(delegation.user.issuer.clone())
        .bind(delegation.resource.clone())
        .bind(delegation.tenant.clone())
}

fn read(row: &AnyRow) -> Result<Delegation, StoreError> {
    let text = |name| row.try_get::<String, _>(name).map_err(StoreError::Query);
    let time = |name| row.try_get(name).map(moment).map_err(StoreError::Query);
    Ok(Delegation {
        delegate: text("delegate")?,
        tenant: text("tenant")?,
        user: User {
            issuer: text("user_issuer")?,
            subject: text("user_subject")?,
        },
        resource: text("resource")?,
        scopes: words(&text("scopes")?),
        ends_at: time("ends_at")?,
        used_at: time("used_at")?,
    })
}

//! `GET /v2/groups/my_groups` of Globus Groups.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Realm;
use super::accounts::{Account, Identity};
use super::bearer;
use super::catalog::{GROUPS, GROUPS_ALL, VIEW_MY_GROUPS};
use super::config::Membership;
use super::failure::GroupsError;
use super::form::Query;
use super::store::Principal;

/// The groups of all identities of the caller, in any status unless `statuses` says otherwise: an
/// invitation is listed, too, and does not make a member.
///
/// # Errors
/// 401 without a live token of Globus Groups, 403 without a scope for it.
pub(crate) async fn my_groups(
    State(realm): State<Realm>,
    headers: HeaderMap,
    query: Query,
) -> Result<Json<Value>, GroupsError> {
    if bearer::value(&headers).is_none() {
        let detail = "Missing or malformed Authorization header";
        return Err(GroupsError::unauthorized("AUTHENTICATION_ERROR", detail));
    }
    let token = bearer::authenticate(&realm, &headers, GROUPS)
        .map_err(|_| GroupsError::unauthorized("INVALID_TOKEN", "The token is not active"))?;
    let scopes = token.grant.scopes;
    if !scopes
        .iter()
        .any(|scope| scope == GROUPS_ALL || scope == VIEW_MY_GROUPS)
    {
        return Err(GroupsError::forbidden("Missing required scopes", scopes));
    }
    let account = match &token.grant.principal {
        Principal::User(sub) => realm.account(sub),
        Principal::Client(_) => None,
    };
    let statuses = query.list("statuses");
    Ok(Json(account.map_or_else(
        || json!([]),
        |account| groups(&account, &statuses),
    )))
}

fn groups(account: &Account, statuses: &[String]) -> Value {
    let chosen =
        |membership: &&Membership| statuses.is_empty() || statuses.contains(&membership.status);
    let memberships: Vec<(&Identity, &Membership)> = account
        .identities()
        .flat_map(|identity| {
            identity
                .groups
                .iter()
                .filter(chosen)
                .map(move |one| (identity, one))
        })
        .collect();
    let mut groups: Vec<Value> = Vec::new();
    for (_, membership) in &memberships {
        if groups.iter().any(|group| group["id"] == *membership.id) {
            continue;
        }
        let same = memberships
            .iter()
            .filter(|(_, other)| other.id == membership.id);
        groups.push(json!({
            "id": membership.id,
            "name": membership.name.as_deref().unwrap_or(&membership.id),
            "description": null,
            "parent_id": null,
            "group_type": "regular",
            "enforce_session": false,
            "session_limit": 28_800,
            "session_timeouts": {},
            "my_memberships": same.map(|(identity, one)| member(identity, one)).collect::<Value>(),
            "policies": {
                "group_visibility": "private",
                "group_members_visibility": "managers",
            },
        }));
    }
    Value::Array(groups)
}

fn member(identity: &Identity, membership: &Membership) -> Value {
    json!({
        "group_id": membership.id,
        "identity_id": identity.sub,
        "username": identity.username,
        "role": membership.role,
        "status": membership.status,
    })
}

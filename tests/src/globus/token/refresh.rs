//! `grant_type=refresh_token`: one resource server, and the refresh token comes back.

use super::Call;
use super::issue::{IssuedToken, TokenAnswer};
use crate::globus::failure::OAuthError;
use crate::globus::faults::Fault;
use crate::globus::store::{RefreshToken, Store};

/// Issues an access token for a refresh token.
///
/// # Errors
/// `invalid_grant` when the token is unknown, revoked, another client's, or was idle for too long.
pub(super) fn refresh(call: Call<'_>) -> Result<TokenAnswer, OAuthError> {
    let value = call.required("refresh_token")?;
    let (realm, config) = (call.realm, call.realm.config());
    let now = realm.now();
    let mut store = realm.store();
    let RefreshToken {
        grant,
        lifetime_seconds,
        ..
    } = usable(call, &mut store, value)?.clone();
    let scopes = narrowed(call, &grant.scopes)?;
    let successor = if config.rotate_refresh_tokens {
        store.rotate_refresh_token(value, now)
    } else {
        Some(value.to_owned())
    };
    let grant = crate::globus::store::Grant { scopes, ..grant };
    let scope = grant.scopes.join(" ");
    let resource_server = grant.resource_server.clone();
    let token = IssuedToken {
        access_token: store.add_access_token(grant, lifetime_seconds, None, now),
        scope,
        expires_in: i64::from(lifetime_seconds),
        token_type: "Bearer",
        resource_server,
        refresh_token: successor.filter(|_| !call.fault.is(&Fault::OmitRefreshToken)),
    };
    TokenAnswer::of(vec![token]).ok_or_else(OAuthError::server_error)
}

/// Finds the token, and counts its use.
fn usable<'a>(
    call: Call<'_>,
    store: &'a mut Store,
    value: &str,
) -> Result<&'a RefreshToken, OAuthError> {
    let now = call.realm.now();
    let idle = i64::from(call.realm.config().refresh_token_idle_seconds);
    let grace = i64::from(call.realm.config().refresh_token_grace_seconds);
    let known = store.refresh_token(value);
    let spent = known.filter(|token| token.spent_at.is_some_and(|at| now - at >= grace));
    if let Some(grant) = spent.map(|token| token.grant.clone()) {
        store.revoke_where(|other| {
            other.client_id == grant.client_id
                && other.principal == grant.principal
                && other.resource_server == grant.resource_server
        });
        return Err(OAuthError::invalid_grant(
            "the refresh token was used before",
        ));
    }
    let token = store
        .refresh_token(value)
        .ok_or_else(|| OAuthError::invalid_grant("the refresh token is not known"))?;
    if token.grant.client_id != call.client.client_id {
        return Err(OAuthError::invalid_grant(
            "the refresh token is another client's",
        ));
    }
    if now - token.used_at > idle {
        return Err(OAuthError::invalid_grant(
            "the refresh token was idle for too long",
        ));
    }
    token.used_at = now;
    Ok(token)
}

/// The scopes asked for, which must not be more than were granted (RFC 6749 §6).
fn narrowed(call: Call<'_>, granted: &[String]) -> Result<Vec<String>, OAuthError> {
    let Some(text) = call.form.get("scope") else {
        return Ok(granted.to_vec());
    };
    let wanted: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match wanted.iter().find(|scope| !granted.contains(scope)) {
        Some(scope) => Err(OAuthError::invalid_scope(&format!("Not granted: {scope}"))),
        None => Ok(wanted),
    }
}

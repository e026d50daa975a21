//! `grant_type=client_credentials`: a client acts for itself, without refresh tokens.

use super::Call;
use super::id_token::{Subject, id_token};
use super::issue::{Issuance, TokenAnswer};
use crate::globus::catalog::{OFFLINE_ACCESS, OPENID};
use crate::globus::claims::Person;
use crate::globus::failure::OAuthError;
use crate::globus::scope;
use crate::globus::store::Principal;

/// Issues tokens to the client.
///
/// # Errors
/// `unauthorized_client` for a native client, `invalid_scope` for scopes that nobody knows.
pub(super) fn issue(call: Call<'_>) -> Result<TokenAnswer, OAuthError> {
    if call.client.client_secret.is_none() {
        return Err(OAuthError::unauthorized_client(
            "A native client cannot act for itself.",
        ));
    }
    let scopes = scopes(call)?;
    let client_id = &call.client.client_id;
    let principal = Principal::Client(client_id.clone());
    let issuance = Issuance {
        client_id: client_id.clone(),
        principal: principal.clone(),
        session: None,
        scopes: scopes.clone(),
        offline: false,
        lifetime_seconds: call.realm.config().access_token_lifetime_seconds,
        audience: None,
        reuse: false,
    };
    let mut answer = TokenAnswer::of(issuance.issue(call.realm))
        .ok_or_else(|| OAuthError::invalid_scope("No scope was requested."))?;
    let person = Person::of(call.realm, &principal, None);
    if let Some(person) = person.filter(|_| scopes.iter().any(|scope| scope == OPENID)) {
        let subject = Subject {
            person: &person,
            scopes: &scopes,
            client_id,
            access_token: &answer.first.access_token,
            nonce: None,
        };
        answer.id_token = Some(id_token(call.realm, subject, call.fault)?);
    }
    Ok(answer)
}

fn scopes(call: Call<'_>) -> Result<Vec<String>, OAuthError> {
    let trees = scope::parse(call.form.get("scope").unwrap_or_default())
        .map_err(|error| OAuthError::invalid_scope(&error.to_string()))?;
    let names = trees
        .into_iter()
        .map(|tree| tree.scope)
        .filter(|scope| scope != OFFLINE_ACCESS);
    let names: Vec<String> = names.collect();
    match names
        .iter()
        .find(|scope| call.realm.catalog().scope(scope).is_none())
    {
        Some(scope) => Err(OAuthError::invalid_scope(&format!(
            "Unknown scope: {scope}"
        ))),
        None => Ok(names),
    }
}

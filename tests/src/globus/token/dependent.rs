//! `grant_type=urn:globus:auth:grant_type:dependent_token`: a resource server exchanges a token that
//! it was given for tokens to the services it depends on. Not RFC 8693; the answer is an array.

use axum::Json;

use super::Call;
use super::issue::{Issuance, IssuedToken};
use crate::globus::failure::OAuthError;
use crate::globus::store::{AccessToken, Principal};

/// Issues the dependent tokens.
///
/// # Errors
/// `invalid_grant` when the token is dead or not for the caller; `dependent_consent_required` when
/// the user did not approve what is asked for.
pub(super) fn issue(call: Call<'_>) -> Result<Json<Vec<IssuedToken>>, OAuthError> {
    let realm = call.realm;
    let value = call.required("token")?;
    let token = realm.store().access_token(value, realm.now()).cloned();
    let token = token.ok_or_else(|| OAuthError::invalid_grant("the token is not active"))?;
    let server = &token.grant.resource_server;
    let speaks = realm
        .catalog()
        .speakers(server)
        .any(|client| client == call.client.client_id);
    if !speaks {
        return Err(OAuthError::invalid_grant(
            "the token is for another resource server",
        ));
    }
    let issuance = Issuance {
        client_id: call.client.client_id.clone(),
        principal: token.grant.principal.clone(),
        session: token.grant.session.clone(),
        scopes: approved(call, &token)?,
        offline: call.form.get("access_type") == Some("offline"),
        lifetime_seconds: realm.config().dependent_token_lifetime_seconds,
        audience: None,
        reuse: false,
    };
    let mut tokens = issuance.issue(realm);
    // Lower case here, and only here.
    for token in &mut tokens {
        token.token_type = "bearer";
    }
    Ok(Json(tokens))
}

/// The scopes that were asked for, or else all that the resource server always needs and all that
/// the user approved beyond that.
fn approved(call: Call<'_>, token: &AccessToken) -> Result<Vec<String>, OAuthError> {
    let (grant, catalog) = (&token.grant, call.realm.catalog());
    let implied = || {
        let known = grant.scopes.iter().filter_map(|scope| catalog.scope(scope));
        known
            .flat_map(|known| known.implied().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let consented = match &grant.principal {
        Principal::User(account) => {
            call.realm
                .consents()
                .dependent(account, &grant.client_id, &grant.scopes)
        }
        // Nobody has to consent to what a client does for itself.
        Principal::Client(_) => implied(),
    };
    let wanted: Vec<String> = match call.form.get("scope") {
        Some(text) => text.split(' ').map(str::to_owned).collect(),
        None => implied().into_iter().chain(consented.clone()).collect(),
    };
    let unapproved: Vec<String> = wanted
        .iter()
        .filter(|scope| !consented.contains(scope))
        .cloned()
        .collect();
    if !unapproved.is_empty() {
        return Err(OAuthError::dependent_consent_required(&unapproved));
    }
    let mut unique: Vec<String> = Vec::new();
    for scope in wanted {
        if !unique.contains(&scope) {
            unique.push(scope);
        }
    }
    Ok(unique)
}

//! `POST /v2/oauth2/token/introspect`: unadvertised, and only for those whom the token is for.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use super::Realm;
use super::catalog::AUTH;
use super::claims::Person;
use super::client_auth;
use super::failure::OAuthError;
use super::faults::{ActiveFault, Fault};
use super::form::{Form, Params};
use super::store::AccessToken;

/// Tells about an access token.
///
/// # Errors
/// `invalid_client`, also for a client that is not in the token's `aud`.
pub(crate) async fn introspect(
    State(realm): State<Realm>,
    headers: HeaderMap,
    fault: ActiveFault,
    form: Form,
) -> Result<Json<Value>, OAuthError> {
    let client = client_auth::basic(&realm, &headers)?;
    let value = form
        .get("token")
        .ok_or_else(|| OAuthError::invalid_request("Missing token."))?;
    let token = realm.store().access_token(value, realm.now()).cloned();
    let Some(token) = token.filter(|_| !fault.is(&Fault::Inactive)) else {
        return Ok(Json(json!({ "active": false })));
    };
    let audience = audience(&realm, &token);
    if !audience.contains(&client.client_id) {
        return Err(OAuthError::invalid_client(
            "the client is not in the token's audience",
        ));
    }
    let session = token.grant.session.clone();
    let Some(person) = Person::of(&realm, &token.grant.principal, session) else {
        return Ok(Json(json!({ "active": false })));
    };
    let mut answer = plain(&realm, &token, &person, &audience);
    answer.extend(included(&person, &form));
    if let Some(evaluations) = evaluations(&realm, &person, &form, &fault) {
        answer.insert("policy_evaluations".to_owned(), evaluations);
    }
    Ok(Json(Value::Object(answer)))
}

/// The resource server by name and by client; for Globus Auth's own tokens, the client that they were
/// issued to.
fn audience(realm: &Realm, token: &AccessToken) -> Vec<String> {
    let server = &token.grant.resource_server;
    let speakers = realm.catalog().speakers(server).map(str::to_owned);
    let holder = (server == AUTH).then(|| token.grant.client_id.clone());
    let mut audience = vec![server.clone()];
    for client in speakers.chain(holder).chain(token.audience.clone()) {
        if !audience.contains(&client) {
            audience.push(client);
        }
    }
    audience
}

fn plain(
    realm: &Realm,
    token: &AccessToken,
    person: &Person,
    audience: &[String],
) -> Map<String, Value> {
    let primary = &person.account().primary;
    let members = [
        ("active", json!(true)),
        ("token_type", json!("Bearer")),
        ("scope", json!(token.grant.scopes.join(" "))),
        ("client_id", json!(token.grant.client_id)),
        ("username", json!(primary.username)),
        ("name", json!(primary.name)),
        ("email", json!(primary.email)),
        ("exp", json!(token.expires_at)),
        ("iat", json!(token.issued_at)),
        ("nbf", json!(token.issued_at)),
        ("sub", json!(primary.sub)),
        ("aud", json!(audience)),
        ("iss", json!(realm.issuer())),
        (
            "dependent_tokens_cache_id",
            json!(token.dependent_tokens_cache_id),
        ),
    ];
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What `include` asks for.
fn included(person: &Person, form: &Params) -> Map<String, Value> {
    let mut members = Map::new();
    for wanted in form.list("include") {
        let identities = || {
            person
                .account()
                .identities()
                .map(|identity| json!(identity.sub))
        };
        let value = match wanted.as_str() {
            "identity_set" | "identities_set" => identities().collect(),
            "identity_set_detail" => person.identity_set_detail(),
            "session_info" => json!(person.session().map(super::session::Session::info)),
            _ => continue,
        };
        members.insert(wanted, value);
    }
    members
}

fn evaluations(
    realm: &Realm,
    person: &Person,
    form: &Params,
    fault: &ActiveFault,
) -> Option<Value> {
    let ids = form.list("authentication_policies");
    let evaluation = |id: &String| {
        let met = person.session().is_some_and(|session| {
            session.satisfies(id, person.account(), &realm.config().policies, realm.now())
        });
        let met = met && !fault.is(&Fault::SessionPolicyNotMet);
        (id.clone(), json!({ "evaluation": met }))
    };
    (!ids.is_empty()).then(|| Value::Object(ids.iter().map(evaluation).collect()))
}

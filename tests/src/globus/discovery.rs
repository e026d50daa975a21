//! `GET /.well-known/openid-configuration` and `GET /jwk.json`.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Realm;
use super::faults::{ActiveFault, Fault};

/// Exactly the members that Globus has. In particular there is no registration, introspection,
/// device or end-session endpoint, no `grant_types_supported` and no
/// `code_challenge_methods_supported`, although some of these things work.
pub(crate) async fn document(State(realm): State<Realm>, fault: ActiveFault) -> Json<Value> {
    let (issuer, browser) = (realm.issuer(), realm.browser_url());
    let other = fault.is(&Fault::WrongIssuer);
    Json(json!({
        "issuer": if other { "https://another-issuer.test" } else { issuer },
        "authorization_endpoint": format!("{browser}/v2/oauth2/authorize"),
        "token_endpoint": format!("{issuer}/v2/oauth2/token"),
        "userinfo_endpoint": format!("{issuer}/v2/oauth2/userinfo"),
        "revocation_endpoint": format!("{issuer}/v2/oauth2/token/revoke"),
        "jwks_uri": format!("{issuer}/jwk.json"),
        "response_types_supported": ["code", "token", "token id_token", "id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS512"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "claims_supported": [
            "at_hash", "aud", "email", "exp", "name", "nonce", "preferred_username", "iat", "iss",
            "sub",
        ],
    }))
}

/// The one key.
pub(crate) async fn key_set(State(realm): State<Realm>) -> Json<Value> {
    Json(realm.signing_key().key_set())
}

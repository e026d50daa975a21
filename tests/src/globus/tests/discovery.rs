use super::*;

#[tokio::test]
async fn the_document_has_exactly_the_members_of_globus() {
    let mut with_browser = config();
    with_browser.browser_url = Some("http://127.0.0.1:8080".to_owned());
    let answer = get(
        &Emulator::new(with_browser).unwrap(),
        "/.well-known/openid-configuration",
        &[],
    )
    .await;
    let expected = serde_json::json!({
        "issuer": "https://globus.test",
        "authorization_endpoint": "http://127.0.0.1:8080/v2/oauth2/authorize",
        "token_endpoint": "https://globus.test/v2/oauth2/token",
        "userinfo_endpoint": "https://globus.test/v2/oauth2/userinfo",
        "revocation_endpoint": "https://globus.test/v2/oauth2/token/revoke",
        "jwks_uri": "https://globus.test/jwk.json",
        "response_types_supported": ["code", "token", "token id_token", "id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS512"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "claims_supported": ["at_hash", "aud", "email", "exp", "name", "nonce",
                             "preferred_username", "iat", "iss", "sub"],
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn the_one_key_has_no_id() {
    let keys = get(&emulator(), "/jwk.json", &[]).await.json();
    let key = keys["keys"][0].as_object().unwrap();
    let mut members: Vec<_> = key.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "e", "kty", "n", "use"]);
    assert_eq!(key["alg"], "RS512");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_in_the_shape_of_globus() {
    let emulator = emulator();
    let missing = get(&emulator, "/register", &[]).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.json()["errors"][0]["code"], "NOT_FOUND");
    let wrong = get(&emulator, "/v2/oauth2/token", &[]).await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.json()["error"], "method_not_allowed");
}

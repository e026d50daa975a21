use super::*;

#[tokio::test]
async fn a_code_buys_one_token_for_each_resource_server() {
    let scope = format!("{ACTION_ALL} openid {GROUPS_SCOPE} profile email");
    let answer = tokens(
        &emulator(),
        &[("scope", &scope), ("access_type", "offline")],
        ALICE,
    )
    .await;
    assert_eq!(answer["resource_server"], "auth.globus.org");
    assert_eq!(answer["scope"], "openid profile email");
    assert_eq!(answer["state"], "the state");
    assert_eq!(answer["expires_in"], 172_800);
    assert_eq!(answer["token_type"], "Bearer");
    assert!(text(&answer, "access_token").starts_with("Ag"));
    assert!(text(&answer, "id_token").starts_with("ey"));
    let others = answer["other_tokens"].as_array().unwrap();
    let servers: Vec<_> = others
        .iter()
        .map(|token| text(token, "resource_server"))
        .collect();
    assert_eq!(servers, [RS, "groups.api.globus.org"]);
    assert_eq!(others[0]["scope"], ACTION_ALL);
    let mut values: Vec<_> = std::iter::once(&answer)
        .chain(others)
        .flat_map(|token| [text(token, "access_token"), text(token, "refresh_token")])
        .collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 6);
}

#[tokio::test]
async fn refresh_tokens_come_only_when_asked_for() {
    let emulator = emulator();
    for (changes, offline) in [
        (&[][..], false),
        (&[("access_type", "online")], false),
        (&[("access_type", "offline")], true),
        (&[("scope", "openid offline_access")], true),
    ] {
        let answer = tokens(&emulator, changes, ALICE).await;
        assert_eq!(
            answer.get("refresh_token").is_some(),
            offline,
            "{changes:?}"
        );
        assert!(!text(&answer, "scope").contains("offline_access"));
        assert_eq!(answer["other_tokens"], serde_json::json!([]));
    }
}

#[tokio::test]
async fn an_id_token_comes_only_with_openid() {
    let answer = tokens(
        &emulator(),
        &[("scope", GROUPS_SCOPE), ("state", "")],
        ALICE,
    )
    .await;
    assert!(answer.get("id_token").is_none() && answer.get("state").is_none());
    assert_eq!(answer["resource_server"], "groups.api.globus.org");
}

#[tokio::test]
async fn the_id_token_is_that_of_globus() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("nonce", "n1")], ALICE).await;
    let id_token = text(&answer, "id_token");
    assert_eq!(
        jwt_part(id_token, 0),
        serde_json::json!({"typ": "JWT", "alg": "RS512"})
    );
    let claims = verified(&emulator, id_token).await.unwrap();
    let mut names: Vec<_> = claims
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    let expected = [
        "at_hash",
        "aud",
        "email",
        "exp",
        "iat",
        "identity_provider",
        "identity_provider_display_name",
        "identity_set",
        "iss",
        "last_authentication",
        "name",
        "nonce",
        "organization",
        "preferred_username",
        "sub",
    ];
    assert_eq!(names, expected);
    assert_eq!(claims["aud"], APP.0);
    assert_eq!(claims["nonce"], "n1");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        172_800
    );
    let set = claims["identity_set"].as_array().unwrap();
    assert_eq!(set[0]["last_authentication"], claims["last_authentication"]);
    assert_eq!(set[1]["username"], "alice@uni.test");
    assert!(set[1]["last_authentication"].is_null());
    assert_eq!(set[1].as_object().unwrap().len(), 8);
    let hash = signing::at_hash(text(&answer, "access_token"));
    assert_eq!(claims["at_hash"], hash);
    // Other clients than the SDK's expect at_hash to be half of a SHA-512.
    assert_eq!(URL_SAFE_NO_PAD.decode(hash).unwrap().len(), 32);
}

#[tokio::test]
async fn claims_follow_scopes_and_the_users_own_overrule_them() {
    let mut config = config();
    config.users[0].claims = serde_json::json!({"email": ["a", 1], "email_verified": false})
        .as_object()
        .unwrap()
        .clone();
    let emulator = Emulator::new(config).unwrap();
    let answer = tokens(&emulator, &[("scope", "openid")], BOB).await;
    let claims = verified(&emulator, text(&answer, "id_token"))
        .await
        .unwrap();
    assert!(claims.get("email").is_none() && claims.get("name").is_none());
    let answer = tokens(&emulator, &[], ALICE).await;
    let claims = verified(&emulator, text(&answer, "id_token"))
        .await
        .unwrap();
    assert_eq!(claims["email"], serde_json::json!(["a", 1]));
    assert_eq!(claims["email_verified"], false);
}

#[tokio::test]
async fn a_code_is_good_once_for_its_client_and_redirect_uri() {
    let emulator = emulator();
    let form = |code| {
        vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
        ]
    };
    let refused = |answer: Answer, why: &str| {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why}");
        assert_eq!(answer.body, r#"{"error":"invalid_grant"}"#, "{why}");
    };
    let good = code(&emulator, &[], ALICE).await;
    let others = post_token(&emulator, Some(INFERENCE), &form(&good)).await;
    refused(others, "another client");
    let answer = redeem(&emulator, &good).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), "no-store");
    refused(redeem(&emulator, &good).await, "a second time");
    refused(redeem(&emulator, "Agnonsense").await, "unknown");

    let code1 = code(&emulator, &[], ALICE).await;
    let mut wrong = form(&code1);
    wrong[2].1 = "https://app.test/oauth2/callback/";
    refused(
        post_token(&emulator, Some(APP), &wrong).await,
        "another redirect URI",
    );
    refused(redeem(&emulator, &code1).await, "after a failure");

    let code2 = code(&emulator, &[], ALICE).await;
    emulator.advance(600);
    refused(redeem(&emulator, &code2).await, "too late");
}

#[tokio::test]
async fn pkce_is_verified_when_it_was_used() {
    let emulator = emulator();
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let pkce = [
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    for (changes, sent, status) in [
        (&pkce[..], Some(verifier), StatusCode::OK),
        (&pkce[..], Some("wrong"), StatusCode::UNAUTHORIZED),
        (&pkce[..], None, StatusCode::UNAUTHORIZED),
        (&[], Some(verifier), StatusCode::UNAUTHORIZED),
        (&[], None, StatusCode::OK),
    ] {
        let code = code(&emulator, changes, ALICE).await;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
        ];
        form.extend(sent.map(|verifier| ("code_verifier", verifier)));
        let answer = post_token(&emulator, Some(APP), &form).await;
        assert_eq!(answer.status, status, "{changes:?} {sent:?}");
    }
    let native = "http://localhost:4/";
    let changes = [
        &pkce[..],
        &[("client_id", NATIVE), ("redirect_uri", native)],
    ]
    .concat();
    let code = code(&emulator, &changes, ALICE).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", NATIVE),
        ("code", &code),
        ("redirect_uri", native),
        ("code_verifier", verifier),
    ];
    assert_eq!(
        post_token(&emulator, None, &form).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn clients_authenticate_with_basic_or_by_name() {
    let emulator = emulator();
    let grant = ("grant_type", "client_credentials");
    let scope = ("scope", "openid");
    for (client, more, error) in [
        (Some(APP), None, None),
        // As RFC 6749 says, and as the SDK does not.
        (Some((APP.0, "s3cret%2B%2F%3D")), None, None),
        (Some(APP), Some(("client_id", APP.0)), None),
        (
            Some(APP),
            Some(("client_id", "other")),
            Some("invalid_client"),
        ),
        (Some((APP.0, "wrong")), None, Some("invalid_client")),
        (Some(("nobody", "wrong")), None, Some("invalid_client")),
        (Some((NATIVE, "")), None, Some("invalid_client")),
        (None, None, Some("invalid_client")),
        (None, Some(("client_id", APP.0)), Some("invalid_client")),
        (
            None,
            Some(("client_id", NATIVE)),
            Some("unauthorized_client"),
        ),
        (None, Some(("client_secret", APP.1)), Some("invalid_client")),
    ] {
        let form: Vec<_> = [grant, scope].into_iter().chain(more).collect();
        let answer = post_token(&emulator, client, &form).await;
        let actual = answer.json()["error"].as_str().map(str::to_owned);
        assert_eq!(actual.as_deref(), error, "{client:?} {more:?}");
        if error == Some("invalid_client") {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.body, r#"{"error":"invalid_client"}"#);
            assert!(answer.header("www-authenticate").starts_with("Basic "));
        }
    }
}

#[tokio::test]
async fn malformed_token_requests_are_refused() {
    let emulator = emulator();
    for (form, error) in [
        (&[][..], "invalid_request"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (
            &[(
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            )],
            "unsupported_grant_type",
        ),
        (
            &[("grant_type", "authorization_code"), ("code", "x")],
            "invalid_request",
        ),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (
            &[
                ("grant_type", "refresh_token"),
                ("grant_type", "refresh_token"),
            ],
            "invalid_request",
        ),
        (&[("grant_type", "client_credentials")], "invalid_scope"),
        (
            &[("grant_type", "client_credentials"), ("scope", "nonsense")],
            "invalid_scope",
        ),
    ] {
        let answer = post_token(&emulator, Some(APP), form).await;
        assert_eq!(answer.json()["error"], error, "{form:?}");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form:?}");
    }
    let json = Request::post("/v2/oauth2/token").header(CONTENT_TYPE, "application/json");
    let answer = call(&emulator, json.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.json()["error"], "invalid_request");
}

#[tokio::test]
async fn a_login_may_return_an_older_access_token() {
    let mut config = config();
    config.reuse_access_tokens = true;
    let emulator = Emulator::new(config).unwrap();
    let first = tokens(&emulator, &[], ALICE).await;
    emulator.advance(1000);
    let second = tokens(&emulator, &[], ALICE).await;
    assert_eq!(first["access_token"], second["access_token"]);
    assert!(second["expires_in"].as_i64().unwrap() <= 171_800);
    assert_ne!(
        tokens(&emulator, &[], BOB).await["access_token"],
        first["access_token"]
    );
    emulator.advance(172_800);
    assert_ne!(
        tokens(&emulator, &[], ALICE).await["access_token"],
        first["access_token"]
    );
}

#[tokio::test]
async fn a_client_gets_tokens_for_itself_without_refresh_tokens() {
    let emulator = emulator();
    let scope = format!("openid profile email {TRANSFER_SCOPE} offline_access");
    let form = [("grant_type", "client_credentials"), ("scope", &*scope)];
    let answer = post_token(&emulator, Some(APP), &form).await.json();
    assert!(answer.get("refresh_token").is_none());
    assert_eq!(
        answer["other_tokens"][0]["resource_server"],
        "transfer.api.globus.org"
    );
    let claims = verified(&emulator, text(&answer, "id_token"))
        .await
        .unwrap();
    assert_eq!(claims["sub"], APP.0);
    assert_eq!(claims["preferred_username"], "app@clients.auth.globus.org");
    let token = text(&answer, "access_token");
    let told = introspect(&emulator, APP, token, &[]).await.json();
    assert_eq!(told["username"], "app@clients.auth.globus.org");
}

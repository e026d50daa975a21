use super::*;

#[tokio::test]
async fn the_control_api_is_off_unless_configured() {
    let emulator = Emulator::new(Config {
        control: false,
        ..config()
    })
    .unwrap();
    for (method, path) in [
        ("GET", "requests"),
        ("POST", "tokens"),
        ("DELETE", "faults"),
    ] {
        let answer = order(&emulator, method, path, "{}").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    assert_eq!(
        order(&emulator, "GET", "health", "").await.body,
        r#"{"status":"ok"}"#
    );
}

#[tokio::test]
async fn tokens_are_minted_for_an_audience() {
    let emulator = emulator();
    let body = format!(
        r#"{{"username": "{ALICE}", "client_id": "{}", "scope": "openid {ACTION_ALL} offline_access",
             "lifetime_seconds": 30}}"#,
        APP.0
    );
    let minted = order(&emulator, "POST", "tokens", &body).await;
    let minted: Minted = serde_json::from_str(&minted.body).unwrap();
    assert_eq!(
        (minted.expires_in, minted.resource_server.as_str()),
        (30, "auth.globus.org")
    );
    // The audience may introspect even what is another resource server's.
    let inference = &minted.other_tokens[0].access_token;
    let told = introspect(&emulator, APP, inference, &[("include", "session_info")])
        .await
        .json();
    assert_eq!(told["aud"], serde_json::json!([RS, INFERENCE.0, APP.0]));
    assert!(told["session_info"]["session_id"].is_string());
    let refreshed = refresh(&emulator, minted.refresh_token.as_deref().unwrap())
        .await
        .json();
    assert_eq!(refreshed["expires_in"], 30);
    emulator.advance(30);
    let told = introspect(&emulator, APP, inference, &[]).await;
    assert_eq!(told.body, r#"{"active":false}"#);
    for (body, part) in [
        (
            r#"{"username": "zoe", "client_id": "app"}"#,
            "user \\\"zoe\\\" is not known",
        ),
        (
            r#"{"username": "alice@anl.gov", "client_id": "x"}"#,
            "client \\\"x\\\" is not known",
        ),
        (
            r#"{"username": "alice@anl.gov", "client_id": "app", "scope": "x"}"#,
            "scope \\\"x\\\"",
        ),
        (
            r#"{"username": "alice@anl.gov"}"#,
            "missing field `client_id`",
        ),
    ] {
        let answer = order(&emulator, "POST", "tokens", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.body.contains(part), "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn requests_are_logged_without_their_secrets() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let token = text(&answer, "refresh_token");
    refresh(&emulator, token).await;
    refresh(&emulator, token).await;
    refresh(&emulator, "Agunknown").await;
    let shown = order(&emulator, "GET", "requests", "").await;
    for secret in [token, text(&answer, "access_token"), APP.1, "the state"] {
        assert!(!shown.body.contains(secret), "{secret}");
    }
    let log: RequestLog = serde_json::from_str(&shown.body).unwrap();
    assert_eq!(log, emulator.requests());
    assert_eq!(log.count("token/authorization_code"), 1);
    assert_eq!(log.count("token/refresh_token"), 3);
    assert_eq!(log.counters["token/refresh_token"].succeeded, 2);
    assert_eq!(log.count("token"), 4);
    assert_eq!(log.count("login"), 1);
    let [.., second, third] = &log.requests[..] else {
        panic!("too few")
    };
    let value = |record: &RequestRecord, name: &str| {
        record
            .form
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(
        value(second, "refresh_token"),
        Some(requests::fingerprint(token))
    );
    assert_eq!(
        value(second, "grant_type").as_deref(),
        Some("refresh_token")
    );
    assert_eq!(second.client_id.as_deref(), Some(APP.0));
    assert_eq!(second.authorization.as_deref(), Some("Basic"));
    assert_eq!((second.status, &second.reason), (Some(200), &None));
    assert_eq!(third.status, Some(401));
    assert_eq!(
        third.reason.as_deref(),
        Some("the refresh token is not known")
    );
    order(&emulator, "DELETE", "requests", "").await;
    assert_eq!(emulator.requests(), RequestLog::default());
}

#[tokio::test]
async fn faults_are_ordered_listed_and_cleared() {
    let emulator = emulator();
    let body = r#"{"endpoint": "jwks", "fault": {"kind": "status", "status": 500}, "times": 5}"#;
    assert_eq!(
        order(&emulator, "POST", "faults", body).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        get(&emulator, "/jwk.json", &[]).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let listed = order(&emulator, "GET", "faults", "").await.json();
    assert_eq!(listed[0]["times"], 4);
    assert_eq!(
        order(&emulator, "DELETE", "faults", "").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        get(&emulator, "/jwk.json", &[]).await.status,
        StatusCode::OK
    );
    let bad = order(
        &emulator,
        "POST",
        "faults",
        r#"{"fault": {"kind": "nonsense"}}"#,
    )
    .await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(
        bad.body
            .contains("unknown variant `nonsense`, expected one of `alg_hs256`")
    );
}

#[tokio::test]
async fn users_change_under_their_tokens() {
    let emulator = emulator();
    let token = emulator
        .mint(&MintRequest::new(BOB, APP.0))
        .unwrap()
        .access_token;
    let body = format!(r#"{{"username": "{BOB}", "email": "bob@new.test"}}"#);
    assert_eq!(
        order(&emulator, "POST", "users", &body).await.status,
        StatusCode::NO_CONTENT
    );
    let told = get_with_token(&emulator, "/v2/oauth2/userinfo", &token)
        .await
        .json();
    assert_eq!(told["email"], "bob@new.test");
    order(
        &emulator,
        "POST",
        "users",
        r#"{"username": "carol@x.test"}"#,
    )
    .await;
    let users = order(&emulator, "GET", "users", "").await.json();
    assert_eq!(users[2]["username"], "carol@x.test");
    assert_eq!(users[2]["sub"], *emulator.sub("carol@x.test").unwrap());
    let bad = order(&emulator, "POST", "users", "{}").await;
    assert!(bad.body.contains("username must not be empty"));
}

#[tokio::test]
async fn tokens_sessions_and_consents_are_revoked() {
    let emulator = emulator();
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let mint = |user| {
        emulator
            .mint(&MintRequest::new(user, APP.0))
            .unwrap()
            .access_token
    };
    let (alice, bob, single) = (mint(ALICE), mint(BOB), mint(BOB));
    let active =
        async |token: &str| introspect(&emulator, APP, token, &[]).await.json()["active"] == true;
    let body = format!(r#"{{"token": "{single}"}}"#);
    assert_eq!(
        order(&emulator, "POST", "revoke", &body).await.body,
        r#"{"revoked":1}"#
    );
    assert!(!active(&single).await && active(&bob).await);
    let body = format!(r#"{{"username": "{ALICE}", "client_id": "native"}}"#);
    assert_eq!(
        order(&emulator, "POST", "revoke", &body).await.body,
        r#"{"revoked":0}"#
    );
    let body = format!(r#"{{"username": "{ALICE}", "consents": true, "sessions": true}}"#);
    assert_eq!(
        order(&emulator, "POST", "revoke", &body).await.body,
        r#"{"revoked":1}"#
    );
    assert!(!active(&alice).await && active(&bob).await);
    let silent = authorization_url(&[("prompt", "none")]);
    let back = get(&emulator, &silent, &[("cookie", &cookie)]).await;
    assert_eq!(back.sent_back("error"), "login_required");
    for body in ["{}", r#"{"username": "zoe"}"#] {
        let answer = order(&emulator, "POST", "revoke", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn time_and_keys_are_moved_on() {
    let emulator = emulator();
    let token = emulator
        .mint(&MintRequest::new(ALICE, APP.0))
        .unwrap()
        .access_token;
    let moved = order(&emulator, "POST", "clock", r#"{"advance_seconds": 172800}"#).await;
    assert!(moved.json()["now"].is_number());
    assert_eq!(
        introspect(&emulator, APP, &token, &[]).await.json()["active"],
        false
    );
    let before = get(&emulator, "/jwk.json", &[]).await.json();
    let after = order(&emulator, "POST", "keys", "").await.json();
    assert_ne!(before, after);
    assert_eq!(get(&emulator, "/jwk.json", &[]).await.json(), after);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let emulator = emulator();
    let huge = "x".repeat(100_000);
    let answer = post_token(&emulator, Some(APP), &[("grant_type", &huge)]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

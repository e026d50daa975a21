use super::*;

#[tokio::test]
async fn a_refresh_is_for_one_resource_server_and_returns_the_same_token() {
    let emulator = emulator();
    let scope = format!("openid {ACTION_ALL}");
    let answer = tokens(
        &emulator,
        &[("scope", &scope), ("access_type", "offline")],
        ALICE,
    )
    .await;
    let token = text(&answer["other_tokens"][0], "refresh_token");
    for _ in 0..2 {
        let refreshed = refresh(&emulator, token).await.json();
        let mut members: Vec<_> = refreshed
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        members.sort_unstable();
        let expected = [
            "access_token",
            "expires_in",
            "other_tokens",
            "refresh_token",
            "resource_server",
            "scope",
            "token_type",
        ];
        assert_eq!(members, expected);
        assert_eq!(refreshed["refresh_token"], token);
        assert_eq!(refreshed["resource_server"], RS);
        assert_eq!(refreshed["other_tokens"], serde_json::json!([]));
        assert_ne!(
            refreshed["access_token"],
            answer["other_tokens"][0]["access_token"]
        );
    }
}

#[tokio::test]
async fn a_refresh_token_dies_of_idleness_and_only_its_client_may_use_it() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let token = text(&answer, "refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let others = post_token(&emulator, Some(INFERENCE), &form).await;
    assert_eq!(others.body, r#"{"error":"invalid_grant"}"#);
    for _ in 0..2 {
        // A minute less, because the machine's own clock goes on meanwhile.
        emulator.advance(15_551_940);
        assert_eq!(refresh(&emulator, token).await.status, StatusCode::OK);
    }
    emulator.advance(15_552_001);
    let dead = refresh(&emulator, token).await;
    assert_eq!(dead.status, StatusCode::UNAUTHORIZED);
    assert_eq!(dead.body, r#"{"error":"invalid_grant"}"#);
}

#[tokio::test]
async fn scopes_can_be_narrowed_at_refresh_but_not_widened() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let token = text(&answer, "refresh_token");
    for (scope, status) in [
        ("openid email", StatusCode::OK),
        (GROUPS_SCOPE, StatusCode::BAD_REQUEST),
    ] {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("scope", scope),
        ];
        let answer = post_token(&emulator, Some(APP), &form).await;
        assert_eq!(answer.status, status, "{scope}");
    }
}

#[tokio::test]
async fn rotation_replaces_the_token_at_each_use() {
    let mut config = config();
    config.rotate_refresh_tokens = true;
    let emulator = Emulator::new(config).unwrap();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let first = text(&answer, "refresh_token");
    let refreshed = refresh(&emulator, first).await.json();
    let second = text(&refreshed, "refresh_token");
    assert_ne!(first, second);
    assert_eq!(
        refresh(&emulator, first).await.status,
        StatusCode::UNAUTHORIZED
    );
    // A token that was used before is a copy, for all the issuer knows: nothing of it is good any more.
    assert_eq!(
        refresh(&emulator, second).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_replaced_token_is_good_within_the_grace() {
    let mut config = config();
    config.rotate_refresh_tokens = true;
    config.refresh_token_grace_seconds = 30;
    let emulator = Emulator::new(config).unwrap();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let first = text(&answer, "refresh_token");
    let refreshed = refresh(&emulator, first).await.json();
    assert_eq!(refresh(&emulator, first).await.status, StatusCode::OK);
    emulator.advance(30);
    assert_eq!(
        refresh(&emulator, first).await.status,
        StatusCode::UNAUTHORIZED
    );
    let second = text(&refreshed, "refresh_token");
    assert_eq!(
        refresh(&emulator, second).await.status,
        StatusCode::UNAUTHORIZED
    );
}

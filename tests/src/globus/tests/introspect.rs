use super::*;

#[tokio::test]
async fn a_token_is_told_about_to_its_audience_only() {
    let emulator = emulator();
    let scope = format!("openid profile email {ACTION_ALL}");
    let answer = tokens(&emulator, &[("scope", &scope)], BOB).await;
    let (auth, inference) = (text(&answer, "access_token"), &answer["other_tokens"][0]);
    let inference = text(inference, "access_token");
    // Globus Auth's own tokens are for the client that they were issued to.
    let told = introspect(&emulator, APP, auth, &[]).await.json();
    assert_eq!(told["aud"], serde_json::json!(["auth.globus.org", APP.0]));
    let told = introspect(&emulator, INFERENCE, inference, &[])
        .await
        .json();
    let mut members: Vec<_> = told
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    let expected = [
        "active",
        "aud",
        "client_id",
        "dependent_tokens_cache_id",
        "email",
        "exp",
        "iat",
        "iss",
        "name",
        "nbf",
        "scope",
        "sub",
        "token_type",
        "username",
    ];
    assert_eq!(members, expected);
    assert_eq!(told["aud"], serde_json::json!([RS, INFERENCE.0]));
    assert_eq!(told["username"], BOB);
    assert_eq!(told["client_id"], APP.0);
    assert_eq!(told["scope"], ACTION_ALL);
    assert_eq!(
        told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap(),
        172_800
    );
    for (client, token) in [(APP, inference), (INFERENCE, auth)] {
        let refused = introspect(&emulator, client, token, &[]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.body, r#"{"error":"invalid_client"}"#);
    }
    let form = [("client_id", NATIVE), ("token", auth)];
    let native = post(&emulator, "/v2/oauth2/token/introspect", None, &form).await;
    assert_eq!(native.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn dead_tokens_are_inactive_and_nothing_more() {
    let emulator = emulator();
    let mint = || {
        emulator
            .mint(&MintRequest::new(ALICE, APP.0))
            .unwrap()
            .access_token
    };
    let (expired, revoked) = (mint(), mint());
    let refresh = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    post(
        &emulator,
        "/v2/oauth2/token/revoke",
        Some(APP),
        &[("token", &revoked)],
    )
    .await;
    assert_eq!(
        introspect(&emulator, APP, &expired, &[]).await.json()["active"],
        true
    );
    for token in [&*revoked, "Agunknown", text(&refresh, "refresh_token")] {
        assert_eq!(
            introspect(&emulator, APP, token, &[]).await.body,
            r#"{"active":false}"#
        );
    }
    emulator.advance(172_800);
    assert_eq!(
        introspect(&emulator, APP, &expired, &[]).await.body,
        r#"{"active":false}"#
    );
}

#[tokio::test]
async fn details_come_when_they_are_asked_for() {
    let emulator = emulator();
    let scope = [("scope", "openid")];
    let url = authorization_url(&scope);
    let login = press(&emulator, &url, ("identity", "alice@uni.test"), "").await;
    let answer = redeem(&emulator, &login.sent_back("code")).await.json();
    let token = text(&answer, "access_token");
    let more = [
        (
            "include",
            "identity_set, identity_set_detail,session_info,nonsense",
        ),
        ("authentication_policies", "policy,other"),
    ];
    let told = introspect(&emulator, APP, token, &more).await.json();
    let (alice, uni) = (
        emulator.sub(ALICE).unwrap(),
        emulator.sub("alice@uni.test").unwrap(),
    );
    assert_eq!(told["sub"], *alice);
    let detail = &told["identity_set_detail"];
    let linked = text(&detail[1], "sub").to_owned();
    assert_eq!(told["identity_set"], serde_json::json!([alice, linked]));
    assert!(detail[0]["last_authentication"].is_null());
    assert_eq!(detail[1]["last_authentication"], told["iat"]);
    assert_eq!(detail[1]["identity_provider_display_name"], "uni.test");
    let authentications = told["session_info"]["authentications"].as_object().unwrap();
    assert_eq!(authentications.keys().collect::<Vec<_>>(), [&linked]);
    let authentication = &authentications[&linked];
    let expected = serde_json::json!({
        "idp": detail[1]["identity_provider"],
        "auth_time": told["iat"],
        "acr": null,
        "amr": null,
        "custom_claims": {},
    });
    assert_eq!(authentication, &expected);
    let evaluations = serde_json::json!({
        "policy": {"evaluation": true},
        "other": {"evaluation": false},
    });
    assert_eq!(told["policy_evaluations"], evaluations);
    assert_eq!(uni, alice, "an account is found by any of its identities");
    emulator.advance(601);
    let told = introspect(&emulator, APP, token, &more).await.json();
    assert_eq!(told["policy_evaluations"]["policy"]["evaluation"], false);
}

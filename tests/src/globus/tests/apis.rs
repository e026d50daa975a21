use super::*;

#[tokio::test]
async fn userinfo_tells_what_the_scopes_allow() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[], ALICE).await;
    let told = get_with_token(
        &emulator,
        "/v2/oauth2/userinfo",
        text(&answer, "access_token"),
    )
    .await;
    let told = told.json();
    let mut members: Vec<_> = told
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    let expected = [
        "email",
        "identity_provider",
        "identity_provider_display_name",
        "identity_set",
        "last_authentication",
        "name",
        "organization",
        "preferred_username",
        "sub",
    ];
    assert_eq!(members, expected);
    let answer = tokens(&emulator, &[("scope", "openid")], ALICE).await;
    let told = get_with_token(
        &emulator,
        "/v2/oauth2/userinfo",
        text(&answer, "access_token"),
    )
    .await;
    assert_eq!(told.json()["sub"], *emulator.sub(ALICE).unwrap());
    assert!(told.json().get("email").is_none());
}

#[tokio::test]
async fn the_apis_refuse_what_is_not_their_token() {
    let emulator = emulator();
    let mint = |scope: &str| {
        emulator
            .mint(&MintRequest::new(ALICE, APP.0).scope(scope))
            .unwrap()
            .access_token
    };
    let (groups, email) = (mint(GROUPS_SCOPE), mint("email"));
    for (target, token, status) in [
        ("/v2/oauth2/userinfo", "", StatusCode::UNAUTHORIZED),
        (
            "/v2/oauth2/userinfo",
            "Agnonsense",
            StatusCode::UNAUTHORIZED,
        ),
        ("/v2/oauth2/userinfo", &*groups, StatusCode::UNAUTHORIZED),
        ("/v2/oauth2/userinfo", &*email, StatusCode::FORBIDDEN),
        ("/v2/api/identities?ids=x", "", StatusCode::UNAUTHORIZED),
        ("/v2/api/identities/x", "", StatusCode::UNAUTHORIZED),
        (
            "/v2/api/identities/x/consents",
            &*groups,
            StatusCode::UNAUTHORIZED,
        ),
        (
            "/v2/api/identities/x/consents",
            &*email,
            StatusCode::FORBIDDEN,
        ),
    ] {
        let answer = get_with_token(&emulator, target, token).await;
        assert_eq!(answer.status, status, "{target} {token}");
        let body = answer.json();
        let code = status.canonical_reason().unwrap().to_uppercase();
        assert_eq!(body["errors"][0]["code"], code, "{target}");
        assert_eq!(body["errors"][0]["status"], status.as_str(), "{target}");
        assert!(body["error_description"].is_string(), "{target}");
    }
}

#[tokio::test]
async fn a_call_without_a_token_is_refused_in_the_words_of_globus() {
    let emulator = emulator();
    let unauthorized = get(&emulator, "/v2/oauth2/userinfo", &[]).await.json();
    assert_eq!(
        unauthorized["errors"][0]["detail"],
        "Call must be authenticated"
    );
    assert_eq!(unauthorized["error"], "unauthorized");
    assert_eq!(unauthorized["error_description"], "Unauthorized");
}

#[tokio::test]
async fn groups_come_from_all_identities_and_in_every_status() {
    let emulator = emulator();
    let mint = |scope: &str| {
        emulator
            .mint(&MintRequest::new(ALICE, APP.0).scope(scope))
            .unwrap()
            .access_token
    };
    let token = mint(GROUPS_SCOPE);
    let groups = get_with_token(&emulator, "/v2/groups/my_groups", &token)
        .await
        .json();
    let ids: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|group| text(group, "id"))
        .collect();
    assert_eq!(ids, ["g0", "g1", "g2"]);
    assert_eq!(groups[1]["my_memberships"].as_array().unwrap().len(), 2);
    assert_eq!(groups[1]["my_memberships"][1]["username"], "alice@uni.test");
    assert_eq!(groups[2]["my_memberships"][0]["status"], "invited");
    let active = get_with_token(&emulator, "/v2/groups/my_groups?statuses=active", &token).await;
    assert_eq!(active.json().as_array().unwrap().len(), 2);
    for (token, status, code) in [
        ("", StatusCode::UNAUTHORIZED, "INVALID_TOKEN"),
        ("Agnonsense", StatusCode::UNAUTHORIZED, "INVALID_TOKEN"),
        (&*mint("openid"), StatusCode::UNAUTHORIZED, "INVALID_TOKEN"),
    ] {
        let answer = get_with_token(&emulator, "/v2/groups/my_groups", token).await;
        assert_eq!(
            (answer.status, text(&answer.json(), "code")),
            (status, code)
        );
    }
    let none = get(&emulator, "/v2/groups/my_groups", &[]).await;
    assert_eq!(none.json()["code"], "AUTHENTICATION_ERROR");
}

#[tokio::test]
async fn a_groups_token_without_the_scope_names_those_it_has() {
    let other = "urn:globus:auth:scope:groups.api.globus.org:other";
    let config = config().resource_server(ResourceServer::new("groups.api.globus.org", &[other]));
    let emulator = Emulator::new(config).unwrap();
    let token = emulator
        .mint(&MintRequest::new(ALICE, APP.0).scope(other))
        .unwrap()
        .access_token;
    let answer = get_with_token(&emulator, "/v2/groups/my_groups", &token).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["provided_scopes"], serde_json::json!([other]));
}

#[tokio::test]
async fn identities_are_found_by_id_and_by_name() {
    let emulator = emulator();
    let token = emulator
        .mint(&MintRequest::new(BOB, APP.0))
        .unwrap()
        .access_token;
    let alice = emulator.sub(ALICE).unwrap();
    for (query, count) in [
        (
            "usernames=ALICE@anl.gov,nobody@x,alice@uni.test".to_owned(),
            2,
        ),
        (format!("ids={alice},unknown"), 1),
        ("usernames=nobody@x".to_owned(), 0),
    ] {
        let target = format!("/v2/api/identities?{query}");
        let found = get_with_token(&emulator, &target, &token).await.json();
        assert_eq!(
            found["identities"].as_array().unwrap().len(),
            count,
            "{query}"
        );
    }
    let one = get_with_token(&emulator, &format!("/v2/api/identities/{alice}"), &token).await;
    assert_eq!(one.json()["identity"]["username"], ALICE);
    let missing = get_with_token(&emulator, "/v2/api/identities/x", &token).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    for query in ["", "?ids=a&usernames=b"] {
        let answer = get_with_token(&emulator, &format!("/v2/api/identities{query}"), &token).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", APP.0, APP.1)));
    let target = "/v2/api/identities?usernames=alice@anl.gov";
    let found = get(&emulator, target, &[("authorization", &basic)]).await;
    assert_eq!(found.json()["identities"][0]["id"], *alice);
}

#[tokio::test]
async fn consents_are_listed_to_their_user() {
    let emulator = emulator();
    let scope = format!("openid {ACTION_ALL}[*{TRANSFER_SCOPE}]");
    let answer = tokens(
        &emulator,
        &[("scope", &scope), ("access_type", "offline")],
        ALICE,
    )
    .await;
    let alice = emulator.sub(ALICE).unwrap();
    let target = format!("/v2/api/identities/{alice}/consents?all=False");
    let token = text(&answer, "access_token");
    let listed = get_with_token(&emulator, &target, token).await.json();
    let consents = listed["consents"].as_array().unwrap();
    let summary: Vec<_> = consents
        .iter()
        .map(|consent| {
            let depth = consent["dependency_path"].as_array().unwrap().len();
            (text(consent, "scope_name"), text(consent, "client"), depth)
        })
        .collect();
    let inference = INFERENCE.0;
    let expected = [
        ("openid", APP.0, 1),
        (ACTION_ALL, APP.0, 1),
        (TRANSFER_SCOPE, inference, 2),
        (GROUPS_SCOPE, inference, 2),
    ];
    assert_eq!(summary, expected);
    assert_eq!(consents[2]["atomically_revocable"], true);
    assert_eq!(consents[2]["allows_refresh"], true);
    assert_eq!(consents[2]["status"], "approved");
    assert!(consents[2]["scope"].is_string() && consents[2]["created"].is_string());
    let all = get_with_token(&emulator, &target.replace("False", "True"), token).await;
    assert_eq!(all.status, StatusCode::FORBIDDEN);
    let bob = emulator
        .mint(&MintRequest::new(BOB, APP.0))
        .unwrap()
        .access_token;
    let refused = get_with_token(&emulator, &target, &bob).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn revoking_answers_inactive_and_ends_one_token() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let (access, refreshing) = (
        text(&answer, "access_token"),
        text(&answer, "refresh_token"),
    );
    let revoke = async |client, form: &[(&str, &str)]| {
        post(&emulator, "/v2/oauth2/token/revoke", client, form).await
    };
    let others = revoke(Some(INFERENCE), &[("token", refreshing)]).await;
    assert_eq!(others.body, r#"{"error":"invalid_client"}"#);
    for token in [refreshing, refreshing, "Agunknown"] {
        let answer = revoke(Some(APP), &[("token", token)]).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (StatusCode::OK, r#"{"active":false}"#)
        );
    }
    assert_eq!(
        refresh(&emulator, refreshing).await.status,
        StatusCode::UNAUTHORIZED
    );
    // Whether Globus ends this one, too, is not known.
    assert_eq!(
        introspect(&emulator, APP, access, &[]).await.json()["active"],
        true
    );
    let native = emulator
        .mint(&MintRequest::new(ALICE, NATIVE))
        .unwrap()
        .access_token;
    let answer = revoke(None, &[("token", &native), ("client_id", NATIVE)]).await;
    assert_eq!(answer.body, r#"{"active":false}"#);
    let userinfo = get_with_token(&emulator, "/v2/oauth2/userinfo", &native).await;
    assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED);
}

use super::*;

#[tokio::test]
async fn dependent_tokens_are_an_array() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("scope", ACTION_ALL)], ALICE).await;
    let token = text(&answer, "access_token");
    let grant = ("grant_type", "urn:globus:auth:grant_type:dependent_token");
    let form = [grant, ("token", token)];
    let dependent = post_token(&emulator, Some(INFERENCE), &form).await;
    let dependent = dependent.json();
    assert_eq!(dependent.as_array().unwrap().len(), 1);
    assert_eq!(dependent[0]["scope"], GROUPS_SCOPE);
    assert_eq!(dependent[0]["token_type"], "bearer");
    assert_eq!(dependent[0]["resource_server"], "groups.api.globus.org");
    assert!(dependent[0].get("refresh_token").is_none());
    let groups = text(&dependent[0], "access_token");
    let mine = get_with_token(&emulator, "/v2/groups/my_groups", groups)
        .await
        .json();
    assert_eq!(mine.as_array().unwrap().len(), 3);
    let offline = [grant, ("token", token), ("access_type", "offline")];
    let dependent = post_token(&emulator, Some(INFERENCE), &offline)
        .await
        .json();
    assert!(text(&dependent[0], "refresh_token").starts_with("Ag"));
    for client in [APP, (NATIVE, "")] {
        let answer = post_token(&emulator, Some(client), &form).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{client:?}");
    }
}

#[tokio::test]
async fn a_dependent_token_needs_the_users_consent() {
    let emulator = emulator();
    let grant = ("grant_type", "urn:globus:auth:grant_type:dependent_token");
    let answer = tokens(&emulator, &[("scope", ACTION_ALL)], ALICE).await;
    let token = text(&answer, "access_token");
    let transfer = [grant, ("token", token), ("scope", TRANSFER_SCOPE)];
    let refused = post_token(&emulator, Some(INFERENCE), &transfer).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let mut body = refused.json();
    let description = "User must approve your client using scopes. See 'unapproved_scopes'.";
    assert!(!text(&body["errors"][0], "id").is_empty());
    body["errors"][0].as_object_mut().unwrap().remove("id");
    let expected = serde_json::json!({
        "error": "dependent_consent_required",
        "error_description": description,
        "errors": [{
            "code": "DEPENDENT_CONSENT_REQUIRED",
            "status": "403",
            "title": description,
            "detail": format!("User hasn't approved the following scopes: {TRANSFER_SCOPE}"),
            "unapproved_scopes": [TRANSFER_SCOPE],
        }],
    });
    assert_eq!(body, expected);
    // The optional dependency is approved when it is asked for.
    let scope = format!("{ACTION_ALL}[{TRANSFER_SCOPE}]");
    tokens(&emulator, &[("scope", &scope)], ALICE).await;
    let approved = post_token(&emulator, Some(INFERENCE), &transfer)
        .await
        .json();
    assert_eq!(approved[0]["resource_server"], "transfer.api.globus.org");
    // A token without any consent behind it.
    let minted = emulator
        .mint(&MintRequest::new(ALICE, APP.0).scope(ACTION_ALL))
        .unwrap();
    let withdrawn = Revocation {
        username: Some(ALICE.to_owned()),
        consents: true,
        ..Revocation::default()
    };
    emulator.revoke(&withdrawn).unwrap();
    let form = [grant, ("token", &*minted.access_token)];
    assert_eq!(
        post_token(&emulator, Some(INFERENCE), &form).await.status,
        StatusCode::UNAUTHORIZED
    );
    let minted = emulator
        .mint(&MintRequest::new(ALICE, APP.0).scope(ACTION_ALL))
        .unwrap();
    let form = [grant, ("token", &*minted.access_token)];
    let refused = post_token(&emulator, Some(INFERENCE), &form).await;
    assert_eq!(
        refused.json()["errors"][0]["unapproved_scopes"][0],
        GROUPS_SCOPE
    );
}

use super::*;

#[tokio::test]
async fn an_unregistered_redirect_uri_ends_on_a_page() {
    let emulator = emulator();
    for (changes, detail) in [
        (
            [("redirect_uri", "https://app.test/oauth2/callback/")],
            "Mismatching redirect URI.",
        ),
        (
            [("redirect_uri", "https://app.test/oauth2/callback?x=1")],
            "Mismatching redirect URI.",
        ),
        (
            [("redirect_uri", "http://localhost:1/cb")],
            "Mismatching redirect URI.",
        ),
        ([("redirect_uri", "")], "Missing redirect URI."),
        ([("client_id", "nobody")], "Unknown client."),
    ] {
        let answer = get(&emulator, &authorization_url(&changes), &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{changes:?}");
        assert_eq!(answer.header("location"), "", "{changes:?}");
        assert!(answer.header("content-type").starts_with("text/html"));
        for part in [
            "Unable to Fulfill Your Request",
            detail,
            "OAUTH_AUTH_REQUEST_FAILURE",
        ] {
            assert!(answer.body.contains(part), "{changes:?}: {}", answer.body);
        }
    }
    let twice = format!("{}&state=again", authorization_url(&[]));
    assert_eq!(
        get(&emulator, &twice, &[]).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn other_mistakes_go_back_to_the_client_with_its_state() {
    let emulator = emulator();
    for (changes, error) in [
        ([("response_type", "")], "invalid_request"),
        ([("response_type", "token")], "unsupported_response_type"),
        ([("scope", "")], "invalid_scope"),
        ([("scope", "openid[")], "invalid_scope"),
        ([("scope", "openid nonsense")], "invalid_scope"),
        ([("scope", "openid[nonsense]")], "invalid_scope"),
        ([("scope", "offline_access")], "invalid_scope"),
        ([("prompt", "nonsense")], "invalid_request"),
        ([("code_challenge", "short")], "invalid_request"),
        ([("prompt", "none")], "login_required"),
    ] {
        let answer = get(&emulator, &authorization_url(&changes), &[]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{changes:?}");
        assert!(
            answer.header("location").starts_with(CALLBACK),
            "{changes:?}"
        );
        assert_eq!(answer.sent_back("error"), error, "{changes:?}");
        assert_eq!(answer.sent_back("state"), "the state", "{changes:?}");
    }
}

#[tokio::test]
async fn the_login_page_is_a_plain_form_and_says_what_it_is() {
    let changes = [
        (
            "scope",
            &*format!("openid {ACTION_ALL}[*{TRANSFER_SCOPE}] offline_access"),
        ),
        ("login_hint", BOB),
        ("session_message", "<b>Please</b>"),
    ];
    let url = authorization_url(&changes);
    let emulator = emulator();
    let answer = get(&emulator, &url, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    for part in [
        "Globus emulator — not Globus; for tests and demos",
        "Log in to use app",
        "<li>↳ urn:globus:auth:scope:transfer.api.globus.org:all, optional</li>",
        "keeping this access while you are away",
        "&#60;b&#62;Please&#60;/b&#62;",
        "linked to alice@anl.gov",
        "<form method=\"post\" action=\"/v2/web/login\">",
    ] {
        assert!(answer.body.contains(part), "{part} in {}", answer.body);
    }
    assert!(!answer.body.contains("<script"));
    // The hint comes first, but nobody is logged in by it.
    let first = answer.body.find("name=\"identity\"").unwrap();
    let bob = emulator.sub(BOB).unwrap();
    assert!(
        answer.body[first..].starts_with(&format!("name=\"identity\" value=\"{bob}\" autofocus"))
    );
    assert_eq!(answer.cookie(), "");
    // A look at the page changes nothing.
    assert_eq!(get(&emulator, &url, &[]).await.body, answer.body);
}

/// Comes back to the authorization endpoint with a cookie.
async fn again(emulator: &Emulator, cookie: &str, changes: &[(&str, &str)]) -> Answer {
    get(emulator, &authorization_url(changes), &[("cookie", cookie)]).await
}

#[tokio::test]
async fn a_login_leads_back_with_code_and_state_and_is_remembered() {
    let emulator = emulator();
    let first = log_in(&emulator, &[], ALICE).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER);
    assert!(first.sent_back("code").starts_with("Ag"));
    assert_eq!(first.sent_back("state"), "the state");
    let cookie = first.header("set-cookie");
    assert!(
        cookie.ends_with("HttpOnly; SameSite=Lax; Secure"),
        "{cookie}"
    );
    // With session and consent nothing is asked, not even with prompt=none.
    for changes in [&[][..], &[("prompt", "none")]] {
        let answer = again(&emulator, &first.cookie(), changes).await;
        assert_eq!(answer.status, StatusCode::FOUND);
        assert!(!answer.sent_back("code").is_empty(), "{changes:?}");
    }
    // But these want a page in spite of the session.
    for (prompt, title) in [("login", "Log in to use app"), ("consent", "Allow app?")] {
        let page = again(&emulator, &first.cookie(), &[("prompt", prompt)]).await;
        assert!(page.body.contains(title), "{prompt}");
    }
}

#[tokio::test]
async fn a_wider_scope_needs_a_new_consent() {
    let emulator = emulator();
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let wider = ("scope", TRANSFER_SCOPE);
    let page = again(&emulator, &cookie, &[wider]).await;
    assert!(page.body.contains("Allow app?") && page.body.contains("Log in as somebody else"));
    let silent = again(&emulator, &cookie, &[wider, ("prompt", "none")]).await;
    assert_eq!(silent.sent_back("error"), "consent_required");
    let url = authorization_url(&[wider]);
    let allowed = press(&emulator, &url, ("decision", "allow"), &cookie).await;
    assert!(!allowed.sent_back("code").is_empty());
    let answer = again(&emulator, &cookie, &[wider]).await;
    assert!(!answer.sent_back("code").is_empty());
}

#[tokio::test]
async fn another_login_makes_the_old_cookie_worthless() {
    let emulator = emulator();
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let url = authorization_url(&[("prompt", "login")]);
    let other = press(&emulator, &url, ("identity", ALICE), &cookie).await;
    assert!(!other.cookie().is_empty() && other.cookie() != cookie);
    let answer = again(&emulator, &cookie, &[("prompt", "none")]).await;
    assert_eq!(answer.sent_back("error"), "login_required");
}

#[tokio::test]
async fn allowing_without_a_login_is_not_enough() {
    let emulator = emulator();
    let url = authorization_url(&[]);
    let page = press(&emulator, &url, ("decision", "allow"), "").await;
    assert!(page.body.contains("Log in to use app"));
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let url = authorization_url(&[("prompt", "login")]);
    let page = press(&emulator, &url, ("decision", "allow"), &cookie).await;
    assert!(page.body.contains("Log in to use app"));
}

#[tokio::test]
async fn denying_leads_back_with_an_error() {
    let answer = press(
        &emulator(),
        &authorization_url(&[]),
        ("decision", "deny"),
        "",
    )
    .await;
    assert_eq!(answer.sent_back("error"), "access_denied");
    assert_eq!(answer.sent_back("state"), "the state");
}

#[tokio::test]
async fn the_session_ends_with_its_time_and_with_the_logout() {
    let emulator = emulator();
    let silent = authorization_url(&[("prompt", "none")]);
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    emulator.advance(86_340);
    let answer = get(&emulator, &silent, &[("cookie", &cookie)]).await;
    assert!(!answer.sent_back("code").is_empty());
    emulator.advance(61);
    let answer = get(&emulator, &silent, &[("cookie", &cookie)]).await;
    assert_eq!(answer.sent_back("error"), "login_required");

    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let logout = "/v2/web/logout?client_id=app&redirect_uri=https://app.test/bye&redirect_name=App";
    let page = get(&emulator, logout, &[("cookie", &cookie)]).await;
    assert!(
        page.body
            .contains("<a href=\"https://app.test/bye\">Back to App</a>"),
        "{page:?}"
    );
    assert!(page.header("set-cookie").contains("Max-Age=0"));
    let answer = get(&emulator, &silent, &[("cookie", &cookie)]).await;
    assert_eq!(answer.sent_back("error"), "login_required");
    let hostile = "/v2/web/logout?client=app&redirect_uri=javascript:alert(1)";
    assert!(!get(&emulator, hostile, &[]).await.body.contains("alert"));
}

#[tokio::test]
async fn session_requirements_are_enforced() {
    let emulator = emulator();
    for (requirement, username, met) in [
        (
            ("session_required_single_domain", "uni.test,other.test"),
            ALICE,
            false,
        ),
        (
            ("session_required_single_domain", "uni.test,other.test"),
            "alice@uni.test",
            true,
        ),
        (("session_required_single_domain", "anl.gov"), BOB, false),
        (
            ("session_required_identities", "alice@uni.test"),
            ALICE,
            false,
        ),
        (("session_required_policies", "policy"), ALICE, true),
        (("session_required_policies", "policy"), BOB, false),
        (("session_required_mfa", "True"), ALICE, false),
        (("session_required_mfa", "False"), ALICE, true),
    ] {
        let answer = log_in(&emulator, &[requirement], username).await;
        assert_eq!(
            !answer.sent_back("code").is_empty(),
            met,
            "{requirement:?} {username}"
        );
        assert_eq!(
            answer.body.contains("role=\"alert\""),
            !met,
            "{requirement:?} {username}"
        );
    }
}

#[tokio::test]
async fn a_linked_identity_is_added_to_the_session() {
    let emulator = emulator();
    let changes = [(
        "session_required_identities",
        "alice@anl.gov,alice@uni.test",
    )];
    let url = authorization_url(&changes);
    let first = press(&emulator, &url, ("identity", ALICE), "").await;
    assert!(
        first
            .body
            .contains("You must authenticate as alice@uni.test."),
        "{first:?}"
    );
    let second = press(
        &emulator,
        &url,
        ("identity", "alice@uni.test"),
        &first.cookie(),
    )
    .await;
    assert!(!second.sent_back("code").is_empty());
    // A lapsed policy asks again, although the session lives.
    let policy = authorization_url(&[("session_required_policies", "policy"), ("prompt", "none")]);
    let cookie = second.cookie();
    assert!(
        !get(&emulator, &policy, &[("cookie", &cookie)])
            .await
            .sent_back("code")
            .is_empty()
    );
    emulator.advance(601);
    let answer = get(&emulator, &policy, &[("cookie", &cookie)]).await;
    assert_eq!(answer.sent_back("error"), "login_required");
}

#[tokio::test]
async fn native_applications_use_loopback_and_pkce() {
    let emulator = emulator();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let auth_code = format!("{ISSUER}/v2/web/auth-code");
    for (redirect_uri, allowed) in [
        ("http://localhost:51234/x", true),
        ("http://127.0.0.1:1/", true),
        ("http://[::1]:1/", true),
        (&auth_code, true),
        ("https://localhost:1/", false),
        ("http://localhost.test:1/", false),
        ("http://localhost:1/#f", false),
        ("https://evil.test/v2/web/auth-code", false),
    ] {
        let pairs = [
            ("client_id", NATIVE),
            ("redirect_uri", redirect_uri),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ];
        let answer = get(&emulator, &authorization_url(&pairs), &[]).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{redirect_uri}");
    }
    for changes in [
        &[("code_challenge", "")][..],
        &[("code_challenge", challenge)],
        &[
            ("code_challenge", challenge),
            ("code_challenge_method", "plain"),
        ],
    ] {
        let native = [
            ("client_id", NATIVE),
            ("redirect_uri", "http://localhost:1/"),
        ];
        let changes: Vec<_> = native.iter().chain(changes).copied().collect();
        let answer = get(&emulator, &authorization_url(&changes), &[]).await;
        assert_eq!(answer.sent_back("error"), "invalid_request", "{changes:?}");
    }
}

#[tokio::test]
async fn the_code_page_shows_what_it_was_given_as_text() {
    let page = get(
        &emulator(),
        "/v2/web/auth-code?code=%3Cscript%3E&state=s",
        &[],
    )
    .await;
    assert!(page.body.contains("&#60;script&#62;"), "{}", page.body);
}

#[tokio::test]
async fn a_configured_user_is_logged_in_without_a_page() {
    let mut config = config();
    config.auto_login = Some(ALICE.to_owned());
    let emulator = Emulator::new(config).unwrap();
    for changes in [
        &[][..],
        &[("prompt", "login")],
        &[("prompt", "consent")],
        &[("session_required_single_domain", "uni.test")],
    ] {
        let answer = get(&emulator, &authorization_url(changes), &[]).await;
        assert!(
            !answer.sent_back("code").is_empty(),
            "{changes:?}: {answer:?}"
        );
        assert!(!answer.cookie().is_empty());
    }
    let silent = get(&emulator, &authorization_url(&[("prompt", "none")]), &[]).await;
    assert_eq!(silent.sent_back("error"), "login_required");
    let unmet = [("session_required_mfa", "True")];
    let page = get(&emulator, &authorization_url(&unmet), &[]).await;
    assert!(page.body.contains("second factor"));
}

#[tokio::test]
async fn approving_needs_no_browser() {
    let emulator = emulator();
    let url = format!("{ISSUER}{}", authorization_url(&[]));
    let back = emulator.approve(&url, ALICE).await.unwrap();
    assert!(back.starts_with(CALLBACK) && parameter(&back, "code").is_some());
    assert_eq!(emulator.approve(&url, "nobody").await, None);
}

//! What must not be in a log, nor write one (line 12).

use globus_auth_tests::globus::{Endpoint, Fault, FaultOrder};
use globus_auth_tests::harness::Stage;
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::wire::Wire;

/// The harness searches the log for these when the sidecar ends, at the most talkative level.
#[tokio::test]
async fn nothing_that_a_client_sends_beside_its_path_is_logged() {
    let stage = Stage::start().await;
    let secrets = stage.sidecar.secrets().clone();
    let canary = |name: &str| {
        let canary = format!("canary-{name}-7f3a9c");
        secrets.add(&canary);
        canary
    };
    let alice = stage.logged_in(ALICE).await;
    for path in [
        "/",
        "/oauth2/auth",
        "/oauth2/start",
        "/oauth2/callback",
        "/oauth2/sign_in",
        "/oauth2/userinfo",
        "/oauth2/nothing",
        "/reset",
        "/truncated",
    ] {
        for browser in [&alice, &stage.browser()] {
            let query = format!(
                "{path}?token={}&code={}&state={}&error={}&rd={}&x={}",
                canary("token"),
                canary("code"),
                canary("state"),
                canary("error"),
                canary("rd"),
                canary("query")
            );
            for authorization in ["Bearer", "Basic", "Nonsense"] {
                let request = browser.get(&query);
                request
                    .header(
                        "authorization",
                        &format!("{authorization} {}", canary("authorization")),
                    )
                    .header(
                        "cookie",
                        &format!(
                            "x={}; __Host-globus-auth-login-x={}",
                            canary("cookie"),
                            canary("attempt")
                        ),
                    )
                    .header("x-api-key", &canary("key"))
                    .header("user-agent", &canary("agent"))
                    .header(
                        "referer",
                        &format!("https://app.test/?{}", canary("referer")),
                    )
                    .send()
                    .await;
            }
        }
    }
    let body = canary("body");
    alice.post("/", body.clone()).send().await;
    stage.browser().post("/oauth2/callback", body).send().await;
    assert!(secrets.count() > 10);
}

#[tokio::test]
async fn no_secret_of_a_login_is_logged_when_it_goes_wrong() {
    let stage = Stage::start().await;
    for (endpoint, fault) in [
        (Endpoint::Token, Fault::BadSignature),
        (Endpoint::Token, Fault::Malformed),
        (Endpoint::Token, Fault::InvalidGrant),
        (Endpoint::Token, Fault::WrongNonce),
        (
            Endpoint::Token,
            Fault::OauthError {
                error: "canary-error-of-the-provider".to_owned(),
                error_description: Some("canary-description-of-it".to_owned()),
                status: None,
            },
        ),
    ] {
        stage.globus().order_fault(FaultOrder::new(endpoint, fault));
        // The browser tells the harness of state, code and cookies.
        let page = stage.browser().log_in_until_callback("/", ALICE).await;
        assert_ne!(page.status, 302);
        assert!(!page.text().contains("canary"), "{}", page.text());
        stage.globus().clear_faults();
    }
}

#[tokio::test]
async fn no_request_writes_a_line_of_its_own() {
    let stage = Stage::start().await;
    let forged = "{\"level\":\"INFO\",\"message\":\"forged\",\"user\":\"root\"}";
    for target in [
        "/%0a%7B%22level%22:%22INFO%22%7D".to_owned(),
        "/\",\"status\":200,\"x\":\"".to_owned(),
        "/\u{1b}[2J\u{1b}[31mred".to_owned(),
        "/\u{85}\u{2028}x".to_owned(),
        format!("/{forged}"),
        format!("/x\r\n{forged}"),
        format!("/x\n{forged}"),
        "/\u{7f}\u{8}\u{8}\u{8}".to_owned(),
    ] {
        for header in [
            format!("User-Agent: {forged}\r\n"),
            format!("X-Request-Id: \u{1b}[31m{forged}\r\n"),
        ] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: app.test\r\n{header}Connection: close\r\n\r\n"
            );
            let mut wire = Wire::connect(stage.sidecar.address()).await;
            wire.send(request.as_bytes()).await;
            wire.finish().await;
            wire.closed().await;
        }
    }
    // Each line is one object of ours, with what was sent as a text in one member.
    for event in stage.sidecar.events() {
        assert_ne!(event["message"], "forged", "{event}");
        assert_eq!(event["user"].as_str().filter(|user| *user == "root"), None);
        let path = event["path"].as_str().unwrap_or_default();
        assert!(
            event["status"] != 200 || !path.contains("status"),
            "{event}"
        );
    }
}

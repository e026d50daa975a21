//! A provider that is down, slow or wrong: nobody gets in by it, nobody is thrown out by it, and it is
//! over when it is over.

use std::time::Duration;

use futures_util::future::join_all;
use globus_auth_tests::globus::{Endpoint, Fault, FaultOrder, When};
use globus_auth_tests::harness::scripted::{self, Scripted};
use globus_auth_tests::harness::sidecar::SESSION_COOKIE;
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Browser, Page, Stage, eventually};
use rstest::rstest;
use tokio::time::{Instant, timeout};

/// Logs in with a fault in force, and returns what the callback answered.
async fn log_in_with(stage: &Stage, endpoint: Endpoint, fault: Fault) -> Page {
    stage.globus().order_fault(FaultOrder::new(endpoint, fault));
    let page = stage.browser().log_in_until_callback("/deep", ALICE).await;
    stage.globus().clear_faults();
    page
}

fn assert_refused(page: &Page, status: u16, name: &str) {
    assert_eq!(page.status, status, "{name}: {}", page.text());
    assert_eq!(page.set_cookie(SESSION_COOKIE), None, "{name}");
}

async fn assert_login_works(stage: &Stage) {
    let page = stage.browser().log_in("/after", ALICE).await;
    assert_eq!(page.reflection().target, "/after");
}

/// Tries until a login works again, as people do.
async fn recovered(stage: &Stage) {
    eventually("a login to work again", async || {
        let started = stage.browser().open("/").send().await;
        (started.status == 302).then_some(())
    })
    .await;
    assert_login_works(stage).await;
}

#[tokio::test]
async fn an_id_token_that_is_wrong_in_any_way_is_refused() {
    let stage = Stage::start().await;
    for fault in [
        Fault::AlgHs256,
        Fault::AlgNone,
        Fault::BadSignature,
        Fault::ExpiredIdToken,
        Fault::MissingNonce,
        Fault::WrongNonce,
        Fault::WrongAudience,
        Fault::WrongIssuer,
        Fault::OmitIdToken,
    ] {
        let name = format!("{fault:?}");
        let page = log_in_with(&stage, Endpoint::Token, fault).await;
        assert_refused(&page, 403, &name);
        assert!(
            page.text().contains("could not be completed"),
            "{name}: {}",
            page.text()
        );
    }
    assert_eq!(stage.upstream().requests(), 0);
    assert_login_works(&stage).await;
}

#[tokio::test]
async fn a_refusal_of_the_token_endpoint_is_final_and_an_outage_is_not() {
    let stage = Stage::start().await;
    let status = |status| Fault::Status {
        status,
        retry_after_seconds: None,
        when: When::Before,
    };
    let client = || Fault::OauthError {
        error: "invalid_client".to_owned(),
        error_description: Some("<b>detail</b>".to_owned()),
        status: Some(401),
    };
    let huge = Fault::HugeBody { bytes: 3_000_000 };
    for (fault, expected) in [
        (Fault::InvalidGrant, 403),
        (client(), 403),
        (Fault::Malformed, 503),
        (huge, 503),
        (status(500), 503),
        (status(503), 503),
        (status(429), 503),
        (Fault::Reset { when: When::Before }, 503),
        (Fault::Reset { when: When::After }, 503),
    ] {
        let name = format!("{fault:?}");
        let page = log_in_with(&stage, Endpoint::Token, fault).await;
        assert_refused(&page, expected, &name);
        assert!(!page.text().contains("detail"), "{name}: {}", page.text());
    }
    assert_login_works(&stage).await;
}

#[tokio::test]
async fn whoever_failed_can_go_on_to_where_they_wanted() {
    let stage = Stage::start().await;
    for fault in [Fault::BadSignature, Fault::Malformed] {
        let page = log_in_with(&stage, Endpoint::Token, fault).await;
        assert!(
            page.text().contains("/oauth2/start?rd=%2Fdeep\""),
            "{}",
            page.text()
        );
    }
}

#[rstest]
#[case(Endpoint::Discovery, Fault::WrongIssuer)]
#[case(Endpoint::Discovery, Fault::Malformed)]
#[case(Endpoint::Discovery, Fault::HugeBody { bytes: 3_000_000 })]
#[case(Endpoint::Discovery, Fault::Reset { when: When::Before })]
#[tokio::test]
async fn a_provider_that_cannot_be_discovered_is_asked_again(
    #[case] endpoint: Endpoint,
    #[case] fault: Fault,
) {
    let stage = Stage::start().await;
    stage.globus().order_fault(FaultOrder::new(endpoint, fault));
    let page = stage.browser().open("/deep?x=1").send().await;
    assert_refused(&page, 503, "a start");
    assert!(
        page.text().contains("Globus does not answer"),
        "{}",
        page.text()
    );
    assert!(
        page.text().contains("/oauth2/start?rd=%2Fdeep%3Fx%3D1\""),
        "{}",
        page.text()
    );
    assert!(!page.header("retry-after").is_empty(), "{page:?}");
    stage.globus().clear_faults();
    recovered(&stage).await;
}

#[rstest]
#[case(Fault::Malformed)]
#[case(Fault::HugeBody { bytes: 3_000_000 })]
#[case(Fault::Status { status: 500, retry_after_seconds: None, when: When::Before })]
#[tokio::test]
async fn keys_that_cannot_be_had_let_nobody_in(#[case] fault: Fault) {
    let stage = Stage::start().await;
    let page = log_in_with(&stage, Endpoint::Jwks, fault).await;
    assert_refused(&page, 503, "a callback");
    eventually("a login to work again", async || {
        let page = stage.browser().log_in_until_callback("/", ALICE).await;
        (page.status == 302).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_found_although_keys_have_no_names() {
    let stage = Stage::start().await;
    assert_login_works(&stage).await;
    assert!(stage.globus().rotate_signing_key());
    eventually("a login with the new key", async || {
        let page = stage.browser().log_in_until_callback("/", ALICE).await;
        (page.status == 302).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_provider_is_down_sessions_go_on_and_logins_read_why_not() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    stage.stop_provider().await;
    assert_eq!(
        alice.open("/work").send().await.reflection().target,
        "/work"
    );
    assert_eq!(alice.get("/oauth2/auth").send().await.status, 202);
    // What was learnt before is still good for the way there.
    stage.sidecar.restart().await;
    let alice = alice.at(stage.sidecar.address());
    assert_eq!(
        alice.open("/work").send().await.reflection().target,
        "/work"
    );
    let page = stage.browser().open("/").send().await;
    assert_eq!(page.status, 503);
    assert!(
        page.text()
            .contains("Whoever is signed in already can go on"),
        "{}",
        page.text()
    );
    let json = stage.browser().get("/oauth2/start").send().await;
    assert_eq!(json.status, 503);
    assert_eq!(
        json.json::<serde_json::Value>()["error"],
        "provider_unavailable"
    );
    // A program is told how to authenticate, which needs nobody else.
    assert_eq!(stage.browser().get("/").send().await.status, 401);
    stage.start_provider().await;
    recovered(&stage).await;
}

#[tokio::test]
async fn a_callback_while_the_provider_is_down_says_so() {
    let mut stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/deep", ALICE).await;
    stage.stop_provider().await;
    let page = browser.open(&callback).send().await;
    assert_refused(&page, 503, "a callback");
    stage.start_provider().await;
    assert_login_works(&stage).await;
}

#[tokio::test]
async fn a_slow_provider_keeps_only_those_waiting_who_need_it() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let token = Fault::Slow {
        delay_ms: 1500,
        when: When::Before,
    };
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Token, token));
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let (login, served) = tokio::join!(
        async {
            let page = browser.open(&callback).send().await;
            assert_eq!(page.status, 302);
            Instant::now()
        },
        async {
            for _ in 0..20 {
                assert_eq!(alice.get("/").send().await.status, 200);
            }
            Instant::now()
        }
    );
    assert!(served < login, "sessions waited for the provider");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let stage = Stage::start().await;
    let silence = Fault::Slow {
        delay_ms: 3_600_000,
        when: When::Before,
    };
    let page = log_in_with(&stage, Endpoint::Token, silence).await;
    assert_refused(&page, 503, "a silent token endpoint");
}

#[tokio::test]
async fn signing_out_needs_no_provider() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    // Nothing is known of the provider after a restart.
    stage.sidecar.restart().await;
    let alice = alice.at(stage.sidecar.address());
    let silence = Fault::Slow {
        delay_ms: 3_600_000,
        when: When::Before,
    };
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Discovery, silence));
    let page = timeout(
        Duration::from_secs(5),
        alice.post("/oauth2/sign_out", "").send(),
    )
    .await;
    assert_eq!(page.expect("an answer at once").status, 200);
    assert_eq!(alice.get("/").send().await.status, 401);
}

#[tokio::test]
async fn a_provider_that_always_names_itself_must_do_so() {
    let provider = Scripted::start(|request, address| {
        let origin = format!("http://{address}");
        let metadata = serde_json::json!({
            "issuer": origin,
            "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"),
            "jwks_uri": format!("{origin}/keys"),
            "authorization_response_iss_parameter_supported": true,
        });
        match request.target() {
            "/.well-known/openid-configuration" => scripted::json(200, &metadata),
            _ => scripted::json(400, &serde_json::json!({"error": "invalid_grant"})),
        }
    })
    .await;
    let issuer = provider.origin();
    let setup =
        Stage::setup().config(move |config| config.provider.issuer = issuer.parse().unwrap());
    let stage = setup.start().await;
    let redemptions = || {
        provider
            .requests()
            .iter()
            .filter(|request| request.target() == "/token")
            .count()
    };
    for (parameter, expected) in [
        (String::new(), 0),
        (format!("&iss={}", provider.origin()), 1),
    ] {
        let browser = stage.browser();
        let started = browser.open("/").send().await;
        let state = started.sent_on("state").unwrap();
        let callback = format!("/oauth2/callback?code=x&state={state}{parameter}");
        assert_eq!(browser.open(&callback).send().await.status, 403);
        assert_eq!(redemptions(), expected, "{parameter:?}");
    }
}

#[tokio::test]
async fn many_who_fail_at_once_cause_one_request() {
    let stage = Stage::start().await;
    let reset = Fault::Reset { when: When::Before };
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Discovery, reset));
    let browsers: Vec<Browser> = (0..50).map(|_| stage.browser()).collect();
    let pages = join_all(browsers.iter().map(|browser| browser.open("/").send())).await;
    assert!(pages.iter().all(|page| page.status == 503));
    assert_eq!(stage.globus().requests().count("discovery"), 1);
}

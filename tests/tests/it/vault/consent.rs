//! A workload uses nothing before its user allows it, whatever the issuer asked before.

use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_tests::globus::config::User;
use globus_auth_tests::globus::faults::{Endpoint, Fault, FaultOrder};

use super::*;

/// Logs in, and is on the page that asks for consent.
async fn asked(stage: &Stage) -> (Browser, Page) {
    let alice = stage.browser();
    let back = alice.log_in_until_callback("/reflect?a=b", ALICE).await;
    let page = alice.follow(&back).await;
    assert_eq!(page.url.path(), "/oauth2/consent");
    (alice, page)
}

#[tokio::test]
async fn a_workload_gets_nothing_before_its_user_allows_it() {
    let stage = setup().start().await;
    let (alice, page) = asked(&stage).await;
    let text = page.text();
    let (namespace, proxy) = ("ml", "mlflow");
    for named in [
        ALICE,
        namespace,
        proxy,
        "alcf",
        OTHER_SCOPE,
        "flows",
        FLOWS_SCOPE,
    ] {
        assert!(text.contains(named), "{named}: {text}");
    }
    assert!(text.contains("see how your runs of flows are"), "{text}");
    assert!(
        !text.contains("Disconnect"),
        "nothing but the question: {text}"
    );
    let before = got(&alice).await;
    assert_eq!((before.alcf, before.flows), (None, None));
    let pass = before.pass.unwrap();
    let headers = [("X-Globus-Auth-Session", pass.as_str())];
    let (status, answer) = through_route(&stage, "/alcf/v1", &headers).await;
    assert_eq!(
        (status, &answer["error"]),
        (403, &json!("consent_required"))
    );
    assert_eq!(
        answer["consent_url"],
        format!("{EXTERNAL_URL}/oauth2/consent")
    );

    let allowed = alice.press(&page, "Allow").await;
    assert_eq!(allowed.status, StatusCode::SEE_OTHER);
    assert_eq!(
        allowed.target().as_str(),
        format!("{EXTERNAL_URL}/reflect?a=b")
    );
    assert!(got(&alice).await.alcf.is_some());
    assert_eq!(through_route(&stage, "/alcf/v1", &headers).await.0, 200);
    // Nobody is asked twice: neither by the page nor at the next login.
    let page = alice.open("/oauth2/consent?rd=%2Fx").send().await;
    assert_eq!(page.target().path(), "/x");
    let back = alice
        .log_in_until_callback("/oauth2/start?rd=%2Fy", ALICE)
        .await;
    assert_eq!(back.target().path(), "/y");
}

#[tokio::test]
async fn what_a_user_does_not_allow_is_taken_back() {
    let stage = setup().start().await;
    let (alice, page) = asked(&stage).await;
    let refused = alice.press(&page, "Do not allow").await;
    assert_eq!(refused.target().path(), "/reflect");
    // Two tokens of each of two services.
    assert_eq!(stage.globus().requests().count("revoke"), 4);
    let got = got(&alice).await;
    assert_eq!((got.alcf, got.flows), (None, None));
    let page = alice.open("/oauth2/connections").send().await.text();
    assert!(page.contains("Not connected"), "{page}");
}

/// Whoever shares the client with a workload that the user trusts gets nothing by that.
#[tokio::test]
async fn each_workload_asks_for_itself() {
    let stage = setup()
        .vault_config(|config| {
            let other = Consumer {
                service_account: OTHER_WORKLOAD.service_account.to_owned(),
                ..config.consumers[0].clone()
            };
            config.consumers.push(other);
        })
        .start()
        .await;
    log_in(&stage, POD, ALICE).await.unwrap();
    let session = log_in_only(&stage, OTHER_WORKLOAD, ALICE).await.unwrap();
    let handle = handle_of(&stage, OTHER_WORKLOAD, &session).await.unwrap();
    let answer = token_for(&stage, OTHER_WORKLOAD, &handle, OTHER_SERVICE).await;
    assert!(
        matches!(&answer, Ok(TokenAnswer::ConsentRequired { scopes }) if *scopes == [OTHER_SCOPE]),
        "{answer:?}"
    );
}

#[rstest]
#[case::less("resource_server=SERVICE&decision=allow")]
#[case::other("resource_server=SERVICE&scope=other&decision=allow")]
#[tokio::test]
async fn a_consent_is_to_what_was_shown(#[case] form: &str) {
    let stage = setup().start().await;
    let (alice, _page) = asked(&stage).await;
    let form = form.replace("SERVICE", OTHER_SERVICE);
    let answer = post(&alice, form, "same-origin").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(got(&alice).await.alcf, None);
}

#[tokio::test]
async fn another_site_cannot_consent_for_a_user() {
    let stage = setup().start().await;
    let (alice, _page) = asked(&stage).await;
    let form = format!("resource_server={OTHER_SERVICE}&scope={OTHER_SCOPE}&decision=allow");
    let answer = post(&alice, form, "cross-site").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(got(&alice).await.alcf, None);
}

/// What the workload shows is of the same origin as these pages: its scripts can send everything but a form that a
/// person sees.
#[rstest]
#[case::fetch("cors", "empty")]
#[case::beacon("no-cors", "empty")]
#[case::frame("navigate", "iframe")]
#[tokio::test]
async fn a_script_of_the_workload_cannot_consent_for_a_user(
    #[case] mode: &str,
    #[case] destination: &str,
) {
    let stage = setup().start().await;
    let (alice, _page) = asked(&stage).await;
    let form = format!("resource_server={OTHER_SERVICE}&scope={OTHER_SCOPE}&decision=allow");
    for (path, form) in [
        ("/oauth2/consent", form),
        ("/oauth2/connections", format!("disconnect={OTHER_SERVICE}")),
    ] {
        let answer = alice
            .post(path, form)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-dest", destination)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(got(&alice).await.alcf, None);
    assert_eq!(stage.globus().requests().count("revoke"), 0);
}

async fn post(browser: &Browser, form: String, site: &str) -> Page {
    browser
        .post("/oauth2/consent", form)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", site)
        .send()
        .await
}

/// Who may not enter leaves nothing behind.
#[tokio::test]
async fn a_login_that_the_rules_refuse_keeps_no_tokens() {
    let stage = setup().start().await;
    let mallory = stage.browser();
    let page = mallory.log_in_until_callback("/", MALLORY).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(stage.globus().requests().count("revoke"), 4);
}

#[tokio::test]
async fn a_login_that_is_not_what_is_required_keeps_no_tokens() {
    let required = SessionRequirements {
        session_required_policies: vec!["policy-1".to_owned()],
        ..SessionRequirements::default()
    };
    let stage = setup()
        .config(|config| config.provider.session_requirements = required)
        .globus(|mut globus| {
            globus.users.retain(|user| user.username != ALICE);
            globus.user(User {
                policies: vec!["policy-1".to_owned()],
                ..User::new(ALICE)
            })
        })
        .start()
        .await;
    let unmet = FaultOrder::new(Endpoint::Introspect, Fault::SessionPolicyNotMet);
    stage.globus().order_fault(unmet);
    let page = stage.browser().log_in_until_callback("/", ALICE).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(stage.globus().requests().count("revoke"), 4);
}

/// A second login in the same browser leaves one session, and with it everything ends.
#[tokio::test]
async fn the_session_whose_place_another_takes_does_not_keep_tokens() {
    let stage = setup().start().await;
    let alice = stage.logged_in(ALICE).await;
    alice.log_in("/oauth2/start?rd=/&prompt=login", ALICE).await;
    assert!(got(&alice).await.alcf.is_some());
    alice.get("/oauth2/sign_out").send().await;
    eventually("every token to be taken back", async || {
        let revoked = stage.globus().requests().count("revoke");
        (revoked >= 4).then_some(())
    })
    .await;
}

//! Logging in, as a person does and as attackers would like to.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use globus_auth_tests::globus::Emulator;
use globus_auth_tests::harness::sidecar::{
    CLIENT_ID, EXTERNAL_URL, LOGIN_COOKIE_PREFIX, SESSION_COOKIE,
};
use globus_auth_tests::harness::stage::{ALICE, MALLORY};
use globus_auth_tests::harness::{Browser, Page, Stage};
use rstest::rstest;
use url::form_urlencoded;

/// Codes that were redeemed, or tried to be.
fn redemptions(globus: &Emulator) -> u64 {
    globus.requests().count("token/authorization_code")
}

/// Logs in at the provider without a page, and returns where the browser is sent.
async fn approve(stage: &Stage, started: &Page, username: &str) -> String {
    let callback = stage.globus().approve(started.location(), username).await;
    callback.expect("a callback")
}

fn parameters(address: &str) -> BTreeMap<String, String> {
    let query = address.split_once('?').unwrap_or_default().1;
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// The callback's address with one parameter changed, or left out.
fn with_parameter(callback: &str, name: &str, value: Option<&str>) -> String {
    let mut parameters = parameters(callback);
    match value {
        Some(value) => parameters.insert(name.to_owned(), value.to_owned()),
        None => parameters.remove(name),
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    format!("/oauth2/callback?{query}")
}

fn assert_no_session(page: &Page) {
    assert_eq!(page.set_cookie(SESSION_COOKIE), None, "{page:?}");
}

#[tokio::test]
async fn a_person_without_script_logs_in_and_reaches_the_page_asked_for() {
    let stage = Stage::start().await;
    let page = stage.browser().log_in("/deep?x=1", ALICE).await;
    assert_eq!(page.status, 200);
    let seen = page.reflection();
    assert_eq!(seen.target, "/deep?x=1");
    assert_eq!(
        seen.values("x-forwarded-email").collect::<Vec<_>>(),
        [ALICE]
    );
}

#[tokio::test]
async fn the_request_to_the_provider_has_all_that_binds_it_to_this_browser() {
    let stage = Stage::start().await;
    let started = stage.browser().open("/deep").send().await;
    assert_eq!(started.status, 302);
    assert_eq!(started.header("cache-control"), "no-store");
    assert!(
        started
            .location()
            .starts_with(&stage.globus().url("/v2/oauth2/authorize?"))
    );
    let sent = parameters(started.location());
    let fixed = [
        ("client_id", CLIENT_ID),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "https://app.test/oauth2/callback"),
        ("response_type", "code"),
        ("scope", "openid email profile"),
    ];
    for (name, value) in fixed {
        assert_eq!(sent[name], value);
    }
    for name in ["state", "nonce", "code_challenge"] {
        assert!(sent[name].len() >= 32, "{name} is {:?}", sent[name]);
    }
    assert_eq!(sent.len(), 8, "{sent:?}");
    let cookies = started.set_cookies();
    let name = format!("{LOGIN_COOKIE_PREFIX}{}", &sent["state"][..8]);
    let cookie = started.set_cookie(&name).expect("a cookie of this attempt");
    assert_eq!(cookies.len(), 1);
    let attributes = "; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax";
    assert!(cookie.ends_with(attributes), "{cookie}");
    // Nothing of the attempt can be read from the cookie.
    for name in ["state", "nonce"] {
        assert!(!cookie.contains(&sent[name]));
    }
}

#[tokio::test]
async fn two_attempts_share_no_secret() {
    let stage = Stage::start().await;
    let (one, other) = (
        stage.browser().open("/").send().await,
        stage.browser().open("/").send().await,
    );
    let (one, other) = (parameters(one.location()), parameters(other.location()));
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(one[name], other[name]);
    }
}

#[tokio::test]
async fn a_callback_sets_one_session_cookie_and_forgets_the_attempt() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let page = browser.log_in_until_callback("/deep?x=1", ALICE).await;
    assert_eq!((page.status.as_u16(), page.location()), (302, "/deep?x=1"));
    assert_eq!(page.header("cache-control"), "no-store");
    let session = page.set_cookie(SESSION_COOKIE).expect("a session");
    let attributes = "; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax";
    assert!(session.ends_with(attributes), "{session}");
    assert!(session.len() < 1024, "{}", session.len());
    assert_eq!(browser.cookie_names(), [SESSION_COOKIE]);
}

#[tokio::test]
async fn every_login_makes_a_new_session_whatever_the_browser_had_before() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    browser.log_in("/", ALICE).await;
    let planted = browser.cookie(SESSION_COOKIE);
    browser.log_in("/oauth2/start?rd=/", ALICE).await;
    assert_ne!(browser.cookie(SESSION_COOKIE), planted);
}

#[tokio::test]
async fn the_state_is_compared_before_the_code_is_redeemed() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let other_attempt = stage.browser().open("/").send().await;
    let other_state = parameters(other_attempt.location())["state"].clone();
    let state = parameters(&callback)["state"].clone();
    let wrong_end = format!("{}{}", &state[..8], &other_state[8..]);
    for (value, status) in [
        (None, 400),
        (Some(""), 400),
        (Some(&state[..8]), 403),
        (Some(&state[..31]), 403),
        (Some(&format!("{state}A")), 403),
        (Some(&other_state), 403),
        (Some(&wrong_end), 403),
        (Some("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"), 403),
        (Some("; Path=x"), 403),
    ] {
        let tried = browser.thief();
        let page = tried
            .open(&with_parameter(&callback, "state", value))
            .send()
            .await;
        assert_eq!(page.status, status, "{value:?}");
        assert_no_session(&page);
    }
    assert_eq!(redemptions(stage.globus()), 0);
    assert_eq!(browser.open(&callback).send().await.status, 302);
}

#[rstest]
#[case("code", None)]
#[case("code", Some(""))]
#[tokio::test]
async fn a_callback_without_code_is_not_one(#[case] name: &str, #[case] value: Option<&str>) {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let page = browser
        .open(&with_parameter(&callback, name, value))
        .send()
        .await;
    assert_eq!(page.status, 400);
    assert_no_session(&page);
}

#[tokio::test]
async fn a_parameter_that_comes_twice_refuses_the_callback() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    for extra in ["code=evil", "state=evil", "iss=a&iss=b"] {
        let page = browser
            .thief()
            .open(&format!("{callback}&{extra}"))
            .send()
            .await;
        assert_eq!(page.status, 400, "{extra}");
        assert_no_session(&page);
    }
    assert_eq!(redemptions(stage.globus()), 0);
}

#[tokio::test]
async fn a_callback_in_another_browser_logs_nobody_in() {
    let stage = Stage::start().await;
    // The attacker logs in and sends the victim the last step.
    let callback = stage.browser().log_in_at_provider("/", MALLORY).await;
    let victim = stage.browser();
    let page = victim.open(&callback).send().await;
    assert_eq!(page.status, 403);
    assert_eq!(victim.cookie_names(), Vec::<String>::new());
    assert_eq!(redemptions(stage.globus()), 0);
}

#[tokio::test]
async fn a_code_of_another_login_does_not_fit_the_verifier() {
    let stage = Stage::start().await;
    let (attacker, victim) = (stage.browser(), stage.browser());
    let stolen = parameters(&attacker.log_in_at_provider("/", ALICE).await)["code"].clone();
    let own = victim.log_in_at_provider("/", ALICE).await;
    let page = victim
        .open(&with_parameter(&own, "code", Some(&stolen)))
        .send()
        .await;
    assert_eq!(page.status, 403);
    assert_no_session(&page);
    let log = stage.globus().requests();
    let refused = log
        .requests
        .iter()
        .find_map(|request| request.reason.as_deref());
    assert_eq!(refused, Some("the verifier is wrong"));
}

#[tokio::test]
async fn a_callback_works_once() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let thief = browser.thief();
    assert_eq!(browser.open(&callback).send().await.status, 302);
    // With the attempt's cookie, which the browser has dropped by now.
    let page = thief.open(&callback).send().await;
    assert_eq!(page.status, 403);
    assert_no_session(&page);
    assert_eq!(redemptions(stage.globus()), 1);
}

#[tokio::test]
async fn of_many_simultaneous_callbacks_with_one_code_one_wins() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let thieves: Vec<Browser> = (0..20).map(|_| browser.thief()).collect();
    let pages = join_all(thieves.iter().map(|thief| thief.open(&callback).send())).await;
    let sessions = pages
        .iter()
        .filter(|page| page.set_cookie(SESSION_COOKIE).is_some());
    assert_eq!(sessions.count(), 1);
    assert_eq!(redemptions(stage.globus()), 1);
}

#[tokio::test]
async fn somebody_who_goes_back_in_the_browser_lands_in_the_application() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/deep", ALICE).await;
    browser.open(&callback).send().await;
    for again in [
        callback.as_str(),
        "/oauth2/callback",
        "/oauth2/callback?code=x&state=unknown-state",
    ] {
        let page = browser.open(again).send().await;
        assert_eq!(
            (page.status.as_u16(), page.location()),
            (302, "/"),
            "{again}"
        );
        assert_eq!(page.set_cookie(SESSION_COOKIE), None);
    }
}

#[tokio::test]
async fn an_attempt_of_another_proxy_does_not_count() {
    let (stage, other) = (Stage::start().await, Stage::start().await);
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let page = browser
        .at(other.sidecar.address())
        .open(&callback)
        .send()
        .await;
    assert_eq!(page.status, 403);
    assert_no_session(&page);
    assert_eq!(redemptions(other.globus()), 0);
}

#[tokio::test]
async fn two_tabs_do_not_disturb_each_other() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let first = browser.log_in_at_provider("/first", ALICE).await;
    let second = browser.log_in_at_provider("/second", ALICE).await;
    for (callback, path) in [(first, "/first"), (second, "/second")] {
        let page = browser.open(&callback).send().await;
        assert_eq!((page.status.as_u16(), page.location()), (302, path));
    }
    assert_eq!(browser.cookie_names(), [SESSION_COOKIE]);
}

#[tokio::test]
async fn eight_tabs_that_finish_in_any_order_all_finish() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let mut callbacks = Vec::new();
    for tab in 0..8 {
        let started = browser.open(&format!("/tab/{tab}")).send().await;
        callbacks.push((
            approve(&stage, &started, ALICE).await,
            format!("/tab/{tab}"),
        ));
    }
    callbacks.swap(0, 5);
    callbacks.reverse();
    for (callback, path) in callbacks {
        let page = browser.open(&callback).send().await;
        assert_eq!(
            (page.status.as_u16(), page.location()),
            (302, path.as_str())
        );
    }
}

#[tokio::test]
async fn a_ninth_tab_makes_the_oldest_attempt_go_and_no_other() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    for _ in 0..30 {
        browser.open("/").send().await;
        assert!(
            browser.cookie_names().len() <= 8,
            "{:?}",
            browser.cookie_names()
        );
    }
    let last = browser.log_in("/last", ALICE).await;
    assert_eq!(last.reflection().target, "/last");
}

#[tokio::test]
async fn fifty_logins_of_one_browser_that_were_started_at_once_all_finish() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let paths: Vec<String> = (0..50).map(|tab| format!("/tab/{tab}")).collect();
    let started = join_all(paths.iter().map(|path| browser.open(path).send())).await;
    let callbacks = join_all(started.iter().map(|page| approve(&stage, page, ALICE))).await;
    let pages = join_all(
        callbacks
            .iter()
            .map(|callback| browser.open(callback).send()),
    )
    .await;
    for (page, path) in pages.iter().zip(&paths) {
        assert_eq!(
            (page.status.as_u16(), page.location()),
            (302, path.as_str())
        );
    }
    // Fifty people who come while nothing is known of the provider cause one look at it.
    assert_eq!(
        stage.globus().requests().count("discovery"),
        2,
        "one for the keys"
    );
}

#[tokio::test]
async fn an_issuer_in_the_callback_must_be_the_provider() {
    let stage = Stage::start().await;
    let issuer = stage.globus().issuer().to_owned();
    for (value, status) in [
        ("https://evil.test", 403),
        (&format!("{issuer}/"), 403),
        (&issuer.to_uppercase(), 403),
        (&issuer, 302),
    ] {
        let browser = stage.browser();
        let callback = browser.log_in_at_provider("/", ALICE).await;
        let before = redemptions(stage.globus());
        let page = browser
            .open(&with_parameter(&callback, "iss", Some(value)))
            .send()
            .await;
        assert_eq!(page.status, status, "{value}");
        let redeemed = redemptions(stage.globus()) - before;
        assert_eq!(redeemed, u64::from(status == 302), "{value}");
    }
}

#[tokio::test]
async fn somebody_who_is_not_listed_reads_why_and_gets_no_session() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let page = browser.log_in_until_callback("/", MALLORY).await;
    assert_eq!(page.status, 403);
    assert_eq!(browser.cookie_names(), Vec::<String>::new());
    let text = page.text();
    assert!(
        text.contains(MALLORY) && text.contains("app.test"),
        "{text}"
    );
    assert!(
        text.contains("/oauth2/start?rd=%2F&#38;prompt=login"),
        "{text}"
    );
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn another_account_can_be_chosen_although_the_provider_knows_somebody() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    browser.log_in_until_callback("/", MALLORY).await;
    // The provider would send the same user back at once.
    let again = browser
        .log_in_until_callback("/oauth2/start?rd=/&prompt=login", ALICE)
        .await;
    assert_eq!(again.status, 302);
    assert!(browser.cookie(SESSION_COOKIE).is_some());
}

#[rstest]
#[case("login", Some("login"))]
#[case("none", None)]
#[case("consent", None)]
#[tokio::test]
async fn only_one_prompt_can_be_asked_for(#[case] asked: &str, #[case] sent: Option<&str>) {
    let stage = Stage::start().await;
    let page = stage
        .browser()
        .open(&format!("/oauth2/start?prompt={asked}"))
        .send()
        .await;
    assert_eq!(page.sent_on("prompt").as_deref(), sent);
}

#[tokio::test]
async fn a_browser_that_came_by_another_name_is_sent_to_the_external_one_first() {
    let stage = Stage::start().await;
    for host in [
        "other.test",
        "app.test:8443",
        "app.test.evil.test",
        "127.0.0.1",
    ] {
        let page = stage
            .browser()
            .open("/deep?x=1")
            .header("host", host)
            .send()
            .await;
        assert_eq!(page.status, 302);
        assert_eq!(
            page.location(),
            "https://app.test/oauth2/start?rd=%2Fdeep%3Fx%3D1"
        );
        assert!(page.set_cookies().is_empty());
    }
    for host in ["app.test", "APP.test", "app.test:443"] {
        let page = stage
            .browser()
            .open("/deep")
            .header("host", host)
            .send()
            .await;
        assert!(
            page.location().starts_with(stage.globus().issuer()),
            "{}",
            page.location()
        );
    }
    // An ingress that rewrites `Host` must not cause a loop.
    let page = stage
        .browser()
        .open("/oauth2/start?rd=/")
        .header("host", "other.test")
        .send()
        .await;
    assert!(
        page.location().starts_with(stage.globus().issuer()),
        "{}",
        page.location()
    );
}

#[rstest]
#[case("/a//b?next=https://x.test//y")]
#[case("/a%2Fb/.%2Fc?q=%26&r=+")]
#[case("/#section")]
#[case("/?")]
#[case("/oauth2x?y")]
#[case("/caf%C3%A9?q=%C3%A9")]
#[case("/~user/a;v=1,2/b(c)!$&'*+:@")]
#[tokio::test]
async fn deep_links_survive_a_login(#[case] path: &str) {
    let stage = Stage::start().await;
    let page = stage.browser().log_in(path, ALICE).await;
    // A browser keeps a fragment for itself.
    let expected = path.split('#').next().unwrap();
    assert_eq!(page.reflection().target, expected);
}

#[tokio::test]
async fn an_endless_deep_link_ends_on_the_start_page() {
    let stage = Stage::start().await;
    let path = format!("/x?{}", "y".repeat(4000));
    let page = stage.browser().log_in_until_callback(&path, ALICE).await;
    assert_eq!(page.location(), "/");
}

#[rstest]
#[case("access_denied", "access_denied")]
#[case("consent_required", "consent_required")]
#[case("login_required", "login_required")]
#[case("temporarily_unavailable", "temporarily_unavailable")]
#[case("<script>alert(1)</script>", "unknown_error")]
#[tokio::test]
async fn an_error_of_the_provider_is_told_in_our_words(#[case] error: &str, #[case] code: &str) {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let started = browser.open("/").send().await;
    let state = started.sent_on("state").unwrap();
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("error", error),
            ("error_description", "<b>reflected</b>"),
            ("state", &state),
        ])
        .finish();
    let address = format!("/oauth2/callback?{query}");
    let page = browser.thief().open(&address).send().await;
    assert_eq!(page.status, 403);
    assert!(
        !page.text().contains("reflected") && !page.text().contains("alert"),
        "{}",
        page.text()
    );
    let json = browser.get(&address).send().await;
    assert_eq!(json.json::<serde_json::Value>()["error"], code);
    // The attempt is over.
    assert_eq!(browser.cookie_names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_state_cannot_write_a_cookie_of_its_own() {
    let stage = Stage::start().await;
    for state in [
        "=x; Max-A",
        "x; Domain=evil.test",
        "a,b=c;d=",
        "\u{7f}\u{1}abcdef",
    ] {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("error", "access_denied"), ("state", state)])
            .finish();
        let page = stage
            .browser()
            .open(&format!("/oauth2/callback?{query}"))
            .send()
            .await;
        assert_eq!(page.set_cookies(), Vec::<&str>::new(), "{state:?}");
    }
}

#[tokio::test]
async fn a_form_post_is_no_callback() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let body = callback.split_once('?').unwrap().1.to_owned();
    let page = browser
        .post("/oauth2/callback", body)
        .navigating()
        .send()
        .await;
    assert_eq!(page.status, 405);
    assert_no_session(&page);
    assert_eq!(redemptions(stage.globus()), 0);
}

#[tokio::test]
async fn the_address_of_the_application_is_the_only_one_on_the_way() {
    let stage = Stage::start().await;
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    assert!(
        callback.starts_with(&format!("{EXTERNAL_URL}/oauth2/callback?")),
        "{callback}"
    );
}

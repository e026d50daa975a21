//! Sessions and login attempts of others, of before, and of another key (lines 7, 8 and 11).

use globus_auth_tests::globus::User;
use globus_auth_tests::harness::sidecar::{LOGIN_COOKIE_PREFIX, SESSION_COOKIE, session_key};
use globus_auth_tests::harness::stage::{ALICE, MALLORY};
use globus_auth_tests::harness::websocket::WebSocket;
use globus_auth_tests::harness::{Browser, Stage, eventually, in_time};
use rstest::rstest;

async fn status(browser: &Browser) -> u16 {
    browser.thief().get("/").send().await.status.as_u16()
}

#[tokio::test]
async fn a_session_of_another_proxy_with_the_same_key_is_none() {
    let stage = Stage::start().await;
    let keys = stage.sidecar.config().session_keys.clone();
    let other = Stage::setup().config(|config| config.session_keys = keys);
    let other = other.start().await;
    let alice = stage.logged_in(ALICE).await;
    assert_eq!(status(&alice).await, 200);
    assert_eq!(status(&alice.at(other.sidecar.address())).await, 401);
}

#[rstest]
#[case::client("client")]
#[case::issuer("issuer")]
#[case::proxy("proxy")]
#[tokio::test]
async fn a_session_of_another_client_issuer_or_proxy_is_none(#[case] what: &str) {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let change = |config: &mut globus_auth_core::sidecar_config::SidecarConfig| match what {
        "client" => config.provider.client_id.push('x'),
        "issuer" => config.provider.issuer = "http://127.0.0.1:9".parse().unwrap(),
        _ => config.proxy.uid.push('x'),
    };
    stage.sidecar.reconfigure(change).await;
    assert_eq!(status(&alice).await, 401);
}

#[tokio::test]
async fn what_is_sealed_for_one_purpose_is_nothing_for_another() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let session = alice.cookie(SESSION_COOKIE).unwrap();

    // A login attempt as a session.
    let browser = stage.browser();
    let callback = browser.log_in_at_provider("/", ALICE).await;
    let name = browser.cookie_names().remove(0);
    assert!(name.starts_with(LOGIN_COOKIE_PREFIX), "{name}");
    let attempt = browser.cookie(&name).unwrap();
    let forger = stage.browser();
    forger.put_cookie(SESSION_COOKIE, &attempt);
    assert_eq!(status(&forger).await, 401);

    // A session as a login attempt.
    let forger = stage.browser();
    forger.put_cookie(&name, &session);
    assert_eq!(forger.open(&callback).send().await.status, 403);
    assert_eq!(
        stage.globus().requests().count("token/authorization_code"),
        1,
        "alice's"
    );
}

#[tokio::test]
async fn a_key_that_is_replaced_opens_until_it_is_gone_and_seals_no_more() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let old = alice.cookie(SESSION_COOKIE).unwrap();
    let fresh = session_key(8);
    let both = fresh.clone();
    stage
        .sidecar
        .reconfigure(|config| config.session_keys.insert(0, both))
        .await;
    assert_eq!(status(&alice).await, 200);
    let bob = stage.logged_in(ALICE).await;
    stage
        .sidecar
        .reconfigure(|config| config.session_keys = vec![fresh])
        .await;
    assert_eq!(status(&alice).await, 401);
    assert_eq!(status(&bob).await, 200);
    assert_ne!(bob.cookie(SESSION_COOKIE).unwrap(), old);

    // Another key of the same id opens nothing either.
    let same_id = session_key(8);
    stage
        .sidecar
        .reconfigure(|config| config.session_keys = vec![same_id])
        .await;
    assert_eq!(status(&bob).await, 401);
}

#[tokio::test]
async fn a_session_that_was_planted_is_not_the_one_that_the_victim_logs_in_to() {
    let stage = Stage::start().await;
    let attacker = stage.logged_in(ALICE).await;
    let planted = attacker.cookie(SESSION_COOKIE).unwrap();
    let victim = stage.browser();
    victim.put_cookie(SESSION_COOKIE, &planted);
    let callback = victim
        .log_in_at_provider(
            "/oauth2/start?rd=/",
            "carol@example.org@accounts.google.com",
        )
        .await;
    victim.open(&callback).send().await;
    assert_ne!(victim.cookie(SESSION_COOKIE).unwrap(), planted);
    let who = |browser: &Browser| browser.clone();
    let seen = who(&attacker).get("/").send().await.reflection();
    let emails: Vec<&str> = seen.values("x-forwarded-email").collect();
    assert_eq!(emails, [ALICE], "the attacker became the victim");
    // The planted one ends without the victim's.
    attacker.post("/oauth2/sign_out", "").send().await;
    assert_eq!(status(&victim).await, 200);
}

#[tokio::test]
async fn every_copy_of_a_session_is_dead_after_the_sign_out_also_one_of_before() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let copies = [alice.thief(), alice.thief()];
    alice.post("/oauth2/sign_out", "").send().await;
    for copy in &copies {
        assert_eq!(status(copy).await, 401);
        assert_eq!(copy.get("/oauth2/auth").send().await.status, 401);
        let address = copy.address();
        let cookies = copy.cookie_field();
        let headers = [("Cookie", cookies.as_str())];
        let socket = WebSocket::connect(address, "app.test", "/ws", &headers).await;
        assert_eq!(socket.unwrap_err().status, 401);
    }
}

#[tokio::test]
async fn whoever_is_taken_off_the_list_loses_their_websockets() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let cookies = alice.cookie_field();
    let headers = [("Cookie", cookies.as_str())];
    let socket = WebSocket::connect(alice.address(), "app.test", "/ws", &headers).await;
    let mut socket = socket.unwrap();
    socket.echo("still here").await;
    stage
        .sidecar
        .reconfigure(|config| config.access.emails.clear())
        .await;
    eventually("the WebSocket to be cut", async || {
        socket.send("still here?").await;
        socket.receive().await.is_none().then_some(())
    })
    .await;
    assert_eq!(status(&alice).await, 403);
}

#[rstest]
#[case::quiet("/sse?count=1000000&interval_ms=3600000")]
#[case::lively("/sse?count=1000000&interval_ms=1")]
#[case::known_to_be_long("/download?bytes=1000000000000")]
#[tokio::test]
async fn whoever_is_taken_off_the_list_loses_their_downloads(#[case] target: &str) {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let mut wire = alice.begin(&format!("GET {target}"), "").await;
    assert_eq!(wire.head().await.unwrap().status, 200);
    stage
        .sidecar
        .reconfigure(|config| config.access.emails.clear())
        .await;
    in_time("the stream to be cut", wire.into_end()).await;
}

#[tokio::test]
async fn a_sign_out_cuts_what_a_copy_of_the_session_still_reads_and_leaves_others_alone() {
    let stage = Stage::start().await;
    let (alice, again) = (stage.logged_in(ALICE).await, stage.logged_in(ALICE).await);
    let request = "GET /sse?count=1000000&interval_ms=5";
    let mut stolen = alice.thief().begin(request, "").await;
    let mut other = again.begin(request, "").await;
    for wire in [&mut stolen, &mut other] {
        assert_eq!(wire.head().await.unwrap().status, 200);
    }
    alice.post("/oauth2/sign_out", "").send().await;
    in_time("the stream to be cut", stolen.into_end()).await;
    for _ in 0..10 {
        assert!(other.chunk().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn whoever_is_taken_off_the_list_loses_their_uploads() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut wire = alice.begin("POST /upload", chunked).await;
    wire.send(b"5\r\nhello\r\n").await;
    eventually("the upload to reach the workload", async || {
        (stage.upstream().requests() > 0).then_some(())
    })
    .await;
    stage
        .sidecar
        .reconfigure(|config| config.access.emails.clear())
        .await;
    let answer = in_time("an answer", wire.head()).await.unwrap();
    assert_eq!(answer.status, 403);
}

#[rstest]
#[case::two_at_signs("alice@example.org@evil.test")]
#[case::two_at_signs_at_the_other_end("evil@evil.test@example.org")]
#[case::quoted("\"alice@example.org\"@evil.test")]
#[case::a_list("mallory@evil.test,alice@example.org")]
#[case::a_name_and_an_address("Alice <alice@example.org>")]
#[case::trailing_dot("alice@example.org.")]
#[case::trailing_space("alice@example.org ")]
#[case::no_break_space("alice@example.org\u{a0}")]
#[case::dotless_i("al\u{131}ce@example.org")]
#[case::dotted_capital_i("AL\u{130}CE@example.org")]
#[case::homoglyph("\u{430}lice@example.org")]
#[case::homoglyph_domain("alice@ex\u{430}mple.org")]
#[case::full_width("alice@example.org".replace('@', "\u{ff20}").leak())]
#[case::subdomain("alice@x.example.org")]
#[case::suffix("alice@evilexample.org")]
#[case::prefix("malice@example.org")]
#[case::percent("alice%40example.org")]
#[case::header_line("alice@example.org\r\nX-Forwarded-User: root")]
#[tokio::test]
async fn an_address_that_only_looks_listed_does_not_enter(#[case] email: &'static str) {
    let stage = Stage::start().await;
    stage
        .globus()
        .put_user(User {
            email: Some(email.to_owned()),
            ..User::new(MALLORY)
        })
        .unwrap();
    let browser = stage.browser();
    let page = browser.log_in_until_callback("/", MALLORY).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert_eq!(browser.cookie_names(), Vec::<String>::new());
    assert_eq!(stage.upstream().requests(), 0);
}

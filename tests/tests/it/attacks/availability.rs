//! What must not be had by breaking or clogging something (lines 12 and 13).

use std::time::Duration;

use globus_auth_tests::harness::sidecar::{config, refused_start, text};
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::wait::eventually_within;
use globus_auth_tests::harness::wire::Wire;
use globus_auth_tests::harness::{Stage, eventually};
use rstest::rstest;
use serde_json::{Value, json};

fn member(path: &str, value: Value) -> Vec<u8> {
    let config = config("http://127.0.0.1:9", &[ALICE]);
    let mut document: Value = serde_json::from_slice(&text(&config)).unwrap();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(members), Value::Null) => drop(members.remove(name)),
        (parent, value) => parent[name] = value,
    }
    document.to_string().into_bytes()
}

#[rstest]
#[case::empty(b"".to_vec(), "")]
#[case::nothing(b"{}".to_vec(), "version")]
#[case::cut_off(b"{\"version\":".to_vec(), "")]
#[case::not_text(b"\xff\xfe".to_vec(), "")]
#[case::another_version(member("/version", json!(9999)), "version")]
#[case::an_unknown_rule(member("/access/deny", json!([])), "deny")]
#[case::no_rules(member("/access", Value::Null), "access")]
#[case::rules_of_another_kind(member("/access/emails", json!("*")), "emails")]
#[case::an_address_that_is_none(member("/access/emails", json!(["*"])), "emails")]
#[case::no_keys(member("/sessionKeys", json!([])), "key")]
#[case::a_short_key(member("/sessionKeys/0/key", json!("AAAA")), "key")]
#[case::an_issuer_without_tls(member("/provider/issuer", json!("http://evil.test")), "issuer")]
#[case::no_client_secret(member("/provider/clientSecret", Value::Null), "clientSecret")]
#[case::an_external_url_with_a_path(member("/externalUrl", json!("https://app.test/x")), "externalUrl")]
#[tokio::test]
async fn a_configuration_that_is_wrong_starts_nothing_and_is_named(
    #[case] text: Vec<u8>,
    #[case] named: &str,
) {
    let (status, lines) = refused_start(&text).await;
    assert!(!status.success());
    let lines = lines.join("\n");
    assert!(lines.contains(named), "{named:?} is not in {lines}");
    assert!(!lines.contains("canary client secret"), "{lines}");
}

#[tokio::test]
async fn a_configuration_that_breaks_later_leaves_the_last_good_one_in_force() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    for broken in [
        &b""[..],
        b"{}",
        b"null",
        b"{\"version\":",
        b"\xff",
        &member("/access/emails", json!(["*"])),
        &member("/access/anyAuthenticated", json!("true")),
    ] {
        let before = stage
            .sidecar
            .metric("config_reloads_total{result=\"refused\"}")
            .await;
        stage.sidecar.write(broken);
        eventually("the file to be refused", async || {
            let name = "config_reloads_total{result=\"refused\"}";
            (stage.sidecar.metric(name).await > before).then_some(())
        })
        .await;
        assert_eq!(alice.get("/").send().await.status, 200);
        assert_eq!(stage.browser().get("/").send().await.status, 401);
    }
    stage.sidecar.remove_config();
    assert_eq!(stage.browser().get("/").send().await.status, 401);
    assert_eq!(alice.get("/").send().await.status, 200);
}

#[tokio::test]
async fn without_any_rule_nobody_enters() {
    let setup = Stage::setup().config(|config| config.access.emails.clear());
    let stage = setup.start().await;
    let page = stage.browser().log_in_until_callback("/", ALICE).await;
    assert_eq!(page.status, 403);
    let token = stage.token_of(ALICE);
    let page = stage.browser().get("/").bearer(&token).send().await;
    assert_eq!(page.status, 403);
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn no_token_enters_while_the_provider_is_down_and_none_is_taken_for_bad() {
    let mut stage = Stage::start().await;
    let token = stage.token_of(ALICE);
    stage.stop_provider().await;
    for path in ["/", "/oauth2/auth", "/oauth2/userinfo"] {
        let page = stage.browser().get(path).bearer(&token).send().await;
        assert_eq!(page.status, 503, "{path}");
        assert_eq!(page.header("www-authenticate"), "");
    }
    assert_eq!(stage.upstream().requests(), 0);
}

/// Clients that never finish their headers are cut off after half a minute, and keep nobody else waiting.
#[tokio::test]
async fn a_slow_client_is_cut_off_and_keeps_nobody_waiting() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let mut slow = Vec::new();
    for opening in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nX: ",
    ]
    .repeat(40)
    {
        let mut wire = Wire::connect(stage.sidecar.address()).await;
        wire.send(opening.as_bytes()).await;
        slow.push(wire);
    }
    assert_eq!(alice.get("/").send().await.status, 200);
    let limit = Duration::from_secs(40);
    for mut wire in slow {
        // A byte now and then buys no time.
        wire.send(b"x").await;
        let cut = tokio::time::timeout(limit, wire.into_end()).await;
        assert!(cut.is_ok(), "a client that never finishes is kept");
    }
    eventually_within(limit, "everybody else to be served", async || {
        (alice.get("/").send().await.status == 200).then_some(())
    })
    .await;
}

/// A client that sends and never reads, and one that asks and never reads, cost a bounded amount.
#[tokio::test]
async fn a_client_that_does_not_read_costs_a_bounded_amount_of_memory() {
    let stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let before = stage.sidecar.peak_memory();
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::connect(stage.sidecar.address()).await;
        let request = format!(
            "GET /download?bytes=100000000 HTTP/1.1\r\nHost: app.test\r\nCookie: {}\r\n\r\n",
            alice.cookie_field()
        );
        wire.send(request.as_bytes()).await;
        wire.head().await.unwrap();
        deaf.push(wire);
    }
    assert_eq!(alice.get("/").send().await.status, 200);
    let grown = stage.sidecar.peak_memory() - before;
    assert!(grown < 40 << 20, "{grown} bytes more for 20 downloads");
    drop(deaf);
}

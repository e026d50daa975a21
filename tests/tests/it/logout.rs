//! Sessions that end before their time: here, at other replicas, and by the provider.

use globus_auth_core::ended::{Ended, EndedList, Sessions};
use globus_auth_core::identity::NameDigest;
use globus_auth_tests::harness::sidecar::{CLIENT_ID, EXTERNAL_URL};
use globus_auth_tests::harness::stage::{ALICE, CAROL};
use globus_auth_tests::harness::websocket::WebSocket;
use globus_auth_tests::harness::{Browser, Stage, eventually};
use rstest::rstest;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::openid::OpenId;
use crate::signer::Signer;

async fn is_out(browser: &Browser) {
    eventually("the session to end", async || {
        let page = browser.get("/").send().await;
        (page.status == 401).then_some(())
    })
    .await;
}

fn all_of(subject: &str, time: u64) -> EndedList {
    let mut list = EndedList::default();
    let now = globus_auth_core::clock::UnixSeconds(time);
    let ended = Ended {
        subject: Some(NameDigest::of(subject)),
        sessions: Sessions::Before(now),
    };
    list.add(ended, now.after(globus_auth_core::ended::LONGEST), now);
    list
}

#[tokio::test]
async fn a_session_that_ended_elsewhere_ends_here_with_its_open_connections() {
    let stage = Stage::start().await;
    let (alice, carol) = (stage.logged_in(ALICE).await, stage.logged_in(CAROL).await);
    let cookies = alice.cookie_field();
    let address = stage.sidecar.address();
    let mut socket = WebSocket::connect(address, "app.test", "/ws", &[("Cookie", &cookies)])
        .await
        .unwrap();
    let subject = stage.globus().sub(ALICE).unwrap();
    let list = all_of(&subject, jsonwebtoken::get_current_timestamp());
    stage
        .sidecar
        .write_ended(&serde_json::to_vec(&list).unwrap());
    is_out(&alice).await;
    assert_eq!(socket.close_code().await, Some(1008));
    assert_eq!(carol.get("/").send().await.status, 200);
    // Another login is another session.
    eventually("a second to pass", async || {
        alice.log_in("/", ALICE).await;
        (alice.get("/").send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_revives_nobody_and_after_a_restart_ends_everything() {
    let mut stage = Stage::start().await;
    let (alice, carol) = (stage.logged_in(ALICE).await, stage.logged_in(CAROL).await);
    let subject = stage.globus().sub(ALICE).unwrap();
    let list = all_of(&subject, jsonwebtoken::get_current_timestamp());
    stage
        .sidecar
        .write_ended(&serde_json::to_vec(&list).unwrap());
    is_out(&alice).await;
    stage.sidecar.write_ended(b"garbage");
    let line = "failed to understand which sessions ended; those that were known stay ended";
    stage.sidecar.logged(line).await;
    assert_eq!(alice.get("/").send().await.status, 401);
    assert_eq!(carol.get("/").send().await.status, 200);
    // Now nothing is known, and what cannot be told may be any session.
    stage.sidecar.restart().await;
    let carol = carol.at(stage.sidecar.address());
    assert_eq!(carol.get("/").send().await.status, 401);
}

fn logout_token(provider: &OpenId, patch: &Value) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "iss": provider.issuer(), "aud": CLIENT_ID, "sub": "alice", "sid": "session-1",
        "iat": now, "exp": now + 120, "jti": "j",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    let claimed = claims.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        claimed.insert(name.clone(), value.clone());
    }
    // A claim that is null is not there.
    claimed.retain(|_, value| !value.is_null());
    provider.signer.sign(&claims)
}

fn form(token: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", token)
        .finish()
}

async fn post(stage: &Stage, body: String) -> u16 {
    let stranger = stage.browser();
    let page = stranger
        .post("/oauth2/backchannel_logout", body)
        .header("content-type", "application/x-www-form-urlencoded")
        .send()
        .await;
    if page.status != 413 {
        assert_eq!(page.header("cache-control"), "no-store");
    }
    page.status.as_u16()
}

#[rstest]
#[case::session(json!({"sub": null}))]
#[case::user(json!({"sid": null}))]
#[case::both(json!({}))]
#[tokio::test]
async fn the_provider_ends_a_session_without_the_browser(#[case] patch: Value) {
    let provider = OpenId::start().await;
    let stage = Stage::setup().config(provider.of()).start().await;
    let alice = provider.log_in(&stage).await;
    assert_eq!(alice.get("/").send().await.status, 200);
    assert_eq!(
        post(&stage, form(&logout_token(&provider, &patch))).await,
        200
    );
    assert_eq!(alice.get("/").send().await.status, 401);
}

#[rstest]
#[case::another_session(json!({"sid": "session-2", "sub": "alice"}), 200)]
#[case::of_somebody_else(json!({"iss": "https://evil.test"}), 400)]
#[case::for_somebody_else(json!({"aud": "other"}), 400)]
#[case::expired(json!({"exp": 1}), 400)]
#[case::an_id_token(json!({"nonce": "n"}), 400)]
#[case::no_event(json!({"events": {}}), 400)]
#[tokio::test]
async fn any_other_token_ends_no_session(#[case] patch: Value, #[case] status: u16) {
    let provider = OpenId::start().await;
    let stage = Stage::setup().config(provider.of()).start().await;
    let alice = provider.log_in(&stage).await;
    assert_eq!(
        post(&stage, form(&logout_token(&provider, &patch))).await,
        status
    );
    assert_eq!(alice.get("/").send().await.status, 200);
}

#[tokio::test]
async fn forged_and_malformed_messages_end_no_session() {
    let provider = OpenId::start().await;
    let stage = Stage::setup().config(provider.of()).start().await;
    let alice = provider.log_in(&stage).await;
    let token = logout_token(&provider, &json!({}));
    let forged = Signer::new().sign(&json!({
        "iss": provider.issuer(), "aud": CLIENT_ID, "sub": "alice", "jti": "j",
        "iat": 1, "exp": 9_999_999_999_u64,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }));
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap());
    for body in [
        String::new(),
        "logout_token=".to_owned(),
        form("x"),
        form(&forged),
        form(&unsigned),
        format!("{}&{}", form(&token), form(&token)),
    ] {
        assert_eq!(post(&stage, body.clone()).await, 400, "{body}");
    }
    let as_json = alice
        .post(
            "/oauth2/backchannel_logout",
            json!({"logout_token": token}).to_string(),
        )
        .header("content-type", "application/json")
        .send()
        .await;
    assert_eq!(as_json.status, 400);
    assert_eq!(
        alice.get("/oauth2/backchannel_logout").send().await.status,
        405
    );
    let huge = post(&stage, form(&"a".repeat(100_000))).await;
    assert_eq!(huge, 413);
    assert_eq!(alice.get("/").send().await.status, 200);
}

#[tokio::test]
async fn a_logout_token_that_is_sent_again_does_not_end_a_newer_session() {
    let provider = OpenId::start().await;
    let stage = Stage::setup().config(provider.of()).start().await;
    let issued = jsonwebtoken::get_current_timestamp() - 60;
    let token = provider.signer.sign(&json!({
        "iss": provider.issuer(), "aud": CLIENT_ID, "sub": "alice", "jti": "j",
        "iat": issued, "exp": issued + 300,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }));
    assert_eq!(post(&stage, form(&token)).await, 200);
    let alice = provider.log_in(&stage).await;
    assert_eq!(post(&stage, form(&token)).await, 200);
    assert_eq!(alice.get("/").send().await.status, 200);
}

#[tokio::test]
async fn signing_out_offers_the_way_out_of_the_provider() {
    let provider = OpenId::start().await;
    let stage = Stage::setup().config(provider.of()).start().await;
    let alice = provider.log_in(&stage).await;
    let page = alice.open("/oauth2/sign_out").send().await;
    let expected = format!(
        "{}/logout?client_id={CLIENT_ID}&#38;post_logout_redirect_uri={}",
        provider.issuer(),
        form_urlencoded::byte_serialize(format!("{EXTERNAL_URL}/oauth2/sign_in").as_bytes())
            .collect::<String>()
    );
    assert!(
        page.text().contains(&expected),
        "{}\n{expected}",
        page.text()
    );
}

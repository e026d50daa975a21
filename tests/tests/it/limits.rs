//! Limits that a proxy sets on requests and answers, and that there are none without.

use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::wire::Wire;
use globus_auth_tests::harness::{Browser, Stage};
use serde_json::Value;

async fn stage(max_bytes: Option<u64>, seconds: Option<u32>) -> (Stage, Browser) {
    let stage = Stage::setup()
        .config(move |config| {
            config.upstream.max_request_body_bytes = max_bytes;
            config.upstream.response_timeout_seconds = seconds;
        })
        .start()
        .await;
    let alice = stage.logged_in(ALICE).await;
    (stage, alice)
}

async fn post(alice: &Browser, fields: &str, body: &str) -> Wire {
    let mut wire = alice.begin("POST /upload", fields).await;
    wire.send(body.as_bytes()).await;
    wire
}

#[tokio::test]
async fn a_body_of_the_longest_length_passes_and_one_more_byte_does_not() {
    let (stage, alice) = stage(Some(8), None).await;
    let requests = stage.upstream().requests();
    let page = alice.post("/upload", "12345678").send().await;
    assert_eq!(page.status, 200);
    let page = alice.post("/upload", "123456789").send().await;
    assert_eq!(page.status, 413);
    assert_eq!(page.json::<Value>()["error"], "body_too_large");
    assert_eq!(stage.upstream().requests(), requests + 1);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let (_stage, alice) = stage(Some(8), None).await;
    let fields = "Content-Length: 9\r\nExpect: 100-continue\r\n";
    let answer = post(&alice, fields, "").await.answer().await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn a_body_without_length_is_refused_where_it_becomes_too_long() {
    let (_stage, alice) = stage(Some(8), None).await;
    let fields = "Transfer-Encoding: chunked\r\n";
    let whole = post(&alice, fields, "4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n")
        .await
        .answer()
        .await;
    assert_eq!(whole.status, 200);
    // It never ends, and need not.
    let endless = post(&alice, fields, "4\r\n1234\r\n5\r\n56789\r\n")
        .await
        .answer()
        .await;
    assert_eq!(endless.status, 413);
}

#[tokio::test]
async fn a_workload_that_takes_too_long_is_not_waited_for() {
    let (_stage, alice) = stage(None, Some(1)).await;
    let page = alice.get("/hang").send().await;
    assert_eq!(page.status, 504);
    assert_eq!(page.json::<Value>()["error"], "gateway_timeout");
    // An answer that has begun takes as long as it takes.
    let page = alice.get("/sse?count=3&interval_ms=600").send().await;
    assert_eq!(page.status, 200);
    assert_eq!(page.text().matches("data:").count(), 3);
}

#[tokio::test]
async fn an_upload_takes_as_long_as_it_takes() {
    let (_stage, alice) = stage(None, Some(1)).await;
    let mut wire = post(&alice, "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n").await;
    // Not a wait for something: longer than the workload may take for an answer.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    wire.send(b"0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
}

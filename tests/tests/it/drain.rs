//! A sidecar that is asked to stop.

use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::websocket::WebSocket;
use globus_auth_tests::harness::{Stage, eventually, in_time};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_stop_lets_requests_finish_and_tells_websockets() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let cookie = alice.cookie_field();
    let address = stage.sidecar.address();
    let headers = [("Cookie", cookie.as_str())];
    let socket = WebSocket::connect(address, "app.test", "/ws", &headers).await;
    let mut socket = socket.unwrap();
    socket.echo("here").await;
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    let mut upload = alice.begin("POST /", fields).await;
    assert_eq!(upload.head().await.unwrap().status, 100);

    stage.sidecar.ask_to_stop();
    assert_eq!(socket.close_code().await, Some(1001));
    assert_eq!(socket.receive().await, None);
    eventually("nobody else to be let in", async || {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    upload.send(b"body").await;
    let answer = in_time("the answer to what was under way", upload.try_answer()).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(stage.sidecar.stopped().await.success());
    let events = stage.sidecar.events();
    let warned = events.iter().find(|event| event["level"] == "WARN");
    assert_eq!(warned, None);
}

#[tokio::test]
async fn a_websocket_whose_ends_do_not_answer_does_not_hold_up_a_stop() {
    let mut stage = Stage::start().await;
    let cookie = stage.logged_in(ALICE).await.cookie_field();
    let headers = [("Cookie", cookie.as_str())];
    let address = stage.sidecar.address();
    // It is kept, and never read.
    let socket = WebSocket::connect(address, "app.test", "/ws", &headers).await;
    let started = tokio::time::Instant::now();
    stage.sidecar.ask_to_stop();
    assert!(stage.sidecar.stopped().await.success());
    assert!(started.elapsed() < DRAIN, "{:?}", started.elapsed());
    drop(socket);
}

/// As long as requests may take to finish.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(20);

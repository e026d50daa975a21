//! A service that refuses the token that the sidecar attaches.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use globus_auth_tests::harness::sidecar::Sidecar;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;

/// A service of which one decides which tokens it refuses.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    refuses_all: bool,
    refused: BTreeSet<String>,
    /// The token and the length of the body of each request.
    requests: Vec<(String, usize)>,
}

impl Service {
    async fn start() -> (Self, SocketAddr) {
        let service = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(service.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        (service, address)
    }

    /// The token of the request before, from now on refused.
    fn refuse_last(&self) -> String {
        let mut seen = self.0.lock();
        let (token, _) = seen.requests.last().unwrap().clone();
        seen.refused.insert(token.clone());
        token
    }

    fn requests(&self) -> Vec<(String, usize)> {
        self.0.lock().requests.clone()
    }
}

async fn answer(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let token = headers["authorization"].to_str().unwrap().to_owned();
    let mut seen = service.0.lock();
    seen.requests.push((token.clone(), body.len()));
    if seen.refuses_all || seen.refused.contains(&token) {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::OK
    }
}

async fn stage() -> (Stage, Service, String) {
    let (service, address) = Service::start().await;
    let stage = Stage::setup()
        .vault(move |_workload| {
            vec![DeliveredToken {
                route: Some(TokenRoute {
                    prefix: "/alcf".to_owned(),
                    upstream: format!("http://{address}").parse().unwrap(),
                }),
                ..token("alcf", OTHER_SERVICE, OTHER_SCOPE)
            }]
        })
        .start()
        .await;
    let alice = stage.logged_in(ALICE).await;
    let pass = got(&alice).await.pass.unwrap();
    (stage, service, pass)
}

async fn post(sidecar: &Sidecar, pass: &str, body: &str) -> u16 {
    let address = sidecar.outbound().await;
    let length = body.len();
    let request = format!(
        "POST /alcf/v1 HTTP/1.1\r\nHost: {address}\r\nX-Globus-Auth-Session: {pass}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    Wire::connect(address).await.ask(&request).await.status
}

/// Once for all who wait, and each request is made again with its body.
#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_requests_are_made_again() {
    let (stage, service, pass) = stage().await;
    assert_eq!(post(&stage.sidecar, &pass, "first").await, 200);
    let refused = service.refuse_last();
    let before = refreshes(&stage);
    let requests = (0..30).map(|_| post(&stage.sidecar, &pass, "hello"));
    let statuses = futures_util::future::join_all(requests).await;
    assert_eq!(statuses, [200; 30]);
    assert_eq!(refreshes(&stage), before + 1);
    let (old, new): (Vec<_>, Vec<_>) = service
        .requests()
        .into_iter()
        .skip(1)
        .partition(|(token, _)| *token == refused);
    assert!(!old.is_empty() && old.len() <= 30, "{}", old.len());
    assert_eq!(new.len(), 30);
    assert!(new.iter().all(|(_, length)| *length == "hello".len()));
    // What the sidecar had in its memory all that time.
    let issued = stage.globus().issued();
    let refresh_tokens = issued.iter().filter(|one| one.is_refresh_token);
    let refresh_tokens: Vec<&str> = refresh_tokens.map(|one| &*one.token).collect();
    assert!(!refresh_tokens.is_empty());
    let found = stage.sidecar.remembers(&refresh_tokens);
    assert!(found.iter().all(|found| !found));
}

#[tokio::test]
async fn a_service_that_refuses_every_token_has_one_replaced() {
    let (stage, service, pass) = stage().await;
    service.0.lock().refuses_all = true;
    let before = refreshes(&stage);
    for _ in 0..5 {
        assert_eq!(post(&stage.sidecar, &pass, "hello").await, 401);
    }
    assert_eq!(refreshes(&stage), before + 1);
    // The first request was made again.
    assert_eq!(service.requests().len(), 6);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    let (stage, service, pass) = stage().await;
    assert_eq!(post(&stage.sidecar, &pass, "first").await, 200);
    service.refuse_last();
    let before = refreshes(&stage);
    let largest = "x".repeat(1024 * 1024);
    let larger = format!("{largest}x");
    assert_eq!(post(&stage.sidecar, &pass, &larger).await, 401);
    assert_eq!(refreshes(&stage), before);
    assert_eq!(post(&stage.sidecar, &pass, &largest).await, 200);
    let lengths: Vec<usize> = service
        .requests()
        .iter()
        .map(|(_, length)| *length)
        .collect();
    let (small, large) = (largest.len(), larger.len());
    assert_eq!(lengths, ["first".len(), large, small, small]);
}

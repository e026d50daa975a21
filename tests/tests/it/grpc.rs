//! HTTP/2 from end to end, as gRPC uses it: messages with a length before them, and a status in trailers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use globus_auth_core::sidecar_config::Protocol;
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Stage, in_time};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        HeaderValue::from_static(code),
    )])
}

/// A message as it travels: not compressed, its length, itself.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap();
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

/// Tells when a call was given up.
struct GivenUp(Arc<Notify>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// `/Echo/Both` returns each message as it comes, `/Echo/Fails` says so in trailers only, `/Echo/Hangs`
/// never answers.
async fn serve(request: Request<Incoming>, given_up: Arc<Notify>) -> Response<Body> {
    assert_eq!(request.version(), Version::HTTP_2);
    assert_eq!(request.headers()["te"], "trailers");
    let user = request.headers()["x-forwarded-email"].clone();
    let answer = Response::builder()
        .header("content-type", "application/grpc")
        .header("x-user", user)
        .header("x-authority", request.uri().authority().unwrap().as_str());
    match request.uri().path() {
        "/Echo/Both" => {
            let frames = BodyStream::new(request.into_body());
            let end = stream::iter([Ok(Frame::trailers(status("0")))]);
            let body = BodyExt::boxed_unsync(StreamBody::new(frames.chain(end)));
            answer.body(body).unwrap()
        }
        "/Echo/Fails" => {
            let mut answer = answer
                .body(BodyExt::boxed_unsync(
                    Empty::new().map_err(|never| match never {}),
                ))
                .unwrap();
            answer.headers_mut().extend(status("5"));
            answer
        }
        _ => {
            let _given_up = GivenUp(given_up);
            std::future::pending().await
        }
    }
}

/// A workload that speaks HTTP/2 without TLS, and nothing else.
async fn workload(given_up: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let given_up = Arc::clone(&given_up);
            let service = hyper::service::service_fn(move |request| {
                let given_up = Arc::clone(&given_up);
                async move { Ok::<_, std::convert::Infallible>(serve(request, given_up).await) }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

struct Client {
    sender: SendRequest<Body>,
    cookies: String,
}

/// A sidecar in front of such a workload, and somebody who is logged in.
async fn stage() -> (Stage, Client, Arc<Notify>) {
    let given_up = Arc::new(Notify::new());
    let address = workload(Arc::clone(&given_up)).await;
    let stage = Stage::setup()
        .in_front_of(address.port())
        .config(|config| config.upstream.protocol = Protocol::H2C)
        .start()
        .await;
    let browser = stage.browser();
    browser.log_in_until_callback("/", ALICE).await;
    let stream = TcpStream::connect(stage.sidecar.address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let cookies = browser.cookie_field();
    (stage, Client { sender, cookies }, given_up)
}

impl Client {
    fn call(
        &mut self,
        method: &str,
        body: Body,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let request = Request::post(format!("http://app.test{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("cookie", &self.cookies)
            .body(body)
            .unwrap();
        self.sender.send_request(request)
    }

    /// The head of the answer.
    async fn ask(&mut self, method: &str, body: Body) -> Response<Incoming> {
        let answer = in_time("an answer", self.call(method, body)).await;
        answer.unwrap()
    }
}

fn one(text: &str) -> Body {
    let frames = stream::iter([Ok(Frame::data(message(text)))]);
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

#[tokio::test]
async fn a_unary_call_gets_its_answer_and_the_status_in_trailers() {
    let (_stage, mut client, _) = stage().await;
    let answer = client.ask("/Echo/Both", one("hello")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-user"], ALICE);
    assert_eq!(answer.headers()["x-authority"], "app.test");
    let body = in_time("the body", answer.into_body().collect())
        .await
        .unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), message("hello"));
}

#[tokio::test]
async fn a_status_without_a_message_arrives() {
    let (_stage, mut client, _) = stage().await;
    let answer = client.ask("/Echo/Fails", one("hello")).await;
    assert_eq!(answer.headers()["grpc-status"], "5");
    let body = answer.into_body().collect().await.unwrap();
    assert!(body.to_bytes().is_empty());
}

#[tokio::test]
async fn messages_pass_both_ways_while_the_call_is_open() {
    let (_stage, mut client, _) = stage().await;
    let (say, said) = mpsc::channel(1);
    let said = stream::unfold(said, async |mut said| {
        let text: &str = said.recv().await?;
        Some((Ok(Frame::data(message(text))), said))
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(said));
    let answer = client.ask("/Echo/Both", body).await;
    let mut answer = answer.into_body();
    for text in ["one", "two", "three"] {
        say.send(text).await.unwrap();
        let frame = in_time("a message", answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message(text));
    }
    drop(say);
    let end = in_time("the end", answer.frame()).await.unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let (_stage, mut client, _) = stage().await;
    let calls = (0..100).map(|number| client.call("/Echo/Both", one(&number.to_string())));
    let answers = in_time("all answers", futures_util::future::join_all(calls)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let body = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), message(&number.to_string()));
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_given_up_at_the_workload() {
    let (_stage, mut client, given_up) = stage().await;
    let call = client.call("/Echo/Hangs", one("hello"));
    let waiting = tokio::spawn(call);
    // Another call on the same connection shows that the first one has arrived.
    client.ask("/Echo/Fails", one("hello")).await;
    waiting.abort();
    in_time("the workload to hear of it", given_up.notified()).await;
}

#[tokio::test]
async fn what_is_spoken_with_the_workload_follows_the_configuration() {
    let (mut stage, mut client, _) = stage().await;
    client.ask("/Echo/Fails", one("x")).await;
    // The workload understands no HTTP/1.1.
    stage
        .sidecar
        .reconfigure(|config| config.upstream.protocol = Protocol::HTTP1)
        .await;
    let answer = client.ask("/Echo/Fails", one("x")).await;
    assert_eq!(answer.status(), 502);
    stage
        .sidecar
        .reconfigure(|config| config.upstream.protocol = Protocol::H2C)
        .await;
    let answer = client.ask("/Echo/Fails", one("x")).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn without_a_session_nothing_reaches_the_workload() {
    let (_stage, mut client, _) = stage().await;
    client.cookies = "a=b".to_owned();
    let answer = client.ask("/Echo/Both", one("hello")).await;
    assert_eq!(answer.status(), 401);
}

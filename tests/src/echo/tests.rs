//! The upstream over real sockets, spoken to in bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends `request`, and returns all that comes back until the upstream closes.
async fn exchange(echo: &Echo, request: &str) -> String {
    let mut stream = TcpStream::connect(echo.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A broken connection is an answer, too.
    let _result = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(echo: &Echo, target: &str) -> String {
    exchange(
        echo,
        &format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
    )
    .await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn reflection(answer: &str) -> Reflection {
    serde_json::from_str(body(answer)).unwrap()
}

#[tokio::test]
async fn any_path_tells_what_was_received() {
    let echo = Echo::start().await.unwrap();
    let answer = exchange(
        &echo,
        "PoST /a//b%2Fc/../d?x=%20#f HTTP/1.1\r\nhOST: h\r\nX-b: 2\r\nX-A: 1\r\nx-B: 3\r\n\
         Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        reflection(&answer),
        Reflection {
            method: "PoST".to_owned(),
            target: "/a//b%2Fc/../d?x=%20#f".to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: vec![
                pair("hOST", "h"),
                pair("X-b", "2"),
                pair("X-A", "1"),
                pair("x-B", "3"),
                pair("Connection", "close"),
                pair("Content-Length", "5"),
            ],
            body_length: 5,
            body_sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
                .to_owned(),
            trailers: Vec::new(),
        }
    );
    assert_eq!(echo.requests(), 1);
}

#[tokio::test]
async fn a_kept_connection_keeps_its_requests_apart() {
    let echo = Echo::start().await.unwrap();
    let answer = exchange(
        &echo,
        "POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n\
         GET /2 HTTP/1.1\r\nhost: h\r\nX-SECOND: y\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answers: Vec<_> = answer.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
    assert_eq!(answers.len(), 2, "{answer}");
    let first = reflection(answers[0]);
    assert_eq!((first.target.as_str(), first.body_length), ("/1", 3));
    assert_eq!(first.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let second = reflection(answers[1]);
    assert_eq!(second.target, "/2");
    assert_eq!(second.headers[1], ("X-SECOND".to_owned(), "y".to_owned()));
}

#[tokio::test]
async fn paths_with_a_meaning_keep_it() {
    let echo = Echo::start().await.unwrap();
    for (target, status, part) in [
        ("/status/418", "418", "\"target\":\"/status/418\""),
        ("/status/204", "204", "\r\n\r\n"),
        ("/status/101", "400", "200 to 599"),
        ("/ws", "426", "WebSocket"),
        ("/slow?ms=1", "200", "\"target\":\"/slow?ms=1\""),
        ("/slow?ms=x", "400", "failed to read \"ms\" as a number"),
        (
            "/sse?count=2&interval_ms=1",
            "200",
            "id: 0\nevent: tick\ndata: {\"number\":0}\n\n",
        ),
        (
            "/headers?set-cookie=a=1&set-cookie=b=2",
            "200",
            "set-cookie: a=1\r\nset-cookie: b=2",
        ),
        (
            "/headers?content-type=text/x",
            "200",
            "content-type: text/x\r\n",
        ),
        ("/headers?content-length=9", "400", "not a header field"),
        ("/download?bytes=3", "200", "\r\n\r\n\0\u{1}\u{2}"),
        ("/requests", "200", "{\"requests\":11}"),
    ] {
        let answer = get(&echo, target).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target}: {answer}"
        );
        assert!(answer.contains(part), "{target}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_wanted_is_asked_for_and_one_that_is_not_is_not() {
    let echo = Echo::start().await.unwrap();
    let head = "HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\
                Connection: close\r\n\r\n";
    let wanted = exchange(&echo, &format!("POST / {head}ab")).await;
    assert!(
        wanted.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
        "{wanted}"
    );
    let unwanted = exchange(&echo, &format!("POST /status/413 {head}")).await;
    assert!(unwanted.starts_with("HTTP/1.1 413 "), "{unwanted}");
}

#[tokio::test]
async fn trailers_are_sent_to_those_who_take_them() {
    let echo = Echo::start().await.unwrap();
    let head = "GET /trailers HTTP/1.1\r\nHost: h\r\nConnection: close";
    let taken = exchange(&echo, &format!("{head}, TE\r\nTE: trailers\r\n\r\n")).await;
    assert!(taken.contains("\r\n0\r\nx-echo-sha256: "), "{taken}");
    let refused = exchange(&echo, &format!("{head}\r\n\r\n")).await;
    assert!(refused.ends_with("\r\n0\r\n\r\n"), "{refused}");
}

#[tokio::test]
async fn a_truncated_answer_is_shorter_than_it_promised() {
    let echo = Echo::start().await.unwrap();
    let answer = get(&echo, "/truncated?bytes=10").await;
    assert!(answer.contains("content-length: 20\r\n"), "{answer}");
    assert_eq!(body(&answer).len(), 10);
}

#[tokio::test]
async fn a_reset_is_not_an_orderly_close() {
    let echo = Echo::start().await.unwrap();
    let mut stream = TcpStream::connect(echo.address()).await.unwrap();
    stream
        .write_all(b"GET /reset HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_websocket_on_any_path_tells_its_handshake_and_ends_with_the_server() {
    let echo = Echo::start().await.unwrap();
    let mut stream = TcpStream::connect(echo.address()).await.unwrap();
    let handshake = "GET /any?hello HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nX-Who: alice\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !String::from_utf8_lossy(&answer[..length]).contains("\"trailers\":[]}") {
        length += stream.read(&mut answer[length..]).await.unwrap();
    }
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(answer.contains("[\"X-Who\",\"alice\"]"), "{answer}");
    echo.stop().await;
    let mut rest = Vec::new();
    let _result = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

//! What becomes of the connections between the sidecar and its workload.

use std::net::SocketAddr;
use std::sync::Arc;

use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Stage, eventually, in_time};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A workload whose connections are watched.
#[derive(Clone, Debug, Default)]
struct Watched(Arc<Mutex<Counts>>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    accepted: usize,
    closed: usize,
    requests: usize,
}

/// What it does after an answer.
#[derive(Clone, Copy, Debug)]
enum Then {
    Close,
    Keep,
}

impl Watched {
    /// Serves until the test ends, and says where.
    async fn start(&self, then: Then) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let watched = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                watched.0.lock().accepted += 1;
                let watched = watched.clone();
                tokio::spawn(async move {
                    // A connection that breaks off is closed, too.
                    watched.serve(stream, then).await.unwrap_or_default();
                    watched.0.lock().closed += 1;
                });
            }
        });
        address
    }

    async fn serve(&self, mut stream: TcpStream, then: Then) -> std::io::Result<()> {
        let mut received = Vec::new();
        loop {
            let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let head: Vec<u8> = received.drain(..end + 4).collect();
            let head = String::from_utf8(head).unwrap();
            self.0.lock().requests += 1;
            match head.split(' ').nth(1).unwrap() {
                "/endless" => return endless(stream).await,
                "/upload" => return answer_while_reading(stream, received.len()).await,
                _ => {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(answer.as_bytes()).await?;
                }
            }
            if matches!(then, Then::Close) {
                return Ok(());
            }
        }
    }

    fn counts(&self) -> Counts {
        *self.0.lock()
    }
}

/// Events until somebody leaves.
async fn endless(mut stream: TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut end = [0; 16];
    while stream.read(&mut end).await? > 0 {}
    Ok(())
}

/// Sends a large answer before it has read anything, and takes the upload all the same.
async fn answer_while_reading(stream: TcpStream, already: usize) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let answer = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(&vec![b'a'; LARGE]).await?;
        // Kept open until the other side has its bytes.
        Ok::<_, std::io::Error>(writer)
    });
    let mut piece = vec![0; 64 * 1024];
    let mut read = already;
    while read < LARGE {
        let more = reader.read(&mut piece).await?;
        if more == 0 {
            break;
        }
        read += more;
    }
    let _writer = answer.await.unwrap()?;
    Ok(())
}

/// A request of somebody who is logged in, on a connection of its own.
#[tokio::test]
async fn a_connection_to_the_workload_is_used_again() {
    let workload = Watched::default();
    let address = workload.start(Then::Keep).await;
    let stage = Stage::setup().in_front_of(address.port()).start().await;
    let browser = stage.logged_in(ALICE).await;
    let before = workload.counts();
    for _ in 0..5 {
        assert_eq!(browser.get("/").send().await.text(), "ok");
    }
    // With a body, too, whose connection is driven otherwise.
    for _ in 0..5 {
        assert_eq!(browser.post("/", "body").send().await.status, 200);
    }
    let after = workload.counts();
    assert_eq!(after.requests - before.requests, 10);
    assert!(after.accepted - before.accepted <= 1, "{after:?}");
}

#[tokio::test]
async fn a_connection_that_the_workload_has_closed_is_replaced() {
    let workload = Watched::default();
    let address = workload.start(Then::Close).await;
    let stage = Stage::setup().in_front_of(address.port()).start().await;
    let browser = stage.logged_in(ALICE).await;
    for _ in 0..5 {
        // The kernel tells of the end as soon as it is there.
        eventually("the connection to be closed", async || {
            let counts = workload.counts();
            (counts.closed == counts.accepted).then_some(())
        })
        .await;
        assert_eq!(browser.get("/").send().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let workload = Watched::default();
    let address = workload.start(Then::Keep).await;
    let stage = Stage::setup().in_front_of(address.port()).start().await;
    let browser = stage.logged_in(ALICE).await;
    assert_eq!(browser.get("/").send().await.text(), "ok");
    eventually("idle connections to be closed", async || {
        let counts = workload.counts();
        (counts.closed == counts.accepted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_connection_to_the_workload_along() {
    let workload = Watched::default();
    let address = workload.start(Then::Keep).await;
    let stage = Stage::setup().in_front_of(address.port()).start().await;
    let alice = stage.logged_in(ALICE).await;
    let mut wire = alice.begin("GET /endless", "").await;
    assert_eq!(wire.head().await.unwrap().status, 200);
    assert_eq!(wire.chunk().await.unwrap().unwrap(), b"event\n");
    drop(wire);
    eventually("the workload to see that the client has left", async || {
        let counts = workload.counts();
        (counts.closed == counts.accepted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_while_its_answer_is_not_read() {
    let workload = Watched::default();
    let address = workload.start(Then::Keep).await;
    let stage = Stage::setup().in_front_of(address.port()).start().await;
    let alice = stage.logged_in(ALICE).await;
    let length = format!("Content-Length: {LARGE}\r\n");
    let mut wire = alice.begin("POST /upload", &length).await;
    let body = vec![b'b'; LARGE];
    in_time("the whole upload to be taken", wire.send(&body)).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, LARGE));
}

/// More than the buffers of all sockets on the way hold.
const LARGE: usize = 32 * 1024 * 1024;

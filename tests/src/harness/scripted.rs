//! A server that answers what a test says, byte for byte: documents of a made-up provider, and upstreams
//! that break the rules.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Server, Socket};

/// One connection, one request, one answer; then it closes. It stops when it is dropped.
#[derive(Debug)]
pub struct Scripted {
    server: Server,
    requests: Arc<Mutex<Vec<Received>>>,
}

/// A request as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    /// Request line and header, up to and with the empty line.
    pub head: String,
    /// What came after it until the answer was sent.
    pub body: Vec<u8>,
}

impl Received {
    /// The request target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn content_length(&self) -> usize {
        let line = self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        });
        line.unwrap_or_default()
    }
}

impl Scripted {
    /// Starts on a free port of 127.0.0.1; `answer` is given each request and the server's address.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(
        answer: impl Fn(&Received, SocketAddr) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared, answer) = (Arc::clone(&requests), Arc::new(answer));
        let server = Server::spawn(listener, move |mut socket| {
            let (requests, answer) = (Arc::clone(&shared), Arc::clone(&answer));
            async move {
                if let Some(received) = read(&mut socket).await {
                    requests.lock().push(received.clone());
                    write(&mut socket, &answer(&received, address)).await;
                }
            }
        });
        Self {
            server: server.expect("an address"),
            requests,
        }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://…` without a path.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What was received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.requests.lock().clone()
    }
}

/// An answer with a JSON body.
pub fn json(status: u16, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn read(socket: &mut Socket) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let body = bytes.split_off(end);
    let mut received = Received {
        head: String::from_utf8_lossy(&bytes).into_owned(),
        body,
    };
    while received.body.len() < received.content_length() {
        if socket.read_buf(&mut received.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(received)
}

async fn write(socket: &mut Socket, answer: &[u8]) {
    let written = socket.write_all(answer).await;
    if let Err(error) = written.and(socket.shutdown().await) {
        tracing::debug!(%error, "the peer is gone");
        return;
    }
    // Closing with something unread would reset the connection, and the answer with it.
    let mut rest = Vec::new();
    let _broken = socket.read_to_end(&mut rest).await;
}

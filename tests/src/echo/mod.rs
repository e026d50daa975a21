//! An upstream that tells what it received.
//!
//! | request | answer |
//! |---|---|
//! | any path | 200 and a [`Reflection`] as JSON; the body is read as it comes, and hashed |
//! | any path with `Upgrade: websocket` | 101, then every message back; with `?hello` a [`Reflection`] of the handshake is the first message |
//! | `/sse?count=5&interval_ms=1000` | that many server-sent events |
//! | `/download?bytes=0` | that many bytes, each its offset modulo 251 |
//! | `/truncated?bytes=N` | promises twice as many bytes as it sends, then cuts the connection |
//! | `/status/NNN` | that status, 200 to 599, with a [`Reflection`] where a body is allowed; the request body is not read |
//! | `/slow?ms=1000` | a [`Reflection`], after that delay before the head |
//! | `/headers?name=value&name=value` | those response fields, duplicates too |
//! | `/trailers` | a chunked body and a trailer field (over HTTP/1 only if the request says `TE: trailers`) |
//! | `/hang` | nothing, ever |
//! | `/reset` | a connection reset |
//! | `/requests` | `{"requests": N}`: how many were received so far, this path not counted |
//!
//! `Expect: 100-continue` is answered when the body is wanted, so not for `/status/413`. HTTP/1.0,
//! HTTP/1.1 and HTTP/2 with prior knowledge are spoken, without TLS. Nothing is kept in memory that
//! grows with a body.

mod body;
mod query;
mod raw;
mod reflect;
mod respond;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server::{Server, Socket};

pub use body::download_byte;
pub use reflect::Reflection;

/// A running echo upstream; it stops when it is dropped.
#[derive(Debug)]
pub struct Echo {
    server: Server,
    upstream: Upstream,
}

impl Echo {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts on `address`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let upstream = Upstream::default();
        let shared = upstream.clone();
        let listener = TcpListener::bind(address).await?;
        let server = Server::spawn(listener, move |socket| connection(socket, shared.clone()))?;
        Ok(Self { server, upstream })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://…` for a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// How many requests were received so far.
    pub fn requests(&self) -> u64 {
        self.upstream.requests()
    }

    /// Cuts every connection and frees the port.
    pub async fn stop(mut self) {
        self.upstream.stop.cancel();
        self.server.stop().await;
    }
}

/// What the connections of one upstream share.
#[derive(Clone, Debug, Default)]
struct Upstream {
    requests: Arc<AtomicU64>,
    /// Ends every WebSocket: they have left the connection that they came by.
    stop: CancellationToken,
}

impl Upstream {
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.upstream.stop.cancel();
    }
}

async fn connection(socket: Socket, upstream: Upstream) {
    let tap = raw::Tap::new(socket);
    let heads = tap.heads();
    let reset = tap.reset();
    let service = service_fn(|request| {
        let raw = heads.lock().take();
        respond::respond(request, raw, upstream.clone(), reset.clone())
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(tap), service);
    tokio::select! {
        // Dropping the connection then resets it.
        () = reset.ordered() => {}
        ended = serving => if let Err(error) = ended {
            tracing::debug!(error = &*error, "a connection ended with an error");
        },
    }
}

#[cfg(test)]
mod tests;

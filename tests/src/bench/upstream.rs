//! The workload behind all peers: as little work as a server can do, so that what is measured is the
//! proxy. It understands what the scenarios ask, and nothing else.
//!
//! | path | answers |
//! |---|---|
//! | `/64`, `/65536`, … | so many bytes |
//! | `/events` | an event ten times a second, without end |
//! | anything, with `Upgrade` | 101, and then the bytes come back |

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be used.
pub async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .context("failed to listen")?;
    loop {
        let (stream, _peer) = listener.accept().await.context("failed to accept")?;
        stream.set_nodelay(true)?;
        // A proxy that goes away is no error.
        tokio::spawn(async move { connection(stream).await.unwrap_or_default() });
    }
}

async fn connection(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    while let Some(request) = next_request(&mut stream, &mut buffer).await? {
        match request {
            Request::Bytes(length) => answer(&mut stream, length).await?,
            Request::Events => return events(stream).await,
            Request::Upgrade => return echo(stream).await,
        }
    }
    Ok(())
}

enum Request {
    Bytes(usize),
    Events,
    Upgrade,
}

/// Reads one request head; none of them has a body.
async fn next_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Request>> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Ok(Some(parse(&head)));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &[u8]) -> Request {
    let path = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let is_upgrade = head
        .split(|b| *b == b'\n')
        .any(|line| line.len() > 8 && line[..8].eq_ignore_ascii_case(b"upgrade:"));
    if is_upgrade {
        Request::Upgrade
    } else if path == b"/events" {
        Request::Events
    } else {
        let length = path
            .iter()
            .filter(|b| b.is_ascii_digit())
            .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        Request::Bytes(length.min(MAX_BODY))
    }
}

async fn answer(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    let mut head = String::with_capacity(PIECE.min(length) + 128);
    // A string only grows.
    let _infallible = write!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    let first = length.min(PIECE);
    bytes.resize(bytes.len() + first, b'x');
    stream.write_all(&bytes).await?;
    let mut left = length - first;
    if left > 0 {
        let piece = vec![b'x'; PIECE];
        while left > 0 {
            let now = left.min(PIECE);
            stream.write_all(&piece[..now]).await?;
            left -= now;
        }
    }
    Ok(())
}

async fn events(mut stream: TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut ticks = tokio::time::interval(BETWEEN_EVENTS);
    loop {
        ticks.tick().await;
        stream.write_all(EVENT.as_bytes()).await?;
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = [0; 512];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..read]).await?;
    }
}

/// Where `needle` begins.
pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

/// What one event adds to the body, for those who count.
pub(super) const EVENT_DATA: &[u8] = b"data: tick\n\n";
const EVENT: &str = "c\r\ndata: tick\n\n\r\n";
/// Between two events of one stream.
pub(super) const BETWEEN_EVENTS: Duration = Duration::from_millis(100);
const PIECE: usize = 256 * 1024;
const MAX_BODY: usize = 1024 * 1024 * 1024;

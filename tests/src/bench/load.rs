//! Load: so many connections, each of which asks again as soon as it has its answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::upstream::find;

/// What the clients saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// In microseconds, from the first byte of a request to the last of its answer.
    pub(super) latency_us: Histogram<u64>,
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
}

impl Seen {
    pub(super) fn nothing() -> anyhow::Result<Self> {
        Ok(Self {
            latency_us: Histogram::new_with_bounds(1, 120_000_000, 3)?,
            requests: 0,
            elapsed: Duration::ZERO,
        })
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latency_us.add(&other.latency_us)?;
        self.requests += other.requests;
        self.elapsed += other.elapsed;
        Ok(())
    }
}

/// Sends `request` over `connections` connections until `time` is over, at least once each.
pub(super) async fn send(
    address: SocketAddr,
    request: &str,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.context("refused")?;
        stream.set_nodelay(true)?;
        opened.push(stream);
    }
    let started = Instant::now();
    let until = started + time;
    let mut clients: JoinSet<anyhow::Result<Seen>> = opened
        .into_iter()
        .map(|stream| client(address, stream, request.as_bytes().to_vec(), until))
        .collect();
    let mut seen = Seen::nothing()?;
    while let Some(client) = clients.join_next().await {
        seen.add(&client??)?;
    }
    seen.elapsed = started.elapsed();
    Ok(seen)
}

async fn client(
    address: SocketAddr,
    mut stream: TcpStream,
    request: Vec<u8>,
    until: Instant,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::nothing()?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let sent = Instant::now();
        while !exchange(&mut stream, &request, &mut buffer).await? {
            // A busy server may close a kept connection between two requests (RFC 9112 §9.6); the time
            // for another counts.
            stream = TcpStream::connect(address).await.context("refused")?;
            stream.set_nodelay(true)?;
        }
        let now = Instant::now();
        let latency = u64::try_from((now - sent).as_micros())?;
        seen.latency_us.saturating_record(latency);
        seen.requests += 1;
        if now >= until {
            return Ok(seen);
        }
    }
}

/// Sends a request and reads its answer, which must be a 200 with a length. False if the connection was
/// closed before there was any.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
) -> anyhow::Result<bool> {
    if stream.write_all(request).await.is_err() {
        return Ok(false);
    }
    let mut filled = 0;
    let end = loop {
        let read = match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) if filled == 0 => return Ok(false),
            read => read?,
        };
        anyhow::ensure!(read > 0, "the connection was closed within an answer");
        filled += read;
        if let Some(end) = find(&buffer[..filled], b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = std::str::from_utf8(&buffer[..end])?;
    anyhow::ensure!(
        head.starts_with("HTTP/1.1 200"),
        "not the workload's answer: {head}"
    );
    let mut left = content_length(head)?
        .checked_sub(filled - end)
        .context("an answer that is longer than it says")?;
    while left > 0 {
        let room = buffer.len().min(left);
        let read = stream.read(&mut buffer[..room]).await?;
        anyhow::ensure!(read > 0, "the connection was closed within an answer");
        left -= read;
    }
    Ok(true)
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    Ok(value
        .context("an answer without a length")?
        .trim()
        .parse()?)
}

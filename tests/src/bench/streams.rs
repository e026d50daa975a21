//! Connections that stay: events to many readers, and tunnels in which nobody speaks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::peer::Peer;
use super::report::Stream;
use super::upstream::{EVENT_DATA, find};

/// Measures every peer, one after the other. One that cannot do it is left out, with a warning.
pub(super) async fn measure(peers: &[Peer]) -> Vec<Stream> {
    let mut streams = Vec::new();
    for peer in peers {
        tracing::info!("streams of {}", peer.name);
        for measured in [fan_out(peer).await, idle_sockets(peer).await] {
            match measured {
                Ok(stream) => streams.push(stream),
                Err(error) => tracing::warn!("{}: {error:#}", peer.name),
            }
        }
    }
    streams
}

/// Many readers of a stream of events: what one event costs.
async fn fan_out(peer: &Peer) -> anyhow::Result<Stream> {
    let request = peer.ask_with_session("/events", "");
    let mut readers = JoinSet::new();
    let opened = open(peer.address, &request, READERS).await?;
    let before = peer.process.usage()?;
    let started = Instant::now();
    for stream in opened {
        readers.spawn(count_events(stream, started + FAN_OUT_TIME));
    }
    let mut events = 0_u32;
    while let Some(reader) = readers.join_next().await {
        events += reader??;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let after = peer.process.usage()?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    anyhow::ensure!(events > 0, "no event arrived");
    Ok(Stream {
        peer: peer.name,
        scenario: "event-streams",
        connections: READERS,
        rss_kib: after.rss_kib,
        events_per_second: f64::from(events) / elapsed,
        cpu_us_per_event: cpu * 1e6 / f64::from(events),
    })
}

/// Many tunnels without traffic: what they cost in memory.
async fn idle_sockets(peer: &Peer) -> anyhow::Result<Stream> {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = peer.ask_with_session("/websocket", fields);
    let mut opened = open(peer.address, &request, SOCKETS).await?;
    for stream in &mut opened {
        let head = read_head(stream).await?;
        anyhow::ensure!(head.starts_with(b"HTTP/1.1 101"), "an upgrade was refused");
    }
    // They are there in both directions, not only promised.
    for stream in &mut opened {
        stream.write_all(b"ping").await?;
    }
    for stream in &mut opened {
        let mut back = [0; 4];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut back))
            .await
            .context("an idle WebSocket does not answer")??;
    }
    Ok(Stream {
        peer: peer.name,
        scenario: "idle-websockets",
        connections: SOCKETS,
        rss_kib: peer.process.usage()?.rss_kib,
        events_per_second: 0.0,
        cpu_us_per_event: 0.0,
    })
}

async fn open(
    address: SocketAddr,
    request: &str,
    connections: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).await.context("refused")?;
        stream.write_all(request.as_bytes()).await?;
        opened.push(stream);
    }
    Ok(opened)
}

/// Byte by byte, so that nothing of what follows is lost.
async fn read_head(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        let byte = tokio::time::timeout(DEADLINE, stream.read_u8())
            .await
            .context("no answer")??;
        head.push(byte);
    }
    Ok(head)
}

async fn count_events(mut stream: TcpStream, until: Instant) -> anyhow::Result<u32> {
    let mut buffer = [0; 4096];
    let mut bytes = Vec::new();
    let mut events = 0;
    while let Ok(read) = tokio::time::timeout_at(until, stream.read(&mut buffer)).await {
        let read = read?;
        anyhow::ensure!(read > 0, "a stream of events ended");
        bytes.extend_from_slice(&buffer[..read]);
        while let Some(at) = find(&bytes, EVENT_DATA) {
            bytes.drain(..at + EVENT_DATA.len());
            events += 1;
        }
    }
    Ok(events)
}

const READERS: usize = 200;
const FAN_OUT_TIME: Duration = Duration::from_secs(5);
const SOCKETS: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(20);

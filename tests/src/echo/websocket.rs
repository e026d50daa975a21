//! A WebSocket peer that sends every message back (RFC 6455).
//!
//! Frames are passed on while they arrive, in constant memory, with their fragmentation unchanged.

use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The answer's headers to a handshake, or `None` when it is not a valid one.
pub(crate) fn accept(request: &HeaderMap) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let asks = request
        .get(UPGRADE)?
        .as_bytes()
        .eq_ignore_ascii_case(b"websocket");
    let version = request.get("sec-websocket-version")?.as_bytes() == b"13";
    let key = request.get("sec-websocket-key")?;
    let mut answer = vec![
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (
            HeaderName::from_static("sec-websocket-accept"),
            accept_value(key)?,
        ),
    ];
    if let Some(offered) = request.get("sec-websocket-protocol") {
        let first = offered
            .to_str()
            .ok()?
            .split(',')
            .next()
            .unwrap_or_default()
            .trim();
        let name = HeaderName::from_static("sec-websocket-protocol");
        answer.push((name, HeaderValue::from_str(first).ok()?));
    }
    (asks && version).then_some(answer)
}

/// Sends `greeting` as the first text message, then echoes until the peer closes.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn echo<S>(stream: S, greeting: Option<String>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = tokio::io::BufStream::new(stream);
    if let Some(greeting) = greeting {
        stream
            .write_all(&frame_head(FINAL | TEXT, greeting.len() as u64))
            .await?;
        stream.write_all(greeting.as_bytes()).await?;
        stream.flush().await?;
    }
    loop {
        let frame = match Frame::read(&mut stream).await? {
            Ok(frame) => frame,
            Err(Violation) => return refuse(&mut stream).await,
        };
        let opcode = frame.first & OPCODE;
        if opcode == PONG {
            frame.discard(&mut stream).await?;
            continue;
        }
        let answer = if opcode == PING {
            FINAL | PONG
        } else {
            frame.first
        };
        stream.write_all(&frame_head(answer, frame.length)).await?;
        frame.pass(&mut stream).await?;
        stream.flush().await?;
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
}

/// The head of a frame whose payload was not read yet.
#[derive(Debug)]
struct Frame {
    /// Flags and opcode.
    first: u8,
    length: u64,
    mask: [u8; 4],
}

/// What the peer sent is not allowed by RFC 6455 §5.
#[derive(Debug)]
struct Violation;

impl Frame {
    async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<Self, Violation>> {
        let first = stream.read_u8().await?;
        let second = stream.read_u8().await?;
        let length = match second & LENGTH {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        let masked = second & MASKED != 0;
        let control = first & OPCODE >= CLOSE;
        let bad_control = control && (length > CONTROL_PAYLOAD_MAX || first & FINAL == 0);
        if !masked || first & RESERVED != 0 || bad_control {
            return Ok(Err(Violation));
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await?;
        Ok(Ok(Self {
            first,
            length,
            mask,
        }))
    }

    /// Copies the unmasked payload back, a piece at a time.
    async fn pass<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut key = self.mask.iter().cycle();
        let mut left = self.length;
        while left > 0 {
            let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = stream
                .read(piece.get_mut(..want).unwrap_or_default())
                .await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let bytes = piece.get_mut(..read).unwrap_or_default();
            bytes
                .iter_mut()
                .zip(&mut key)
                .for_each(|(byte, key)| *byte ^= key);
            stream.write_all(bytes).await?;
            left = left.saturating_sub(read as u64);
        }
        Ok(())
    }

    async fn discard<S: AsyncRead + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        tokio::io::copy(&mut stream.take(self.length), &mut tokio::io::sink()).await?;
        Ok(())
    }
}

/// Closes with 1002, "protocol error".
async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&frame_head(FINAL | CLOSE, 2)).await?;
    stream.write_u16(PROTOCOL_ERROR).await?;
    stream.flush().await?;
    stream.shutdown().await
}

fn frame_head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(medium)) => {
            head.push(126);
            head.extend(medium.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend(length.to_be_bytes());
        }
    }
    head
}

fn accept_value(key: &HeaderValue) -> Option<HeaderValue> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(HANDSHAKE_GUID);
    HeaderValue::from_str(&STANDARD.encode(context.finish())).ok()
}

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const CONTROL_PAYLOAD_MAX: u64 = 125;
const PROTOCOL_ERROR: u16 = 1002;
const PIECE_BYTES: usize = 16 * 1024;
/// RFC 6455 §1.3.
const HANDSHAKE_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(sent: &[u8], greeting: Option<&str>) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let echoing = tokio::spawn(echo(server, greeting.map(str::to_owned)));
        client.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        echoing.await.unwrap().unwrap();
        received
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame_head(first, payload.len() as u64);
        frame[1] |= MASKED;
        let mask = [7, 11, 13, 17];
        frame.extend(mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        frame
    }

    #[tokio::test]
    async fn every_frame_comes_back_unmasked_and_in_order() {
        let large: Vec<u8> = (0..=u8::MAX).cycle().take(20_000).collect();
        let sent = [
            masked(0x01, b"frag"),
            masked(FINAL | PING, b"ping"),
            masked(FINAL, b"ment"),
            masked(FINAL | PONG, b"ignored"),
            masked(FINAL | 0x2, &large),
            masked(FINAL | CLOSE, &1000_u16.to_be_bytes()),
        ];
        let received = exchange(&sent.concat(), Some("hello")).await;
        let mut expected = b"\x81\x05hello\x01\x04frag\x8a\x04ping\x80\x04ment".to_vec();
        expected.extend(b"\x82\x7e");
        expected.extend(20_000_u16.to_be_bytes());
        expected.extend(large);
        expected.extend(b"\x88\x02\x03\xe8");
        assert!(
            received == expected,
            "{} bytes instead of {}",
            received.len(),
            expected.len()
        );
    }

    #[tokio::test]
    async fn an_unmasked_frame_is_refused() {
        assert_eq!(exchange(b"\x81\x01x", None).await, b"\x88\x02\x03\xea");
    }

    #[test]
    fn the_accept_value_is_that_of_rfc_6455() {
        let value = accept_value(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        assert_eq!(value, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

//! A WebSocket client (RFC 6455), just able to talk to an echo.

use std::net::SocketAddr;

use super::wait::in_time;
use super::wire::{Answer, Wire};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    wire: Wire,
}

impl WebSocket {
    /// Asks for a WebSocket at `path` of `host`, with further header lines.
    ///
    /// # Errors
    /// The answer, if it is not 101.
    ///
    /// # Panics
    /// If there is no answer, or one that is not of RFC 6455.
    pub async fn connect(
        address: SocketAddr,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Answer> {
        let lines: String = headers
            .iter()
            .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
            .collect();
        let mut wire = Wire::connect(address).await;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
        );
        wire.send(request.as_bytes()).await;
        let answer = in_time("an answer to a handshake", wire.try_answer()).await;
        let answer = answer.expect("an answer to a handshake");
        if answer.status == 101 {
            assert_eq!(answer.header("sec-websocket-accept"), ACCEPT);
            assert!(answer.header("upgrade").eq_ignore_ascii_case("websocket"));
            Ok(Self { wire })
        } else {
            Err(answer)
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, text: &str) {
        let payload = text.as_bytes();
        let mut frame = vec![FINAL_TEXT];
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(MASKED | length),
            _ => {
                let length = u16::try_from(payload.len()).expect("a short message");
                frame.push(MASKED | 0x7e);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, key)| byte ^ key));
        self.wire.send(&frame).await;
    }

    /// The next message; `None` when the peer closed or broke off.
    pub async fn receive(&mut self) -> Option<String> {
        let frame = in_time("a message", self.read_frame()).await.ok()?;
        let (opcode, payload) = frame;
        (opcode != FINAL_CLOSE).then(|| String::from_utf8_lossy(&payload).into_owned())
    }

    /// The code with which the peer closes (RFC 6455 §7.4); `None` if it breaks off. Messages until then
    /// are dropped.
    ///
    /// # Panics
    /// If the frame says no code.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            let frame = in_time("the end", self.read_frame()).await.ok()?;
            let (opcode, payload) = frame;
            if opcode == FINAL_CLOSE {
                let code = payload.first_chunk().expect("a code");
                return Some(u16::from_be_bytes(*code));
            }
        }
    }

    /// Sends a message and expects it back.
    ///
    /// # Panics
    /// If something else comes, or nothing.
    pub async fn echo(&mut self, text: &str) {
        self.send(text).await;
        assert_eq!(self.receive().await.as_deref(), Some(text));
    }

    /// The next frame: its first byte, and its payload.
    async fn read_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let head = self.wire.bytes(2).await?;
        let length = match head[1] {
            126 => {
                let length = self.wire.bytes(2).await?;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            short => usize::from(short),
        };
        Ok((head[0], self.wire.bytes(length).await?))
    }
}

const FINAL_TEXT: u8 = 0x81;
/// The only frame of its message, with opcode 8 (RFC 6455 §5.5.1).
const FINAL_CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [3, 5, 7, 11];
/// RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

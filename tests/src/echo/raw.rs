//! Request heads as they came over the wire: names in their case, in their order, with duplicates.
//!
//! hyper keeps none of the three for a server to see. [`Tap`] sits under hyper, follows the framing
//! of the bytes that hyper reads, and keeps each head until the service asks for it. Bodies are
//! counted and not kept.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::{Reset, Socket};

/// One HTTP/1 request head. Bytes that are not UTF-8 appear as U+0080 to U+00FF, one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RawHead {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl RawHead {
    fn parse(head: &[u8]) -> Self {
        let mut lines = head.split(|byte| *byte == b'\n').map(trim_return);
        let request_line = text(lines.next().unwrap_or_default());
        let mut words = request_line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let headers = lines.filter(|line| !line.is_empty()).map(header).collect();
        Self {
            method,
            target,
            headers,
        }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// How the body after this head is framed (RFC 9112 §6.3).
    fn body(&self) -> Phase {
        // After an upgrade the bytes are not HTTP any more.
        if self
            .values("upgrade")
            .any(|value| value.eq_ignore_ascii_case("websocket"))
        {
            return Phase::Opaque;
        }
        if self
            .values("transfer-encoding")
            .any(|value| value.to_lowercase().ends_with("chunked"))
        {
            return Phase::Chunk(Chunk::Size {
                value: 0,
                extension: false,
            });
        }
        let length = self
            .values("content-length")
            .next()
            .and_then(|value| value.parse().ok());
        Phase::of_length(length.unwrap_or(0))
    }
}

/// Follows the framing of one connection.
#[derive(Debug)]
pub(crate) struct Heads {
    phase: Phase,
    /// Bounded by what hyper reads ahead: it takes a head before it reads past the next one.
    waiting: VecDeque<RawHead>,
}

impl Heads {
    fn new() -> Self {
        Self {
            phase: Phase::head(),
            waiting: VecDeque::new(),
        }
    }

    /// The oldest head that nobody took yet.
    pub(crate) fn take(&mut self) -> Option<RawHead> {
        self.waiting.pop_front()
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = match &mut self.phase {
                Phase::Head(head) => {
                    let (used, complete) = extend_head(head, bytes);
                    if head.len() > HEAD_BYTES_MAX || head.starts_with(HTTP2_PREFACE) {
                        self.phase = Phase::Opaque;
                    } else if complete {
                        let raw = RawHead::parse(head);
                        self.phase = raw.body();
                        self.waiting.push_back(raw);
                    }
                    used
                }
                Phase::Sized(left) => {
                    let used = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.phase = Phase::of_length(left.saturating_sub(used as u64));
                    used
                }
                Phase::Chunk(chunk) => {
                    let (used, next) = chunk.advance(bytes);
                    self.phase = next.map_or_else(Phase::head, Phase::Chunk);
                    used
                }
                Phase::Opaque => return,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }
}

/// The socket of one connection, read by hyper and looked at by [`Heads`].
#[derive(Debug)]
pub(crate) struct Tap {
    socket: Socket,
    heads: Arc<Mutex<Heads>>,
}

impl Tap {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            heads: Arc::new(Mutex::new(Heads::new())),
        }
    }

    pub(crate) fn reset(&self) -> Reset {
        self.socket.reset()
    }

    pub(crate) fn heads(&self) -> Arc<Mutex<Heads>> {
        Arc::clone(&self.heads)
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Some(read) = buffer.filled().get(before..) {
            self.heads.lock().feed(read);
        }
        result
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Text of header bytes: UTF-8 where it is UTF-8, else one character for each byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().copied().map(char::from).collect(),
        str::to_owned,
    )
}

#[derive(Debug)]
enum Phase {
    /// The bytes of a head, so far.
    Head(Vec<u8>),
    /// A body with this many bytes to come.
    Sized(u64),
    Chunk(Chunk),
    /// Not HTTP/1 (any more).
    Opaque,
}

impl Phase {
    fn head() -> Self {
        Self::Head(Vec::new())
    }

    fn of_length(left: u64) -> Self {
        if left == 0 {
            Self::head()
        } else {
            Self::Sized(left)
        }
    }
}

/// Where in a chunked body the connection is (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size {
        value: u64,
        extension: bool,
    },
    /// Data, and the line end after it, with this many bytes to come.
    Data(u64),
    /// The trailer section; the length of the line so far.
    Trailer(usize),
}

impl Chunk {
    /// How many bytes belong to this step, and the step after it; `None` when the body is over.
    fn advance(self, bytes: &[u8]) -> (usize, Option<Self>) {
        let Some(byte) = bytes.first().copied() else {
            return (0, Some(self));
        };
        match self {
            Self::Size { value: 0, .. } if byte == b'\n' => (1, Some(Self::Trailer(0))),
            Self::Size { value, .. } if byte == b'\n' => {
                (1, Some(Self::Data(value.saturating_add(LINE_END_BYTES))))
            }
            Self::Size { value, extension } => {
                let digit = char::from(byte).to_digit(16).filter(|_| !extension);
                let value = digit.map_or(value, |digit| (value << 4) | u64::from(digit));
                (
                    1,
                    Some(Self::Size {
                        value,
                        extension: extension || digit.is_none(),
                    }),
                )
            }
            Self::Data(left) => {
                let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left.saturating_sub(used as u64);
                let start = Self::Size {
                    value: 0,
                    extension: false,
                };
                (used, Some(if left == 0 { start } else { Self::Data(left) }))
            }
            Self::Trailer(0) if byte == b'\n' => (1, None),
            Self::Trailer(_) if byte == b'\n' => (1, Some(Self::Trailer(0))),
            Self::Trailer(length) if byte == b'\r' => (1, Some(Self::Trailer(length))),
            Self::Trailer(length) => (1, Some(Self::Trailer(length.saturating_add(1)))),
        }
    }
}

/// Adds bytes to a head until it is complete: how many were used, and whether it is.
fn extend_head(head: &mut Vec<u8>, bytes: &[u8]) -> (usize, bool) {
    for (index, byte) in bytes.iter().enumerate() {
        // Empty lines before a request line are allowed and skipped (RFC 9112 §2.2).
        if head.is_empty() && matches!(byte, b'\r' | b'\n') {
            continue;
        }
        head.push(*byte);
        if *byte == b'\n' && (head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")) {
            return (index + 1, true);
        }
    }
    (bytes.len(), false)
}

fn header(line: &[u8]) -> (String, String) {
    let (name, value) = match line.iter().position(|byte| *byte == b':') {
        Some(colon) => line.split_at(colon),
        None => (line, &[][..]),
    };
    let value = value.strip_prefix(b":").unwrap_or(value);
    (text(name), text(value.trim_ascii()))
}

fn trim_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// More than hyper accepts for a head by default, so hyper refuses first.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// RFC 9113 §3.4; no HTTP/1 request starts like this.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
const LINE_END_BYTES: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_REQUESTS: &[u8] =
        b"\r\nPOST /a%2Fb?x=1#f HTTP/1.1\r\nHost: h\r\nx-A: 1\r\nX-a:  2 \r\n\
        Transfer-Encoding: chunked\r\n\r\n4;ext=1\r\nabcd\r\n0\r\nTrailer-1: t\r\n\r\n\
        GET http://other/abs HTTP/1.1\r\nContent-Length: 3\r\nX-Latin: \xe9\r\n\r\nxyz\
        GET /last HTTP/1.1\n\n";

    fn heads_of(stream: &[u8], piece: usize) -> Vec<RawHead> {
        let mut heads = Heads::new();
        stream.chunks(piece).for_each(|bytes| heads.feed(bytes));
        std::iter::from_fn(|| heads.take()).collect()
    }

    #[test]
    fn heads_are_kept_as_sent_however_the_bytes_arrive() {
        let whole = heads_of(TWO_REQUESTS, TWO_REQUESTS.len());
        let names: Vec<_> = whole[0]
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["Host", "x-A", "X-a", "Transfer-Encoding"]);
        assert_eq!(whole[0].headers[2].1, "2");
        let targets: Vec<_> = whole.iter().map(|head| head.target.as_str()).collect();
        assert_eq!(targets, ["/a%2Fb?x=1#f", "http://other/abs", "/last"]);
        assert_eq!(whole[1].headers[1].1, "\u{e9}");
        for piece in 1..20 {
            assert_eq!(heads_of(TWO_REQUESTS, piece), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_not_http1_is_not_read_as_heads() {
        let upgrade = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET /no HTTP/1.1\r\n\r\n";
        assert_eq!(heads_of(upgrade, 5).len(), 1);
        let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        assert_eq!(heads_of(http2, 100), []);
    }
}

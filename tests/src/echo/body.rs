//! The bodies that the echo upstream sends, none of which is held in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

/// Any body of this upstream.
pub(crate) type EchoBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is known already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> EchoBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The byte at `offset` of every download: its place, modulo 251.
pub fn download_byte(offset: u64) -> u8 {
    (offset % PERIOD) as u8
}

/// `length` bytes of download; after `breaks_at` of them the connection is cut.
pub(crate) fn download(length: u64, breaks_at: Option<u64>) -> EchoBody {
    let pattern = (0..PERIOD * PERIODS).map(download_byte).collect();
    Download {
        pattern,
        left: length,
        until_break: breaks_at,
        flushed: false,
    }
    .boxed_unsync()
}

/// `count` server-sent events, one each `interval`.
pub(crate) fn events(count: u64, interval: Duration) -> EchoBody {
    let events = stream::unfold(0, move |number| async move {
        if number >= count {
            return None;
        }
        if number > 0 {
            tokio::time::sleep(interval).await;
        }
        let event = format!("id: {number}\nevent: tick\ndata: {{\"number\":{number}}}\n\n");
        Some((Ok(Frame::data(Bytes::from(event))), number + 1))
    });
    StreamBody::new(events).boxed_unsync()
}

/// A short body with a trailer field that holds its digest.
pub(crate) fn with_trailers() -> EchoBody {
    let content = Bytes::from_static(b"the digest of this line follows in a trailer\n");
    let mut trailers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&hex(&digest::digest(&digest::SHA256, &content))) {
        trailers.insert(TRAILER_NAME, value);
    }
    let frames = [Ok(Frame::data(content)), Ok(Frame::trailers(trailers))];
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// The field that [`with_trailers`] sends.
pub(crate) const TRAILER_NAME: &str = "x-echo-sha256";

/// Lower-case hexadecimal.
pub(crate) fn hex(digest: &digest::Digest) -> String {
    use std::fmt::Write;
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Hands out slices of one repeated pattern.
struct Download {
    /// A whole number of periods, so that every piece starts where the pattern starts.
    pattern: Bytes,
    left: u64,
    until_break: Option<u64>,
    flushed: bool,
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.until_break == Some(0) {
            if self.flushed {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            // hyper flushes when it has to wait; with an error at once, nothing would be sent.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self
            .until_break
            .map_or(self.left, |until| until.min(self.left));
        let length = self
            .pattern
            .len()
            .min(usize::try_from(next).unwrap_or(usize::MAX));
        self.left = self.left.saturating_sub(length as u64);
        self.until_break = self
            .until_break
            .map(|until| until.saturating_sub(length as u64));
        Poll::Ready(Some(Ok(Frame::data(self.pattern.slice(..length)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A prime, so that a shifted or swapped piece does not look right by accident.
const PERIOD: u64 = 251;
/// Makes pieces of just under 64 KiB.
const PERIODS: u64 = 261;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_download_has_the_content_that_is_promised() {
        let bytes = download(200_000, None).collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), 200_000);
        let wrong = bytes
            .iter()
            .zip(0..)
            .find(|(byte, offset)| **byte != download_byte(*offset));
        assert_eq!(wrong, None);
    }

    #[tokio::test]
    async fn a_truncated_download_ends_with_an_error() {
        let mut body = download(100, Some(40));
        assert_eq!(body.size_hint().exact(), Some(100));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), 40);
        assert!(body.frame().await.unwrap().is_err());
    }
}

//! Long bodies, cut when the user whom they serve may no longer be here.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes};
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Whether `body` is known to be over before anybody could be taken off a list.
pub(crate) fn is_short(body: &Body) -> bool {
    body.size_hint().upper().is_some_and(|size| size <= SHORT)
}

/// `body`, until what `ended` makes resolves.
///
/// Nothing is made and nobody is asked while frames come at once and are few: most answers of unknown
/// length are short.
pub(crate) fn watched<F>(body: Body, ended: impl FnOnce() -> F + Send + 'static) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    Body::new(Watched {
        body,
        passed: 0,
        watch: Watch::Asleep(Some(Box::new(move || Box::pin(ended())))),
    })
}

/// The user may no longer be here.
#[derive(Debug, thiserror::Error)]
#[error("cut, because its user may no longer be here")]
struct NoLongerAllowed;

struct Watched {
    body: Body,
    passed: u64,
    watch: Watch,
}

type Ended = BoxFuture<'static, ()>;

enum Watch {
    Asleep(Option<Box<dyn FnOnce() -> Ended + Send>>),
    Awake(Ended),
    Cut,
}

impl Watch {
    /// Whether the end has come; if not, the task is woken when it does.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Asleep(ended) = self
            && let Some(ended) = ended.take()
        {
            *self = Self::Awake(ended());
        }
        let poll = match self {
            Self::Awake(ended) => ended.as_mut().poll(context),
            Self::Asleep(_) | Self::Cut => Poll::Ready(()),
        };
        if poll.is_ready() {
            *self = Self::Cut;
        }
        poll
    }

    const fn is_asleep(&self) -> bool {
        matches!(self, Self::Asleep(_))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let is_long = self.passed > SHORT;
        if (is_long || !self.watch.is_asleep()) && self.watch.poll(context).is_ready() {
            return Poll::Ready(Some(Err(NoLongerAllowed.into())));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => match self.watch.poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(NoLongerAllowed.into()))),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let length = u64::try_from(length).unwrap_or(u64::MAX);
                    self.passed = self.passed.saturating_add(length);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As many bytes pass at once.
const SHORT: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;
    use tokio::sync::Notify;

    use super::*;

    fn endless() -> Body {
        Body::from_stream(stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from(vec![0; 65_536]))
        }))
    }

    #[tokio::test]
    async fn a_body_that_waits_is_cut_when_the_end_comes() {
        let end = Arc::new(Notify::new());
        let waits = Arc::clone(&end);
        let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"event")) });
        let quiet = Body::from_stream(first.chain(stream::pending()));
        let mut body = watched(quiet, move || async move { waits.notified().await });
        assert!(body.frame().await.unwrap().is_ok());
        let rest = tokio::spawn(async move { body.frame().await.unwrap().map(drop) });
        end.notify_one();
        let error = rest.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("may no longer be here"));
    }

    #[tokio::test]
    async fn a_body_that_never_waits_is_cut_too() {
        let mut body = watched(endless(), || std::future::ready(()));
        let mut passed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed += frame.into_data().unwrap().len();
        }
        assert!(passed <= 2 * 256 * 1024, "{passed} bytes");
        // It stays cut.
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn nobody_is_asked_about_what_is_short() {
        let asked = Arc::new(AtomicBool::new(false));
        let two = stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")]);
        let asks = Arc::clone(&asked);
        let body = watched(Body::from_stream(two), move || {
            asks.store(true, Ordering::Relaxed);
            std::future::ready(())
        });
        assert!(body.collect().await.is_ok());
        assert!(!asked.load(Ordering::Relaxed));
    }

    #[test]
    fn an_empty_body_and_one_of_known_length_are_short() {
        assert!(is_short(&Body::empty()));
        assert!(is_short(&Body::from("short")));
        assert!(!is_short(&Body::from(vec![0; 1024 * 1024])));
        assert!(!is_short(&endless()));
    }

    #[tokio::test]
    async fn a_body_keeps_its_length() {
        let length = 1024 * 1024;
        let body = watched(Body::from(vec![0; length]), std::future::pending);
        assert_eq!(body.size_hint().exact(), Some(1024 * 1024));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), length);
    }
}

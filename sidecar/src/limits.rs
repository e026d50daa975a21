//! Limits that a proxy can set on requests and answers; without them nothing here costs anything.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use globus_auth_core::runtime::telemetry::causes;
use globus_auth_core::sidecar_config::Upstream;
use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;

use crate::forward::ForwardError;

/// `request`, whose body breaks off when it becomes longer than it may be.
///
/// # Errors
/// [`TooLarge`] if it says so itself.
pub(crate) fn limit_body(
    request: Request<Body>,
    upstream: &Upstream,
) -> Result<Request<Body>, TooLarge> {
    let Some(limit) = upstream.max_request_body_bytes else {
        return Ok(request);
    };
    let size = request.body().size_hint();
    if size.lower() > limit {
        return Err(TooLarge);
    }
    if size.upper().is_some_and(|upper| upper <= limit) {
        return Ok(request);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(request.map(|body| Body::new(Limited::new(body, limit))))
}

/// The body of a request is longer than it may be (RFC 9110 §15.5.14).
#[derive(Debug)]
pub(crate) struct TooLarge;

/// Whether `error` was caused by [`limit_body`].
pub(crate) fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<LengthLimitError>)
}

/// How long the workload may take to begin its answer.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    is_sent: oneshot::Receiver<()>,
}

impl Patience {
    /// Begins when the last byte of the request was sent: an upload may take as long as it takes.
    pub(crate) fn with(
        request: Request<Body>,
        upstream: &Upstream,
    ) -> (Request<Body>, Option<Self>) {
        let Some(seconds) = upstream.response_timeout_seconds else {
            return (request, None);
        };
        let (sending, is_sent) = oneshot::channel::<()>();
        let patience = Self {
            limit: Duration::from_secs(seconds.into()),
            is_sent,
        };
        if request.body().is_end_stream() {
            return (request, Some(patience));
        }
        // It is dropped with the body, when nothing more is to be sent of it.
        let request = request.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _until_dropped = &sending;
                frame
            }))
        });
        (request, Some(patience))
    }

    /// The answer, or that it did not begin in time.
    ///
    /// # Errors
    /// As `answer`, and [`ForwardError::Slow`].
    pub(crate) async fn wait_for<T>(
        self,
        answer: impl Future<Output = Result<T, ForwardError>>,
    ) -> Result<T, ForwardError> {
        tokio::select! {
            answer = answer => answer,
            () = self.end() => Err(ForwardError::Slow),
        }
    }

    /// Resolves when it is over.
    async fn end(self) {
        // What is sent is a drop.
        let _dropped = self.is_sent.await;
        tokio::time::sleep(self.limit).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use globus_auth_core::sidecar_config::{Exposure, HostHeader, Protocol};
    use rstest::rstest;

    use super::*;

    fn upstream(max: Option<u64>, seconds: Option<u32>) -> Upstream {
        Upstream {
            host_header: HostHeader::External,
            exposure: Exposure::Report,
            protocol: Protocol::HTTP1,
            max_request_body_bytes: max,
            response_timeout_seconds: seconds,
        }
    }

    fn chunked(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(stream::iter(
            chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)),
        ))
    }

    #[rstest]
    #[case::none(None, true)]
    #[case::just_so(Some(8), true)]
    #[case::one_too_few(Some(7), false)]
    #[tokio::test]
    async fn a_body_that_says_its_length_is_refused_at_once(
        #[case] max: Option<u64>,
        #[case] passes: bool,
    ) {
        let request = Request::new(Body::from("12345678"));
        assert_eq!(limit_body(request, &upstream(max, None)).is_ok(), passes);
    }

    #[rstest]
    #[case::just_so(8, true)]
    #[case::one_too_few(7, false)]
    #[tokio::test]
    async fn a_body_that_does_not_breaks_off_where_it_becomes_too_long(
        #[case] max: u64,
        #[case] passes: bool,
    ) {
        let request = Request::new(chunked(&["1234", "5678"]));
        let request = limit_body(request, &upstream(Some(max), None)).unwrap();
        match request.into_body().collect().await {
            Ok(_) => assert!(passes),
            Err(error) => assert!(!passes && is_too_large(&error), "{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_when_the_request_was_sent() {
        let (request, patience) =
            Patience::with(Request::new(chunked(&["1234"])), &upstream(None, Some(5)));
        let end = tokio::spawn(patience.unwrap().end());
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert!(!end.is_finished(), "an upload takes as long as it takes");
        drop(request);
        tokio::time::timeout(Duration::from_secs(6), end)
            .await
            .expect("five seconds after the last byte")
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn patience_with_a_request_without_body_begins_at_once() {
        let request = Request::new(Body::empty());
        let (_request, patience) = Patience::with(request, &upstream(None, Some(5)));
        let end = tokio::time::timeout(Duration::from_secs(6), patience.unwrap().end());
        assert!(end.await.is_ok());
    }
}

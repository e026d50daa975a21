//! HTTP/2 with prior knowledge to the workload (RFC 9113 §3.3): one connection for all requests, as gRPC
//! wants it.

use std::time::Duration;

use axum::body::Body;
use http::header;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;

use crate::origin::Origin;
use crate::workload::{SendError, connect};

/// The connection, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed(Mutex<Option<SendRequest<Body>>>);

impl Multiplexed {
    /// Sends a request and waits for the head of the answer.
    ///
    /// A request that was not sent because the workload had closed the connection is sent again on
    /// another.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        name_the_authority(&mut request);
        let mut is_new = false;
        loop {
            let mut sender = if is_new {
                self.replace(origin).await?
            } else {
                self.get(origin).await?
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(Body::new)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => {
                        request = unsent;
                        is_new = true;
                    }
                    _ => return Err(SendError::Request(error.into_error())),
                },
            }
        }
    }

    async fn get(&self, origin: &Origin) -> Result<SendRequest<Body>, SendError> {
        let mut present = self.0.lock().await;
        if let Some(sender) = present.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = handshake(origin).await?;
        *present = Some(sender.clone());
        Ok(sender)
    }

    async fn replace(&self, origin: &Origin) -> Result<SendRequest<Body>, SendError> {
        let sender = handshake(origin).await?;
        *self.0.lock().await = Some(sender.clone());
        Ok(sender)
    }
}

async fn handshake(origin: &Origin) -> Result<SendRequest<Body>, SendError> {
    let stream = connect(origin).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(SendError::Request)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the workload broke off");
        }
    });
    Ok(sender)
}

/// What HTTP/1.1 says in `Host`, HTTP/2 says in `:authority`, and `:scheme` must be there (RFC 9113 §8.3.1).
fn name_the_authority(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let path = request.uri().path_and_query().cloned();
    let uri = host.and_then(|host| {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(host.as_bytes())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
            .build()
            .ok()
    });
    if let Some(uri) = uri {
        *request.uri_mut() = uri;
    }
}

/// A workload that is gone without a word is noticed after this time, and 20 seconds more.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_becomes_the_authority() {
        let mut request = Request::get("/a%2Fb?c=d")
            .header("host", "app.test:8443")
            .body(Body::empty())
            .unwrap();
        name_the_authority(&mut request);
        assert_eq!(request.uri(), "http://app.test:8443/a%2Fb?c=d");
        assert!(request.headers().is_empty());
        assert_eq!(request.version(), Version::HTTP_2);
    }
}

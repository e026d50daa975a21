//! Which answer a request gets.

use std::convert::Infallible;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::body::{self, EchoBody};
use super::query::{BadNumber, Query};
use super::raw::RawHead;
use super::reflect::Reflection;
use super::{Upstream, websocket};
use crate::server::Reset;

/// Answers one request.
pub(crate) async fn respond(
    request: Request<Incoming>,
    raw: Option<RawHead>,
    upstream: Upstream,
    reset: Reset,
) -> Result<Response<EchoBody>, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/requests" {
        return Ok(json(
            StatusCode::OK,
            &serde_json::json!({ "requests": upstream.requests() }),
        ));
    }
    upstream.count_request();
    if parts.uri.path() == "/reset" {
        reset.order();
        return std::future::pending().await;
    }
    let answer = match parts.method {
        // hyper would make a tunnel of a successful answer.
        Method::CONNECT => Ok(refusal(StatusCode::NOT_IMPLEMENTED, "no tunnels here")),
        _ if parts.headers.contains_key("sec-websocket-key") => {
            Ok(upgrade(parts, raw, upstream.stop))
        }
        _ => choose(&parts, body, raw).await,
    };
    Ok(answer.unwrap_or_else(|bad| refusal(StatusCode::BAD_REQUEST, &bad.to_string())))
}

async fn choose(
    parts: &Parts,
    body: Incoming,
    raw: Option<RawHead>,
) -> Result<Response<EchoBody>, BadNumber> {
    let query = Query::of(&parts.uri);
    match parts.uri.path() {
        "/ws" => Ok(refusal(
            StatusCode::UPGRADE_REQUIRED,
            "this path is a WebSocket",
        )),
        "/sse" => {
            let interval = Duration::from_millis(query.number("interval_ms", 1000)?);
            let events = body::events(query.number("count", 5)?, interval);
            Ok(with_type("text/event-stream", events))
        }
        "/download" => Ok(download(query.number("bytes", 0)?, None)),
        "/truncated" => {
            let sent = query.number("bytes", 0)?;
            Ok(download(sent.saturating_mul(2).max(1), Some(sent)))
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(query.number("ms", 1000)?)).await;
            Ok(reflect(parts, body, raw).await)
        }
        "/headers" => Ok(with_fields(&query)),
        "/trailers" => {
            let mut response = with_type("text/plain", body::with_trailers());
            let name = HeaderValue::from_static(body::TRAILER_NAME);
            response.headers_mut().insert(TRAILER, name);
            Ok(response)
        }
        "/hang" => std::future::pending().await,
        path => match path.strip_prefix("/status/") {
            Some(code) => Ok(status(code, parts, raw)),
            None => Ok(reflect(parts, body, raw).await),
        },
    }
}

async fn reflect(parts: &Parts, body: Incoming, raw: Option<RawHead>) -> Response<EchoBody> {
    match Reflection::of_head(parts, raw).with_body(body).await {
        Ok(reflection) => json(StatusCode::OK, &reflection),
        Err(error) => refusal(
            StatusCode::BAD_REQUEST,
            &format!("failed to read the body: {error}"),
        ),
    }
}

fn upgrade(parts: Parts, raw: Option<RawHead>, stop: CancellationToken) -> Response<EchoBody> {
    let Some(fields) = websocket::accept(&parts.headers) else {
        return refusal(StatusCode::BAD_REQUEST, "not a handshake of RFC 6455");
    };
    let greeting = Query::of(&parts.uri)
        .has("hello")
        .then(|| serde_json::to_string(&Reflection::of_head(&parts, raw)).unwrap_or_default());
    let upgrading = hyper::upgrade::on(Request::from_parts(parts, ()));
    let echoing = async move {
        let upgraded = upgrading.await.map_err(std::io::Error::other)?;
        websocket::echo(TokioIo::new(upgraded), greeting).await
    };
    tokio::spawn(async move {
        if let Some(Err(error)) = stop.run_until_cancelled(echoing).await {
            tracing::debug!(%error, "a WebSocket ended with an error");
        }
    });
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(fields);
    response
}

fn status(code: &str, parts: &Parts, raw: Option<RawHead>) -> Response<EchoBody> {
    let code = code.parse().ok().filter(|code| (200..600).contains(code));
    let Some(status) = code.and_then(|code| StatusCode::from_u16(code).ok()) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "the status must be from 200 to 599",
        );
    };
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let mut response = Response::new(body::full(""));
        *response.status_mut() = status;
        return response;
    }
    json(status, &Reflection::of_head(parts, raw))
}

fn with_fields(query: &Query) -> Response<EchoBody> {
    let mut response = Response::new(body::full("see the header fields\n"));
    for (name, value) in query.pairs() {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        match (name, value) {
            // A framing that contradicts the body would only test hyper.
            (Ok(CONTENT_LENGTH | TRANSFER_ENCODING) | Err(_), _) | (_, Err(_)) => {
                return refusal(StatusCode::BAD_REQUEST, "not a header field to choose");
            }
            (Ok(name), Ok(value)) => response.headers_mut().append(name, value),
        };
    }
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().entry(CONTENT_TYPE).or_insert(plain);
    response
}

fn download(length: u64, breaks_at: Option<u64>) -> Response<EchoBody> {
    with_type(
        "application/octet-stream",
        body::download(length, breaks_at),
    )
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<EchoBody> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut response = with_type("application/json", body::full(text));
    *response.status_mut() = status;
    response
}

/// An answer to a request that was not understood; the connection is not used again.
fn refusal(status: StatusCode, reason: &str) -> Response<EchoBody> {
    let mut response = with_type("text/plain", body::full(format!("{reason}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn with_type(content_type: &'static str, body: EchoBody) -> Response<EchoBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

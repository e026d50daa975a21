//! The layer around every endpoint: it logs the request, and carries out faults of the transport.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use super::Realm;
use super::accounts::new_id;
use super::failure::{ApiError, Reason};
use super::faults::{ActiveFault, Fault, When};
use super::form::{Params, is_form};
use super::requests::RequestRecord;
use crate::server::Reset;

/// Runs one request with its fault, if one was ordered.
pub(crate) async fn observe(State(realm): State<Realm>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return ApiError::bad_request("the body is too large or broken").into_response();
    };
    let form = if is_form(&parts.headers) {
        Params::parse(&body)
    } else {
        Params::default()
    };
    let grant_type = form.get("grant_type").map(str::to_owned);
    let record = RequestRecord::of(&parts, &form, realm.now());
    let fault = realm.faults().take(record.endpoint, grant_type.as_deref());
    let record = RequestRecord {
        fault: fault.clone(),
        ..record
    };
    let number = realm.requests().arrived(record, grant_type.as_deref());
    let reset = parts.extensions.get::<Reset>().cloned();

    let early = fault
        .as_ref()
        .and_then(|fault| Transport::of(fault, When::Before));
    let early = match early {
        Some(transport) => transport.strike(reset.clone()).await,
        None => None,
    };
    let mut response = if let Some(response) = early {
        response
    } else {
        let mut request = Request::from_parts(parts, Body::from(body));
        request.extensions_mut().insert(ActiveFault(fault.clone()));
        next.run(request).await
    };
    if let Some(transport) = fault
        .as_ref()
        .and_then(|fault| Transport::of(fault, When::After))
    {
        response = transport.strike(reset).await.unwrap_or(response);
    }
    let reason = response
        .extensions()
        .get::<Reason>()
        .map(|reason| reason.0.to_string());
    let status = response.status().as_u16();
    realm
        .requests()
        .answered(number, grant_type.as_deref(), status, reason);
    response
}

/// What a fault does to the answer as a whole.
enum Transport {
    Delay(Duration),
    HugeBody(u64),
    Malformed,
    Reset,
    Status(u16, Option<u32>),
}

impl Transport {
    fn of(fault: &Fault, now: When) -> Option<Self> {
        let (when, transport) = match *fault {
            Fault::HugeBody { bytes } => (When::Before, Self::HugeBody(bytes)),
            Fault::Malformed => (When::Before, Self::Malformed),
            Fault::Reset { when } => (when, Self::Reset),
            Fault::Slow { delay_ms, when } => (when, Self::Delay(Duration::from_millis(delay_ms))),
            Fault::Status {
                status,
                retry_after_seconds,
                when,
            } => (when, Self::Status(status, retry_after_seconds)),
            Fault::AlgHs256
            | Fault::AlgNone
            | Fault::BadSignature
            | Fault::ExpiredIdToken
            | Fault::Inactive
            | Fault::InvalidGrant
            | Fault::MissingNonce
            | Fault::OauthError { .. }
            | Fault::OmitIdToken
            | Fault::OmitRefreshToken
            | Fault::SessionPolicyNotMet
            | Fault::WrongAudience
            | Fault::WrongIssuer
            | Fault::WrongNonce
            | Fault::WrongSubject => return None,
        };
        (when == now).then_some(transport)
    }

    /// The answer that replaces the real one, if any.
    async fn strike(self, reset: Option<Reset>) -> Option<Response> {
        match self {
            Self::Delay(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Self::HugeBody(bytes) => Some(huge_body(bytes)),
            Self::Malformed => {
                let html = "<!doctype html><title>Welcome to the network</title>";
                Some(([(CONTENT_TYPE, "application/json")], html).into_response())
            }
            Self::Reset => match reset {
                Some(reset) => {
                    reset.order();
                    std::future::pending().await
                }
                // Without a connection, as in a test that calls the router, a broken body must do.
                None => Some(Response::new(Body::from_stream(stream::iter([Err::<
                    Bytes,
                    _,
                >(
                    io::Error::from(io::ErrorKind::ConnectionReset),
                )])))),
            },
            Self::Status(status, retry_after) => Some(failure(status, retry_after)),
        }
    }
}

fn huge_body(bytes: u64) -> Response {
    let filling = bytes.saturating_sub(2);
    let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let pieces = stream::unfold(filling, move |left| {
        let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let next = (left > 0).then(|| (piece.slice(..length), left - length as u64));
        std::future::ready(next)
    });
    let quote = || stream::iter([Bytes::from_static(b"\"")]);
    let body = futures_util::StreamExt::chain(quote(), pieces);
    let body = futures_util::StreamExt::chain(body, quote());
    let body = futures_util::StreamExt::map(body, Ok::<_, io::Error>);
    (
        [(CONTENT_TYPE, "application/json")],
        Body::from_stream(body),
    )
        .into_response()
}

fn failure(status: u16, retry_after: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let title = status.canonical_reason().unwrap_or("Ordered");
    let code = title.to_uppercase().replace(' ', "_");
    let error = json!({
        "status": status.as_str(),
        "id": new_id(),
        "code": code,
        "detail": "This failure was ordered.",
        "title": title,
    });
    let body = json!({
        "errors": [error],
        "error": code.to_lowercase(),
        "error_description": title,
    });
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// More than any request of OAuth needs.
const BODY_BYTES_MAX: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

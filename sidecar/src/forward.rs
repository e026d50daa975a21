//! Handing a permitted request to the workload, and the answer back, byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use globus_auth_core::runtime::telemetry::causes;
use globus_auth_core::sidecar_config::{HostHeader, Protocol};
use http::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::BodyExt;

use crate::cookie;
use crate::decide::Permit;
use crate::headers;
use crate::identity_headers::IdentityHeaders;
use crate::live::Live;
use crate::origin::Origin;
use crate::workload::{SendError, Workload};

/// The workload, if there is one.
#[derive(Debug)]
pub(crate) struct Upstream {
    workload: Option<Workload>,
    localhost: HeaderValue,
}

impl Upstream {
    /// The workload at `origin`; none, if the proxy only answers who somebody is.
    ///
    /// # Errors
    /// Never for a port; the types cannot say so.
    pub(crate) fn new(origin: Option<Origin>) -> Result<Self, http::Error> {
        let port = origin.as_ref().map_or(0, Origin::port);
        Ok(Self {
            workload: origin.map(Workload::new),
            localhost: HeaderValue::try_from(format!("localhost:{port}"))?,
        })
    }

    /// Hands `request` to the workload. Bodies stream in both directions, without limit of size or time.
    ///
    /// # Errors
    /// [`ForwardError`] if the workload cannot be reached or breaks off before its headers.
    pub(crate) async fn forward(
        &self,
        permit: &Permit,
        live: &Live,
        mut request: Request<Body>,
        peer: &Peer,
    ) -> Result<Response<Body>, ForwardError> {
        let workload = self.workload.as_ref().ok_or(ForwardError::NoWorkload)?;
        let tunnel = Tunnel::requested(&mut request);
        set_target(request.uri_mut());
        *request.version_mut() = Version::HTTP_11;
        self.rewrite(request.headers_mut(), permit, live, peer);
        if let Some(tunnel) = &tunnel {
            tunnel.ask(request.headers_mut());
        }
        let request = request.map(|body| without_claiming_trailers(body, &live.identity_headers));
        let sent = if tunnel.is_some() {
            // Rare, and large.
            Box::pin(workload.upgrade(request)).await
        } else if live.upstream.protocol == Protocol::H2C {
            Box::pin(workload.send_multiplexed(request)).await
        } else {
            workload.send(request).await
        };
        let mut response = sent.map_err(ForwardError::Send)?;
        cookie::strip_ours_from_response(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let tunnel = tunnel.ok_or(ForwardError::UnaskedUpgrade)?;
            return Ok(tunnel.answered(response));
        }
        headers::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    fn rewrite(&self, headers: &mut HeaderMap, permit: &Permit, live: &Live, peer: &Peer) {
        headers::remove_hop_by_hop(headers);
        headers.reserve(ADDED);
        // hyper answers `100-continue` itself as soon as the workload wants the body.
        headers.remove(header::EXPECT);
        cookie::strip_ours(headers);
        if permit.has_token_for_us() {
            // It is a key to this proxy; a workload could use it against the user elsewhere.
            headers.remove(header::AUTHORIZATION);
        }
        self.set_host(headers, live);
        for (name, value) in [
            (X_FORWARDED_FOR, &peer.0),
            (X_FORWARDED_HOST, &live.host),
            (X_FORWARDED_PROTO, &live.scheme),
        ] {
            headers.insert(name, value.clone());
        }
        if let Some(identity) = permit.identity() {
            headers::set_identity(headers, identity, &live.rules);
        }
        let chosen = &live.identity_headers;
        chosen.set(headers, permit.identity(), &live.rules);
    }

    /// The name under which the workload is asked. With [`HostHeader::Localhost`], a page of ours may
    /// still say where it comes from, in the name that the workload trusts.
    fn set_host(&self, headers: &mut HeaderMap, live: &Live) {
        match live.upstream.host_header {
            HostHeader::External => {
                headers.insert(header::HOST, live.host.clone());
            }
            HostHeader::Localhost => {
                headers.insert(header::HOST, self.localhost.clone());
                let is_ours = headers
                    .get(header::ORIGIN)
                    .is_some_and(|origin| origin.as_bytes() == live.external.origin().as_bytes());
                if is_ours {
                    let origin = [b"http://", self.localhost.as_bytes()].concat();
                    if let Ok(origin) = HeaderValue::from_bytes(&origin) {
                        headers.insert(header::ORIGIN, origin);
                    }
                }
            }
        }
    }
}

/// Leaves the path and query, byte for byte, and nothing of an absolute target: the workload is asked
/// in origin form (RFC 9112 §3.2.1).
fn set_target(uri: &mut Uri) {
    if uri.authority().is_some() || uri.scheme().is_some() {
        let path = uri.path_and_query().cloned();
        *uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
}

/// Trailers are headers that come late; they may claim no more than headers.
fn without_claiming_trailers(body: Body, chosen: &Arc<IdentityHeaders>) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    let chosen = Arc::clone(chosen);
    Body::new(body.map_frame(move |frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::remove_claims_of_clients(&mut trailers);
            chosen.remove_claims(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }))
}

/// An upgrade of the connection (RFC 9110 §7.8), such as to WebSocket (RFC 6455 §4).
#[derive(Debug)]
struct Tunnel {
    protocol: HeaderValue,
    client: hyper::upgrade::OnUpgrade,
}

/// Both ends of an upgraded connection, left in the extensions of the answer for
/// [`crate::tunnel::connect`].
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) client: hyper::upgrade::OnUpgrade,
    pub(crate) workload: hyper::upgrade::OnUpgrade,
}

impl Tunnel {
    fn requested(request: &mut Request<Body>) -> Option<Self> {
        let headers = request.headers();
        let protocol = headers.get(header::UPGRADE)?;
        let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|b| *b == b',')
                .any(|o| o.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        });
        let protocol = asks.then(|| protocol.clone())?;
        // HTTP/2 without TLS by upgrade (RFC 7540 §3.2) is obsolete and has smuggled requests past
        // proxies before.
        if protocol
            .as_bytes()
            .trim_ascii()
            .get(..3)
            .is_some_and(|p| p.eq_ignore_ascii_case(b"h2c"))
        {
            return None;
        }
        Some(Self {
            protocol,
            client: hyper::upgrade::on(request),
        })
    }

    fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    fn answered<B>(self, mut response: Response<B>) -> Response<Body> {
        let workload = hyper::upgrade::on(&mut response);
        let (mut parts, _no_body) = response.into_parts();
        let protocol = parts
            .headers
            .remove(header::UPGRADE)
            .unwrap_or(self.protocol);
        headers::remove_hop_by_hop(&mut parts.headers);
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
        parts.extensions.insert(Ends {
            client: self.client,
            workload,
        });
        Response::from_parts(parts, Body::empty())
    }
}

/// Who has connected to us, as the workload is told.
#[derive(Clone, Debug)]
pub(crate) struct Peer(HeaderValue);

impl Peer {
    /// # Errors
    /// Never for an address; the types cannot say so.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, InvalidHeaderValue> {
        HeaderValue::try_from(address.ip().to_canonical().to_string()).map(Self)
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// About how many headers a workload is told beside those of the client.
const ADDED: usize = 10;

/// Why the workload did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("there is no workload behind this proxy")]
    NoWorkload,
    #[error("the workload did not begin its answer within upstream.responseTimeoutSeconds")]
    Slow,
    #[error("failed to get an answer from the workload")]
    Send(#[source] SendError),
    #[error("the workload switched protocols without having been asked")]
    UnaskedUpgrade,
}

impl ForwardError {
    /// Whether the client's body is what failed: broken off, or with chunks that are none. The workload is
    /// not to blame then.
    pub(crate) fn is_fault_of_client(&self) -> bool {
        let Self::Send(error) = self else {
            return false;
        };
        causes(error)
            .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_user)
    }
}

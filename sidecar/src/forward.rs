//! Handing a permitted request to the workload, and the answer back, byte for byte.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use globus_auth_core::sidecar_config::HostHeader;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::cookie;
use crate::decide::Permit;
use crate::headers;
use crate::identity_headers::IdentityHeaders;
use crate::live::Live;

/// The workload in the same pod.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
    localhost: HeaderValue,
}

impl Upstream {
    /// The workload that listens on `port` of loopback.
    ///
    /// # Errors
    /// Never for a port; the types cannot say so.
    pub(crate) fn new(port: u16) -> Result<Self, http::Error> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .set_host(false)
            .build(connector);
        Ok(Self {
            client,
            authority: Authority::try_from(format!("127.0.0.1:{port}"))?,
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
    ) -> Result<Response<Body>, ForwardError> {
        let peer = request
            .extensions()
            .get::<Peer>()
            .map(|Peer(address)| address.ip());
        let tunnel = Tunnel::requested(&mut request);
        *request.uri_mut() = self.target(request.uri())?;
        *request.version_mut() = Version::HTTP_11;
        self.rewrite(request.headers_mut(), permit, live, peer);
        if let Some(tunnel) = &tunnel {
            tunnel.ask(request.headers_mut());
        }
        let request = request.map(|body| without_claiming_trailers(body, &live.identity_headers));
        let mut response = self
            .client
            .request(request)
            .await
            .map_err(ForwardError::Request)?;
        cookie::strip_ours_from_response(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let tunnel = tunnel.ok_or(ForwardError::UnaskedUpgrade)?;
            return Ok(tunnel.answered(response));
        }
        headers::remove_hop_by_hop(response.headers_mut());
        Ok(response.map(Body::new))
    }

    /// The same path and query, byte for byte, at the workload's address.
    fn target(&self, uri: &Uri) -> Result<Uri, ForwardError> {
        let path = uri
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(ForwardError::Target)
    }

    fn rewrite(&self, headers: &mut HeaderMap, permit: &Permit, live: &Live, peer: Option<IpAddr>) {
        headers::remove_hop_by_hop(headers);
        // hyper answers `100-continue` itself as soon as the workload wants the body.
        headers.remove(header::EXPECT);
        cookie::strip_ours(headers);
        if permit.has_token_for_us() {
            // It is a key to this proxy; a workload could use it against the user elsewhere.
            headers.remove(header::AUTHORIZATION);
        }
        self.set_host(headers, live);
        let peer = peer.map(|address| address.to_canonical().to_string());
        for (name, value) in [
            (X_FORWARDED_FOR, peer.as_deref()),
            (X_FORWARDED_HOST, Some(live.external.authority())),
            (X_FORWARDED_PROTO, Some(live.external.scheme())),
        ] {
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(name, value);
            }
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
                if let Ok(host) = HeaderValue::from_str(live.external.authority()) {
                    headers.insert(header::HOST, host);
                }
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
        let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|b| *b == b',')
                .any(|o| o.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        });
        let protocol = headers.get(header::UPGRADE).filter(|_| asks)?.clone();
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

/// The peer of a connection, kept in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// Shorter than the keep-alive of common servers (uvicorn: 5 s), so that a kept connection is rarely one
/// that the workload is closing.
const IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);

/// Why the workload did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("failed to get an answer from the workload")]
    Request(#[source] hyper_util::client::legacy::Error),
    #[error("failed to address the workload")]
    Target(#[source] http::Error),
    #[error("the workload switched protocols without having been asked")]
    UnaskedUpgrade,
}

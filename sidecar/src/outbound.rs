//! The loopback listener on which the workload asks other services as its users.
//!
//! A request says by `X-Globus-Auth-Session` for whom it is made: the value that came with a request of
//! that user. It is sent to the one origin that is configured for its path, with that user's token, and to
//! no other: a redirect is an answer for the workload, not an order for us. A token that acts for no user needs
//! no such value.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::IntoResponse;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::Session;
use globus_auth_core::sidecar_config::{DeliveredToken, GrantType};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::App;
use crate::headers;
use crate::live::Live;
use crate::vault::{Delivered, Vault, VaultError, warn};

/// Serves the workload on loopback.
///
/// # Errors
/// The port is taken.
pub(crate) async fn start(port: u16, app: &Arc<App>) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let app = Arc::clone(app);
    let router = Router::new()
        .fallback(handle)
        .with_state(Outbound { app, address });
    tokio::spawn(axum::serve(listener, router).into_future());
    tracing::info!(%address, "serving requests of the workload");
    Ok(())
}

#[derive(Clone)]
struct Outbound {
    app: Arc<App>,
    address: SocketAddr,
}

async fn handle(State(outbound): State<Outbound>, request: Request<Body>) -> Response<Body> {
    let live = outbound.app.live();
    let answered = outbound.answer(&live, request).await;
    let (response, refusal) = match answered {
        Ok(response) => (response, None),
        Err(refusal) => (refusal.respond(&live), Some(refusal.category())),
    };
    let status = response.status().as_u16();
    tracing::debug!(target: "access", status, refusal, "outbound request");
    response
}

impl Outbound {
    async fn answer(&self, live: &Live, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let vault = live.vault.as_ref().ok_or(Refusal::NoRoute)?;
        let (parts, body) = request.into_parts();
        self.check_origin(&parts.headers)?;
        let (index, target) = route(vault, &parts.uri).ok_or(Refusal::NoRoute)?;
        let delivery = vault.deliveries.get(index).ok_or(Refusal::NoRoute)?;
        let holder = match delivery.token.grant_type {
            GrantType::AuthorizationCode => Some(self.user(live, vault, &parts.headers)?.id),
            GrantType::ClientCredentials => None,
        };
        let token = vault.token(holder, index, None).await;
        let token = token.map_err(|error| Refusal::of(error, &delivery.token))?;
        let (body, again) = repeatable(&parts.headers, body).await?;
        let origin = delivery.origin.as_ref().ok_or(Refusal::NoRoute)?;
        let authority = delivery.token.route.as_ref().ok_or(Refusal::NoRoute)?;
        let authority = authority.upstream.authority();
        let outgoing = |token: &Delivered, body| outgoing(&parts, &target, &authority, token, body);
        let response = origin
            .send(outgoing(&token, body)?)
            .await
            .map_err(Refusal::Upstream)?;
        let Some(again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else {
            return Ok(passed_on(response, &token));
        };
        // The token was taken back, or is not what it seems: one that is new, once.
        match vault.token(holder, index, Some(&token)).await {
            Ok(renewed) => {
                let request = outgoing(&renewed, Body::from(again))?;
                let response = origin.send(request).await.map_err(Refusal::Upstream)?;
                Ok(passed_on(response, &renewed))
            }
            Err(error @ VaultError::Reauthenticate(_)) => Err(Refusal::of(error, &delivery.token)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "no other token could be got");
                Ok(passed_on(response, &token))
            }
        }
    }

    /// A page in a browser on the same machine must not reach this listener, under whatever name.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let port = self.address.port();
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let is_ours = host.is_some_and(|host| {
            host == format!("127.0.0.1:{port}") || host == format!("localhost:{port}")
        });
        if !is_ours || headers.contains_key(header::ORIGIN) {
            return Err(Refusal::Foreign);
        }
        Ok(())
    }

    /// Whose pass it is, if they may still enter.
    fn user(
        &self,
        live: &Live,
        vault: &Vault,
        headers: &HeaderMap,
    ) -> Result<Arc<Session>, Refusal> {
        let mut passes = headers.get_all(PASS).iter();
        let pass = passes.next().and_then(|pass| pass.to_str().ok());
        let session = pass.filter(|_| passes.next().is_none());
        let session = session.and_then(|pass| vault.holder(pass));
        let now = self.app.clock.now();
        session
            .filter(|session| {
                live.rules.allow(&session.identity, now)
                    && !self.app.ended.contains(session)
                    && now < session.ends_at_last(live.limits)
            })
            .ok_or(Refusal::NoUser)
    }
}

/// Which token belongs to the path, and what remains of the target: byte for byte, without the prefix.
fn route(vault: &Vault, uri: &Uri) -> Option<(usize, PathAndQuery)> {
    let path = uri.path();
    if is_ambiguous(path) {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for (index, delivery) in vault.deliveries.iter().enumerate() {
        let Some(route) = &delivery.token.route else {
            continue;
        };
        let prefix = route.prefix.trim_end_matches('/');
        let Some(rest) = path.strip_prefix(prefix) else {
            continue;
        };
        let is_longer = best.is_none_or(|(_, rest_of_best)| rest.len() < rest_of_best.len());
        if (rest.is_empty() || rest.starts_with('/')) && is_longer {
            best = Some((index, rest));
        }
    }
    let (index, rest) = best?;
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    Some((index, target.parse().ok()?))
}

/// A path that another program may take for another one.
fn is_ambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let dots = |segment: &str| matches!(segment, "." | "..");
    lower.split('/').any(dots)
        || ["%2e", "%2f", "%5c", "\\"]
            .iter()
            .any(|trick| lower.contains(trick))
}

/// The body, and a copy of it if it is small: then the request can be made again.
async fn repeatable(headers: &HeaderMap, body: Body) -> Result<(Body, Option<Bytes>), Refusal> {
    if http_body::Body::is_end_stream(&body) {
        return Ok((body, Some(Bytes::new())));
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_none_or(|length| length > MAX_REPEATED) {
        return Ok((body, None));
    }
    let collected = Limited::new(body, MAX_REPEATED).collect().await;
    let bytes = collected.map_err(|_broken| Refusal::Body)?.to_bytes();
    Ok((Body::from(bytes.clone()), Some(bytes)))
}

fn outgoing(
    parts: &Parts,
    target: &PathAndQuery,
    authority: &str,
    token: &Delivered,
    body: Body,
) -> Result<Request<Body>, Refusal> {
    let mut request = Request::new(body);
    request.method_mut().clone_from(&parts.method);
    *request.uri_mut() = Uri::from(target.clone());
    *request.version_mut() = Version::HTTP_11;
    let mut headers = parts.headers.clone();
    headers::remove_hop_by_hop(&mut headers);
    headers::remove_claims_of_clients(&mut headers);
    headers.remove(header::EXPECT);
    let host = HeaderValue::from_str(authority).map_err(|_bytes| Refusal::NoRoute)?;
    headers.insert(header::HOST, host);
    headers.insert(header::AUTHORIZATION, token.bearer.clone());
    *request.headers_mut() = headers;
    Ok(request)
}

fn passed_on(mut response: Response<Body>, token: &Delivered) -> Response<Body> {
    headers::remove_hop_by_hop(response.headers_mut());
    warn(response.headers_mut(), token.session_ends_in);
    response
}

/// Why the workload's request was not made.
#[derive(Debug)]
enum Refusal {
    Body,
    /// The user must connect the service: it does not come with a login.
    Connect,
    Foreign,
    NoRoute,
    NoUser,
    Upstream(crate::workload::SendError),
    Vault(VaultError),
}

impl Refusal {
    fn of(error: VaultError, token: &DeliveredToken) -> Self {
        if token.issuer.is_some() && matches!(error, VaultError::Reauthenticate(_)) {
            Self::Connect
        } else {
            Self::Vault(error)
        }
    }

    const fn category(&self) -> &'static str {
        match self {
            Self::Body => "bad_body",
            Self::Connect => "connection_required",
            Self::Foreign => "foreign_origin",
            Self::NoRoute => "no_route",
            Self::NoUser => "login_required",
            Self::Upstream(_) => "upstream_unreachable",
            Self::Vault(VaultError::Consent) => "consent_required",
            Self::Vault(VaultError::Reauthenticate(_)) => "reauthentication_required",
            Self::Vault(VaultError::Refused(StatusCode::FORBIDDEN)) => "not_available",
            Self::Vault(_) => "vault_unavailable",
        }
    }

    /// What the workload reads. A person who must log in again is told as Globus services tell it, so that
    /// a workload that passes the answer on sends its user to the right login.
    fn respond(&self, live: &Live) -> Response<Body> {
        let (status, detail) = self.describe();
        let mut body = match self {
            Self::Vault(VaultError::Reauthenticate(requirements)) => requirements.to_error(),
            Self::Body
            | Self::Connect
            | Self::Foreign
            | Self::NoRoute
            | Self::NoUser
            | Self::Upstream(_)
            | Self::Vault(_) => json!({}),
        };
        if let Value::Object(members) = &mut body {
            members.insert("error".to_owned(), self.category().into());
            members.insert("error_description".to_owned(), detail.into());
            let page = match self {
                Self::Connect => Some(("connect_url", crate::CONNECTIONS_PATH)),
                Self::Vault(VaultError::Consent) => Some(("consent_url", crate::CONSENT_PATH)),
                Self::Vault(VaultError::Reauthenticate(_)) | Self::NoUser => {
                    Some(("login_url", crate::START_PATH))
                }
                Self::Body | Self::Foreign | Self::NoRoute | Self::Upstream(_) | Self::Vault(_) => {
                    None
                }
            };
            if let Some((name, path)) = page {
                members.insert(name.to_owned(), live.external.join(path).into());
            }
        }
        (status, axum::Json(body)).into_response()
    }

    /// In words; what the workload need not know is in our log.
    fn describe(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body => (StatusCode::BAD_REQUEST, "the body broke off"),
            Self::Connect => (
                StatusCode::FORBIDDEN,
                "the user has not connected the service; send them to connect_url",
            ),
            Self::Foreign => (
                StatusCode::FORBIDDEN,
                "ask http://127.0.0.1:<port>, and not from a browser",
            ),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "no token of the GlobusAuthProxy has a route for this path",
            ),
            Self::NoUser => (
                StatusCode::UNAUTHORIZED,
                "send the X-Globus-Auth-Session header of a request of a user who is logged in",
            ),
            Self::Upstream(error) => {
                tracing::warn!(error = %Chain(error), "a service did not answer");
                (StatusCode::BAD_GATEWAY, "the service did not answer")
            }
            Self::Vault(VaultError::Consent) => (
                StatusCode::FORBIDDEN,
                "the user has not let this workload use the service; send them to consent_url",
            ),
            Self::Vault(VaultError::Reauthenticate(_)) => (
                StatusCode::FORBIDDEN,
                "the user must log in again, and consent",
            ),
            Self::Vault(VaultError::Refused(StatusCode::FORBIDDEN)) => (
                StatusCode::FORBIDDEN,
                "the vault has no such token for this workload and user",
            ),
            Self::Vault(error) => {
                tracing::warn!(error = %Chain(error), "the vault gave no token");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the vault gave no token; try again",
                )
            }
        }
    }
}

/// Says for whom the workload asks.
pub(crate) const PASS: HeaderName = HeaderName::from_static("x-globus-auth-session");
/// A larger body passes without being kept, and is not sent twice.
const MAX_REPEATED: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/a/./b", true)]
    #[case("/a/../b", true)]
    #[case("/a/%2E%2e/b", true)]
    #[case("/a%2fb", true)]
    #[case("/a\\b", true)]
    #[case("/a%5cb", true)]
    #[case("/a.b/c..d/...", false)]
    #[case("/v1/chat%20completions", false)]
    fn a_path_that_can_be_read_in_two_ways_is_refused(#[case] path: &str, #[case] expected: bool) {
        assert_eq!(is_ambiguous(path), expected);
    }
}

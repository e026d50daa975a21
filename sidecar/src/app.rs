//! The order in which every request is treated.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::ended::{Ended, EndedList};
use globus_auth_core::identity::Identity;
use http::header;
use http::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::authenticate::authenticate;
use crate::cookie;
use crate::decide::{Asked, Challenge, Decision, Permit, PermittedBy, decide};
use crate::ended::{EndedSessions, SpentStates};
use crate::forward::{ForwardError, Peer, Upstream};
use crate::headers;
use crate::intent::Intent;
use crate::limits::{self, Patience};
use crate::live::{Live, Tools};
use crate::metrics::Metrics;
use crate::pages::{Format, Page};
use crate::redirect::ReturnTo;
use crate::tls::Tls;
use crate::trace::{Span, Tracing};
use crate::workload_refusal::Asker;
use crate::{RESERVED_PREFIX, answers, endpoints, login, tunnel, watched, workload_refusal};
use globus_auth_core::runtime::telemetry::Chain;

/// The proxy: state, and the way of a request through it.
#[derive(Debug)]
pub(crate) struct App {
    live: ArcSwap<Live>,
    /// Told of every new configuration, so that connections that are open can be checked again.
    changed: watch::Sender<()>,
    /// Whether the proxy stops. Tunnels hold its receivers while they are open.
    stopping: watch::Sender<bool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ended: EndedSessions,
    pub(crate) spent: SpentStates,
    pub(crate) metrics: Metrics,
    upstream: Upstream,
}

impl App {
    pub(crate) fn new(live: Live, upstream: Upstream, tools: &Tools) -> Self {
        Self {
            live: ArcSwap::from_pointee(live),
            changed: watch::Sender::new(()),
            stopping: watch::Sender::new(false),
            clock: Arc::clone(&tools.clock),
            ended: EndedSessions::default(),
            spent: SpentStates::default(),
            metrics: tools.metrics.clone(),
            upstream,
        }
    }

    /// The configuration in force.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts a new configuration in force, for the next request and for open connections.
    pub(crate) fn set_live(&self, live: Live) {
        self.live.store(Arc::new(live));
        self.changed.send_replace(());
    }

    /// Ends sessions, here at once and at every replica within seconds.
    pub(crate) fn end_sessions(&self, ended: Ended, until: UnixSeconds) {
        self.ended.end(ended, until, self.clock.now());
        self.changed.send_replace(());
    }

    /// Takes over which sessions ended at any replica.
    pub(crate) fn set_ended(&self, list: &EndedList) {
        self.ended.set_everywhere(list);
        self.changed.send_replace(());
    }

    /// Resolves when `permit` would no longer be given: its user was removed from the list, its session was
    /// ended or has reached its absolute limit, its token has expired, or what is known of groups is too old.
    async fn no_longer_allowed(&self, permit: &Permit) {
        let mut changed = self.changed.subscribe();
        while self.still_allows(permit) {
            tokio::select! {
                changed = changed.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(self.look_again_after(permit)) => {}
            }
        }
    }

    /// Time alone ends what was permitted, too.
    fn look_again_after(&self, permit: &Permit) -> Duration {
        let now = self.clock.now();
        permit
            .ends_at(self.live.load().limits)
            .map_or(LOOK_AGAIN, |end| end.since(now))
            .clamp(Duration::from_secs(1), LOOK_AGAIN)
    }

    fn still_allows(&self, permit: &Permit) -> bool {
        let live = self.live.load();
        let now = self.clock.now();
        let is_allowed = |identity| live.rules.allow(identity, now);
        let is_alive = |session| !self.ended.contains(session);
        permit.identity().is_none_or(is_allowed)
            && permit.session().is_none_or(is_alive)
            && permit.ends_at(live.limits).is_none_or(|end| now < end)
    }

    /// `body`, until `permit` would no longer be given.
    fn watch(self: &Arc<Self>, body: Body, permit: &Permit) -> Body {
        if watched::is_short(&body) {
            return body;
        }
        let (app, permit) = (Arc::clone(self), permit.clone());
        watched::watched(body, move || async move {
            app.no_longer_allowed(&permit).await;
        })
    }
}

/// The way of a request through the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    app: Arc<App>,
    endpoints: Router,
}

/// An answer, and what there is to say about it.
struct Answered {
    decision: &'static str,
    user: Option<String>,
    response: Response<Body>,
}

impl Proxy {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self {
            endpoints: endpoints::router(Arc::clone(&app)),
            app,
        }
    }

    /// What the listener shows just now, if it speaks TLS.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.app.live.load().tls.clone()
    }

    /// Lets WebSockets know that they come to an end.
    pub(crate) fn stop(&self) {
        self.app.stopping.send_replace(true);
    }

    /// Waits until no upgraded connection is open.
    pub(crate) async fn tunnels_closed(&self) {
        self.app.stopping.closed().await;
    }

    /// Treats one request.
    ///
    /// 1. A panic becomes a 500 of its own request and lets nobody in.
    /// 2. What clients may not say is removed, before anything can read it.
    /// 3. Targets that are no path are refused, so that what is decided is what is forwarded.
    /// 4. Our own endpoints answer for themselves.
    /// 5. Everything else is authenticated, decided on, and only then forwarded.
    pub(crate) async fn serve(&self, mut request: Request<Body>, peer: &Peer) -> Response<Body> {
        let started = tokio::time::Instant::now();
        let live = self.app.live();
        let begin = |tracing: &Arc<Tracing>| tracing.begin(&mut request, &*self.app.clock);
        let begun = live.tracing.as_ref().and_then(begin);
        let (method, target) = (request.method().clone(), request.uri().clone());
        let answered = AssertUnwindSafe(self.answer(request, peer, &live))
            .catch_unwind()
            .await;
        let Answered {
            decision,
            user,
            response,
        } = answered.unwrap_or_else(|_panic| {
            tracing::error!("a request panicked; this is a bug, please report it");
            let page = answers::internal_error();
            let response = page.respond(Format::Json, live.external.authority());
            Answered {
                decision: "error",
                user: None,
                response,
            }
        });
        self.app.metrics.decided(decision);
        let duration = started.elapsed();
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let status = response.status().as_u16();
        if let (Some(tracing), Some(begun)) = (&live.tracing, begun) {
            tracing.end(Span {
                begun,
                status,
                decision,
                duration,
            });
        }
        tracing::info!(target: "access", method = method.as_str(), path = target.path(), status, decision, user, duration_us, "request");
        response
    }

    async fn answer(&self, mut request: Request<Body>, peer: &Peer, live: &Live) -> Answered {
        let app = &self.app;
        let anonymous = |decision, response| Answered {
            decision,
            user: None,
            response,
        };
        headers::remove_claims_of_clients(request.headers_mut());
        live.identity_headers.remove_claims(request.headers_mut());
        let format = Format::of(request.headers());
        let host = live.external.authority();

        // What happens less often than forwarding is boxed, so that the state of a request stays small.
        let path = request.uri().path();
        if !path.starts_with('/') || *request.method() == Method::CONNECT {
            return anonymous("bad_request", answers::bad_target().respond(format, host));
        }
        if is_reserved(path) {
            let Ok(response) = Box::pin(self.endpoints.clone().oneshot(request)).await;
            return anonymous("endpoint", response);
        }
        let now = app.clock.now();
        let found = authenticate(request.headers(), live, &app.ended, now).await;
        let intent = Intent::of(&request);
        let asked = Asked {
            intent,
            route: Some((request.method(), request.uri().path())),
        };
        match decide(found.credentials, asked, &live.rules, now) {
            Decision::Forward(permit) => {
                let mut response = app.forward(&permit, live, (request, intent), peer).await;
                let renewal = found.renewal.map(|cookie| (header::SET_COOKIE, cookie));
                response.headers_mut().extend(renewal);
                Answered {
                    decision: "forward",
                    user: permit.into_identity().map(|identity| identity.subject),
                    response,
                }
            }
            Decision::Deny(identity) => denied(live, identity, found.has_session, format),
            Decision::StartLogin => {
                let (request, _body) = request.into_parts();
                let mut response = Box::pin(login::interrupt(app, live, &request)).await;
                forget_session(found.is_cookie_useless, &mut response);
                anonymous("login", response)
            }
            Decision::Challenge(challenge) => {
                anonymous("challenge", challenged(live, challenge, request))
            }
            Decision::StepUp(requirements) => {
                let page = answers::step_up(&requirements);
                anonymous("step_up", page.respond(Format::Json, host))
            }
            Decision::Unavailable => {
                let path = ReturnTo::from_request(request.uri(), &live.external).into_path();
                let page = answers::provider_down(live, &path);
                anonymous("unavailable", page.respond(format, host))
            }
        }
    }
}

fn challenged(live: &Live, challenge: Challenge, request: Request<Body>) -> Response<Body> {
    let (request, _body) = request.into_parts();
    endpoints::for_anybody(&request, challenge)
        .unwrap_or_else(|| answers::challenge(live, challenge, &request))
}

fn denied(live: &Live, identity: Identity, by_session: bool, format: Format) -> Answered {
    let page = answers::not_allowed(live, &identity);
    let mut response = page.respond(format, live.external.authority());
    forget_session(by_session, &mut response);
    Answered {
        decision: "deny",
        user: Some(identity.subject),
        response,
    }
}

fn forget_session(is_there_one: bool, response: &mut Response<Body>) {
    if is_there_one {
        let cleared = cookie::clear(cookie::SESSION);
        response.headers_mut().extend(cleared);
    }
}

impl App {
    async fn forward(
        self: &Arc<Self>,
        permit: &Permit,
        live: &Live,
        (mut request, intent): (Request<Body>, Intent),
        peer: &Peer,
    ) -> Response<Body> {
        let (format, host) = (Format::of(request.headers()), live.external.authority());
        if is_foreign_upgrade(&request, permit, live) {
            return answers::foreign_origin().respond(format, host);
        }
        if let Some(vault) = &live.vault {
            let of_bearer = vault.bearer_session(permit, request.headers(), self.clock.now());
            if let Some(session) = permit.session().or(of_bearer.as_ref()) {
                Box::pin(vault.attach(session, request.headers_mut())).await;
            }
        }
        let asker = Asker::of(&request, intent, permit, live);
        let Ok(request) = limits::limit_body(request, &live.upstream) else {
            let limit = live.upstream.max_request_body_bytes;
            return answers::body_too_large(limit).respond(format, host);
        };
        let (request, patience) = Patience::with(request, &live.upstream);
        let request = request.map(|body| self.watch(body, permit));
        let answer = self.upstream.forward(permit, live, request, peer);
        let answer = match patience {
            None => answer.await,
            Some(patience) => Box::pin(patience.wait_for(answer)).await,
        };
        match answer {
            Ok(response) => {
                let mut response = if workload_refusal::is_one(&response) {
                    Box::pin(asker.answer(self, live, response)).await
                } else {
                    response
                };
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    let (app, permit) = (Arc::clone(self), permit.clone());
                    let ended = async move { app.no_longer_allowed(&permit).await };
                    let stopping = self.stopping.subscribe();
                    let open = self.metrics.tunnels.clone();
                    tunnel::connect(&mut response, ended, stopping, open);
                    return response;
                }
                response.map(|body| self.watch(body, permit))
            }
            Err(error) => self.failed(&error, permit, live).respond(format, host),
        }
    }

    /// What is said when there is no answer of the workload.
    fn failed(&self, error: &ForwardError, permit: &Permit, live: &Live) -> Page {
        if matches!(error, ForwardError::NoWorkload) {
            return answers::no_workload();
        }
        if limits::is_too_large(error) {
            return answers::body_too_large(live.upstream.max_request_body_bytes);
        }
        // Then it is we who cut the request.
        if let Some(identity) = permit.identity()
            && !self.still_allows(permit)
        {
            return answers::not_allowed(live, identity);
        }
        if error.is_fault_of_client() {
            tracing::debug!(error = %Chain(error), "the body of a request broke off");
            return answers::bad_body();
        }
        let reference = answers::reference();
        tracing::warn!(error = %Chain(error), request_id = %reference, "the workload did not answer");
        let page = match error {
            ForwardError::Slow => answers::workload_slow(),
            ForwardError::NoWorkload | ForwardError::Send(_) | ForwardError::UnaskedUpgrade => {
                answers::workload_down()
            }
        };
        page.reference(reference)
    }
}

/// Whether the path is one of ours. Exactly this prefix: a path that merely decodes to it is the
/// workload's, and needs a login like any other.
fn is_reserved(path: &str) -> bool {
    path.strip_prefix(RESERVED_PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A WebSocket that a page of another origin opens with this user's cookie (RFC 6455 §10.2).
fn is_foreign_upgrade(request: &Request<Body>, permit: &Permit, live: &Live) -> bool {
    let headers = request.headers();
    permit.by() == PermittedBy::Session
        && headers.contains_key(header::UPGRADE)
        && headers
            .get(header::ORIGIN)
            .is_some_and(|origin| origin.as_bytes() != live.external.origin().as_bytes())
}

/// How long after a change that nobody announces, such as a clock that was set, it is noticed.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;

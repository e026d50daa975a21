//! The endpoints below `/oauth2/`, as users of oauth2-proxy and their nginx expect them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use globus_auth_core::ended::{Ended, Sessions};
use globus_auth_core::identity::{Identity, NameDigest};
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::app::App;
use crate::authenticate::authenticate;
use crate::backchannel;
use crate::bearer;
use crate::connect;
use crate::connections;
use crate::consent;
use crate::cookie;
use crate::decide::{Asked, Challenge, Decision, decide};
use crate::intent::{Intent, is_cross_site};
use crate::live::Live;
use crate::login::{self, query_parameter, redirect};
use crate::pages::{Format, protect};
use crate::redirect::ReturnTo;
use crate::vault::end_at_vault;
use crate::{
    CALLBACK_PATH, CONNECTIONS_PATH, CONSENT_PATH, SIGN_IN_PATH, SIGN_OUT_PATH, START_PATH,
    answers, headers,
};

const AUTH_PATH: &str = "/oauth2/auth";

/// The routes of our own.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(START_PATH, get(login::start))
        .route(CALLBACK_PATH, get(login::callback))
        .route(AUTH_PATH, any(auth))
        .route("/oauth2/auth/", any(auth_of_path))
        .route("/oauth2/auth/{*path}", any(auth_of_path))
        .route("/oauth2/userinfo", get(userinfo))
        .route(SIGN_IN_PATH, get(sign_in))
        .route(SIGN_OUT_PATH, get(sign_out).post(sign_out))
        .route(
            CONNECTIONS_PATH,
            get(connections::show).post(connections::change),
        )
        .route(connect::CALLBACK_ROUTE, get(connect::come_back))
        .route(CONSENT_PATH, get(consent::show).post(consent::decide))
        .route("/oauth2/backchannel_logout", post(backchannel::log_out))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .fallback(not_found)
        .with_state(app)
}

/// What programs may fetch without credentials: enough for a load balancer and a crawler that know
/// these paths of old. With credentials, the same paths are the workload's.
pub(crate) fn for_anybody(request: &Parts, challenge: Challenge) -> Option<Response<Body>> {
    if challenge != Challenge::Missing {
        return None;
    }
    let text = match (&request.method, request.uri.path()) {
        (&Method::GET | &Method::HEAD, "/ping" | "/ready") => "OK",
        (&Method::GET | &Method::HEAD, "/robots.txt") => "User-agent: *\nDisallow: /\n",
        _ => return None,
    };
    let mut response = Response::new(Body::from(text));
    protect(response.headers_mut());
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Some(response)
}

/// `/oauth2/auth`: whether a request with these credentials may pass, for nginx's `auth_request` and its
/// like. 202 with the identity in headers, 401 without one, 403 if it is not among those that the query
/// asks for.
async fn auth(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let (identity, renewal) = match check(&app, &live, &request.headers).await {
        Ok(found) => found,
        Err(refusal) => return refusal.plain(&live),
    };
    if !is_among(&identity, &request) {
        return plain(StatusCode::FORBIDDEN, "Forbidden");
    }
    let mut response = plain(StatusCode::ACCEPTED, "");
    // nginx may keep this answer for a moment if it is told to.
    response.headers_mut().remove(header::CACHE_CONTROL);
    headers::set_auth_request(response.headers_mut(), &identity, &live.rules);
    if let Some(cookie) = renewal {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// `/oauth2/auth/PATH`: the same for gateways that put `/oauth2/auth` before the path of the request that
/// they ask about, such as Envoy's `ext_authz` and the external authorization of the Gateway API. A
/// navigation without a session is sent to log in and comes back to that path; nothing else depends on it,
/// so whoever makes it up reaches no more than with their own credentials.
async fn auth_of_path(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let intent = Intent::of(&request);
    let (mut request, _body) = request.into_parts();
    let live = app.live();
    let return_to = asked_about(&request.uri, &live);
    // The query is that of the other request and must not be read as ours.
    if let Ok(uri) = http::Uri::try_from(request.uri.path()) {
        request.uri = uri;
    }
    let response = auth(State(app), request).await;
    if intent == Intent::Navigation && response.status() == StatusCode::UNAUTHORIZED {
        return redirect(
            &live
                .external
                .join(&answers::start_address(&return_to.into_path())),
        );
    }
    response
}

/// The path and query after `/oauth2/auth`.
fn asked_about(uri: &http::Uri, live: &Live) -> ReturnTo {
    let whole = uri.path_and_query().map_or("", |path| path.as_str());
    let rest = whole.strip_prefix(AUTH_PATH).unwrap_or_default();
    ReturnTo::parse(rest, &live.external)
}

/// Whether `identity` is among the addresses, domains and groups that the query names, each a list with
/// commas. Of groups, those are known that an access rule names, too.
fn is_among(identity: &Identity, request: &Parts) -> bool {
    let email = identity.email.as_ref();
    let query = request.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).all(|(name, list)| {
        let mut names = list.split(',').map(str::trim);
        let mut entries = names.clone().map(str::to_ascii_lowercase);
        match name.as_ref() {
            "allowed_emails" => entries.any(|entry| email.is_some_and(|e| e.as_str() == entry)),
            "allowed_email_domains" => {
                entries.any(|entry| email.is_some_and(|e| e.domain() == entry))
            }
            "allowed_groups" => names.any(|name| {
                let groups = &identity.groups.names;
                groups.contains(&NameDigest::of(name))
            }),
            _ => true,
        }
    })
}

/// `/oauth2/userinfo`: who the caller is, as JSON.
async fn userinfo(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    match check(&app, &live, &request.headers).await {
        Ok((identity, _renewal)) => {
            let groups = live.rules.group_names(&identity);
            let mut body = json!({
                "user": identity.subject,
                "email": identity.email.as_ref().map(globus_auth_core::email::Email::as_str),
                "preferredUsername": identity.username,
            });
            // Absent if there are none, as readers of oauth2-proxy's answer expect.
            if let Some(body) = body.as_object_mut().filter(|_| !groups.is_empty()) {
                body.insert("groups".to_owned(), json!(groups));
            }
            let mut response = axum::Json(body).into_response();
            protect(response.headers_mut());
            response
        }
        Err(refusal) => refusal.plain(&live),
    }
}

/// `/oauth2/sign_in`: a page with a button, for links and bookmarks.
async fn sign_in(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let return_to = query_parameter(&request, "rd").map_or_else(ReturnTo::start_page, |rd| {
        ReturnTo::parse(&rd, &live.external)
    });
    let page = answers::sign_in(&live, &return_to.into_path());
    let mut response = page.respond(Format::of(&request.headers), live.external.authority());
    // On a shared computer, whoever reads this page next must not be whoever used the last session. A page
    // of another site cannot bring that about.
    if !is_cross_site(&request.headers) {
        end_session(&app, &live, &request.headers, &mut response);
    }
    response
}

/// `/oauth2/sign_out[?rd=…]`: ends the session here, and offers to end the one at the provider.
///
/// A `GET` that another site caused asks first; nothing else could tell whether the user wants it.
async fn sign_out(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let headers = &request.headers;
    let host = live.external.authority();
    if is_cross_site(headers) {
        return answers::confirm_sign_out().respond(Format::of(headers), host);
    }
    let mut response = if let Some(rd) = query_parameter(&request, "rd") {
        redirect(&ReturnTo::parse(&rd, &live.external).location(&live.external))
    } else {
        let provider = live.provider.sign_out_url(&live.external);
        answers::signed_out(&live, provider.map(String::from)).respond(Format::of(headers), host)
    };
    end_session(&app, &live, headers, &mut response);
    response
}

/// Makes the session of `headers` useless, also to whoever has a copy of the cookie.
fn end_session(app: &App, live: &Live, headers: &HeaderMap, response: &mut Response<Body>) {
    if let Some(session) = crate::authenticate::session(headers, live, &app.ended, app.clock.now())
    {
        let ended = Ended {
            subject: Some(NameDigest::of(&session.identity.subject)),
            sessions: Sessions::One(session.id),
        };
        app.end_sessions(ended, session.last_end);
        if let Some(vault) = live.provider.vault() {
            tokio::spawn(end_at_vault(Arc::clone(vault), session.id));
        }
        tracing::info!(user = %session.identity.subject, "a user signed out");
    }
    if let Some(token) = bearer::token(headers) {
        live.bearer.forget(token);
    }
    response
        .headers_mut()
        .extend(cookie::clear(cookie::SESSION));
}

async fn not_found(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    answers::no_such_page().respond(Format::of(&request.headers), live.external.authority())
}

/// A logout token is a JWT; nothing else that is posted here has a body.
const MAX_FORM: usize = 64 * 1024;

/// Why somebody may not pass, in the terms of these endpoints.
enum Refusal {
    Challenge(Challenge),
    NotAllowed,
    StepUp(SessionRequirements),
    Unavailable,
}

impl Refusal {
    fn plain(&self, live: &Live) -> Response<Body> {
        let mut response = match self {
            Self::StepUp(requirements) => {
                return answers::step_up(requirements)
                    .respond(Format::Json, live.external.authority());
            }
            Self::Challenge(_) | Self::NotAllowed => {
                plain(StatusCode::UNAUTHORIZED, "Unauthorized")
            }
            Self::Unavailable => plain(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        };
        let error = match self {
            Self::Challenge(Challenge::InvalidToken) => ", error=\"invalid_token\"",
            Self::Challenge(Challenge::Missing)
            | Self::NotAllowed
            | Self::StepUp(_)
            | Self::Unavailable => "",
        };
        let challenge = format!("Bearer realm=\"{}\"{error}", live.proxy.name);
        if response.status() == StatusCode::UNAUTHORIZED
            && let Ok(value) = HeaderValue::try_from(challenge)
        {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        if matches!(self, Self::NotAllowed) {
            response
                .headers_mut()
                .extend(cookie::clear(cookie::SESSION));
        }
        response
    }
}

async fn check(
    app: &App,
    live: &Live,
    headers: &HeaderMap,
) -> Result<(Identity, Option<HeaderValue>), Refusal> {
    let now = app.clock.now();
    let found = authenticate(headers, live, &app.ended, now).await;
    // What is public does not matter here: whoever asks wants to know who it is.
    let asked = Asked {
        intent: Intent::Program,
        route: None,
    };
    match decide(found.credentials, asked, &live.rules, now) {
        Decision::Forward(permit) => match permit.identity() {
            Some(identity) => Ok((identity.clone(), found.renewal)),
            None => Err(Refusal::Challenge(Challenge::Missing)),
        },
        Decision::Challenge(challenge) => Err(Refusal::Challenge(challenge)),
        Decision::StartLogin => Err(Refusal::Challenge(Challenge::Missing)),
        Decision::Deny(_) => Err(Refusal::NotAllowed),
        Decision::StepUp(requirements) => Err(Refusal::StepUp(requirements)),
        Decision::Unavailable => Err(Refusal::Unavailable),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    protect(response.headers_mut());
    if !text.is_empty() {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    response
}

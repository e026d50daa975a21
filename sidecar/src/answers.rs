//! The answers that are ours to give, in the words that people read.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::identity::Identity;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::random;
use globus_auth_core::sidecar_config::{DeliveredToken, ProxyReference};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::decide::Challenge;
use crate::live::Live;
use crate::pages::{Action, Format, Page, Service};
use crate::redirect::ReturnTo;
use crate::{CONNECTIONS_PATH, SIGN_OUT_PATH, START_PATH};

/// The address that starts a login and returns to `path`.
pub(crate) fn start_address(path: &str) -> String {
    let rd: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
    format!("{START_PATH}?rd={rd}")
}

/// The address that starts a login in which the provider asks again who it is.
fn other_account_address(path: &str) -> String {
    format!("{}&prompt=login", start_address(path))
}

/// What a user has connected, and how to change it.
pub(crate) fn connections(live: &Live, identity: &Identity, services: Vec<Service>) -> Page {
    let shown: Vec<_> = services.iter().filter(|one| one.is_connected).collect();
    let shown: Vec<_> = shown
        .into_iter()
        .map(|one| json!({"resourceServer": one.resource_server, "scopes": one.scopes, "state": one.state}))
        .collect();
    let offers_delegation = services.iter().any(|one| !one.delegations.is_empty());
    let mut page = Page::new(StatusCode::OK, "connections", "Connected services")
        .paragraph(format!(
            "You are signed in as {}. {} may use the services that are connected as you. Disconnect one to take its \
             tokens back.",
            identity.username,
            live.proxy.name
        ));
    if offers_delegation {
        page = page.paragraph(format!(
            "A job that acts for you names you by the annotation globus-auth.dev/on-behalf-of: {}",
            identity.subject
        ));
    }
    page = page
        .services(services)
        .members(json!({"connections": shown}));
    let mut wanted = live
        .vault
        .iter()
        .flat_map(|vault| vault.deliveries_for_users());
    if wanted.any(DeliveredToken::comes_with_login) {
        page = page.link(
            "Sign in again, and connect all",
            start_address(CONNECTIONS_PATH),
        );
    }
    page.aside("Back", "/")
}

/// Asks a user whether the workload may use services as them.
pub(crate) fn consent(
    live: &Live,
    identity: &Identity,
    services: Vec<Service>,
    return_to: String,
) -> Page {
    let asked: Vec<_> = services
        .iter()
        .map(|one| json!({"resourceServer": one.resource_server, "scopes": one.scopes}))
        .collect();
    let ProxyReference {
        namespace, name, ..
    } = &live.proxy;
    let mut page = Page::new(StatusCode::OK, "consent", "May it use these services as you?")
        .paragraph(format!(
            "{name} (in namespace {namespace}, at {}) asks to use the services below as {}, while you are signed in.",
            live.external.authority(),
            identity.username,
        ))
        .paragraph("It gets no password, and nothing else of you. You can take this back at any time, under connected services.")
        .services(services)
        .members(json!({"services": asked}));
    page.actions.push(Action::Consent { return_to });
    page
}

/// Before a user goes to another site, to connect a service.
pub(crate) fn connect(live: &Live, service: &str, host: &str, address: String) -> Page {
    Page::new(StatusCode::OK, "connect", "Connect a service")
        .paragraph(format!(
            "To connect {service}, {host} asks who you are there, and whether {} may use it as you. Come back in this \
             browser within ten minutes.",
            live.proxy.name
        ))
        .members(json!({"address": address}))
        .link(format!("Continue at {host}"), address)
        .aside("Back", CONNECTIONS_PATH)
}

/// 403: a service was not connected.
pub(crate) fn not_connected(code: &'static str) -> Page {
    let sentence = match code {
        "access_denied" => "It was not allowed there, or you cancelled it.",
        "invalid_state" => {
            "It was begun more than ten minutes ago, in another browser or session, or has been completed already."
        }
        "temporarily_unavailable" => {
            "The other site is not available just now. Try again in a minute."
        }
        _ => "The other site reported an error that this service does not know.",
    };
    Page::new(StatusCode::FORBIDDEN, code, "The service is not connected")
        .paragraph(sentence)
        .link("Connected services", CONNECTIONS_PATH)
}

/// The vault does not answer.
pub(crate) fn vault_down() -> Page {
    Page::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "vault_unavailable",
        "Connected services cannot be shown now",
    )
    .paragraph(
        "What keeps your connections does not answer. Nothing has changed; try again in a minute.",
    )
    .link("Try again", CONNECTIONS_PATH)
}

/// 401, with the way to authenticate (RFC 9110 §11.6.1, RFC 6750 §3).
pub(crate) fn challenge(live: &Live, challenge: Challenge, request: &Parts) -> Response<Body> {
    let realm = &live.proxy.name;
    let (page, parameters) = match challenge {
        Challenge::Missing => {
            let path = ReturnTo::from_request(&request.uri, &live.external).into_path();
            let page = Page::new(StatusCode::UNAUTHORIZED, "unauthorized", "Sign in first")
                .paragraph(
                    "This request came without a session or token, or the session has ended.",
                )
                .link("Sign in", start_address(&path));
            (page, String::new())
        }
        Challenge::InvalidToken => {
            let page = Page::new(
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                "The token is not valid",
            )
            .paragraph(
                "The bearer token is expired, revoked, malformed, or not meant for this service.",
            );
            (page, ", error=\"invalid_token\"".to_owned())
        }
    };
    let mut response = match challenge {
        // Whoever sends a token is a program, whatever it says it accepts.
        Challenge::InvalidToken => page.respond(Format::Json, live.external.authority()),
        Challenge::Missing => page.respond(Format::of(&request.headers), live.external.authority()),
    };
    if let Ok(value) = HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{parameters}")) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// 403: known, and not on the list.
pub(crate) fn not_allowed(live: &Live, identity: &Identity) -> Page {
    Page::new(StatusCode::FORBIDDEN, "access_denied", "You do not have access")
        .paragraph(format!(
            "You are signed in as {}, and this account may not use {}. If you have another account, sign \
             in with it; otherwise ask whoever runs this service to add you.",
            identity.account(),
            live.external.authority(),
        ))
        .link("Sign in with another account", other_account_address("/"))
        .post("Sign out", SIGN_OUT_PATH)
}

/// 403: the token is good, and its user must do more at the provider. In the form that clients of
/// Globus services understand (Globus Auth Requirements Error).
pub(crate) fn step_up(requirements: &SessionRequirements) -> Page {
    Page::new(
        StatusCode::FORBIDDEN,
        "insufficient_session",
        "More is needed than this token",
    )
    .paragraph(
        "The token is valid, but its user must log in at Globus once more, in the way that \
         authorization_parameters says.",
    )
    .members(requirements.to_error())
}

/// 403: the login session is not what is required.
pub(crate) fn session_requirements(path: &str) -> Page {
    Page::new(
        StatusCode::FORBIDDEN,
        "session_requirements",
        "This sign-in is not enough",
    )
    .paragraph(
        "This service asks for a sign-in with a certain account or a second factor, and Globus says that \
         yours was without. Sign in again as Globus asks.",
    )
    .link("Sign in again", other_account_address(path))
}

/// 503: whether the user may enter depends on groups that nobody can ask about just now.
pub(crate) fn groups_unknown(live: &Live, path: &str) -> Page {
    Page::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "groups_unavailable",
        "Your groups are not known just now",
    )
    .paragraph(format!(
        "You are signed in, but {} does not tell which groups you are in, and this service is for certain \
         groups. Try again in a minute.",
        live.provider.name()
    ))
    .link("Try again", start_address(path))
}

/// 403: the address does not count.
pub(crate) fn email_not_verified(live: &Live, path: &str) -> Page {
    Page::new(StatusCode::FORBIDDEN, "email_not_verified", "Your e-mail address is not verified")
        .paragraph(format!(
            "{} has not verified the e-mail address of your account. Verify it there, then sign in again.",
            capitalised(live.provider.name())
        ))
        .link("Sign in again", start_address(path))
}

/// 403: a callback that belongs to no login of this browser.
pub(crate) fn no_such_login() -> Page {
    Page::new(StatusCode::FORBIDDEN, "invalid_state", "This sign-in cannot be completed")
        .paragraph(
            "It was started more than 15 minutes ago, in another browser, or has been completed already. \
             Nothing is wrong with your account.",
        )
        .link("Sign in again", start_address("/"))
}

/// 400: not a callback at all.
pub(crate) fn bad_callback() -> Page {
    Page::new(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "This is not a sign-in response",
    )
    .paragraph("The address that brought you here lacks what a sign-in response must have.")
    .link("Sign in", start_address("/"))
}

/// 403: the provider, or the user there, said no.
pub(crate) fn refused_by_provider(live: &Live, code: &'static str) -> Page {
    let name = capitalised(live.provider.name());
    let sentence = match code {
        "access_denied" => {
            format!("{name} did not let the sign-in go on, or you cancelled it there.")
        }
        "temporarily_unavailable" => {
            format!("{name} is not available just now. Try again in a minute.")
        }
        "consent_required" => format!("{name} needs your consent before you can sign in."),
        "login_required" => format!("{name} needs you to log in first."),
        _ => format!("{name} reported an error that this service does not know."),
    };
    Page::new(StatusCode::FORBIDDEN, code, "You are not signed in")
        .paragraph(sentence)
        .link("Sign in again", start_address("/"))
}

/// 403: what the provider returned does not fit the login.
pub(crate) fn login_failed(path: &str) -> Page {
    Page::new(
        StatusCode::FORBIDDEN,
        "login_failed",
        "The sign-in could not be completed",
    )
    .paragraph(
        "The identity provider's answer did not fit this sign-in, so it was not accepted. Try once \
             more; if it happens again, tell your administrator.",
    )
    .link("Sign in again", start_address(path))
}

/// 503: nobody can log in just now.
pub(crate) fn provider_down(live: &Live, path: &str) -> Page {
    Page::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", "You cannot sign in just now")
        .paragraph(format!(
            "{} does not answer. Whoever is signed in already can go on working. Try again in a minute.",
            capitalised(live.provider.name())
        ))
        .link("Try again", start_address(path))
}

/// 502: the workload does not answer.
pub(crate) fn workload_down() -> Page {
    Page::new(StatusCode::BAD_GATEWAY, "bad_gateway", "The service does not answer").paragraph(
        "You are signed in, but the service behind this page is not running or closed the connection. It \
         may be starting: try again in a minute.",
    )
}

/// 504: the workload takes longer than this proxy waits.
pub(crate) fn workload_slow() -> Page {
    Page::new(
        StatusCode::GATEWAY_TIMEOUT,
        "gateway_timeout",
        "The service takes too long to answer",
    )
    .paragraph(
        "You are signed in, but the service behind this page did not answer in time. What you asked for may \
         still happen: look before you try again.",
    )
}

/// 404: an ingress asks this proxy about each request, and forwards by itself.
pub(crate) fn no_workload() -> Page {
    Page::new(
        StatusCode::NOT_FOUND,
        "no_upstream",
        "There is nothing behind this proxy",
    )
    .paragraph(
        "You are signed in. This proxy only answers below /oauth2/, for an ingress that asks it about each \
         request; it forwards nothing because the GlobusAuthProxy has no spec.upstream.url.",
    )
}

/// 403: a page of another site tries to use this user's session.
pub(crate) fn foreign_origin() -> Page {
    Page::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "This connection is not allowed",
    )
    .paragraph("A page of another site tried to open a connection with your session.")
}

/// 500.
pub(crate) fn internal_error() -> Page {
    Page::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong here",
    )
    .paragraph("The request could not be handled. The administrator's log says more.")
}

/// 400: a request target that is no path.
pub(crate) fn bad_target() -> Page {
    Page::new(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "The request cannot be understood",
    )
    .paragraph("The request target must be a path.")
}

/// 400: the body broke off, or is not framed as HTTP wants it.
pub(crate) fn bad_body() -> Page {
    Page::new(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "The request cannot be understood",
    )
    .paragraph("The body of the request is incomplete or malformed.")
}

/// 413: the body is longer than this proxy takes (RFC 9110 §15.5.14).
pub(crate) fn body_too_large(limit: Option<u64>) -> Page {
    let limit = limit.unwrap_or_default();
    Page::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "The request is too large",
    )
    .paragraph(format!(
        "Its body may have at most {limit} bytes. Whoever runs this service can raise \
         upstream.maxRequestBodyBytes."
    ))
}

/// 404 below our own prefix.
pub(crate) fn no_such_page() -> Page {
    Page::new(StatusCode::NOT_FOUND, "not_found", "There is no such page")
        .paragraph("The path belongs to the sign-in service, which has no page of this name.")
        .link("Go to the start page", "/")
}

/// 200: how to sign in.
pub(crate) fn sign_in(live: &Live, path: &str) -> Page {
    let label = match live.provider.name() {
        "Globus" => "Sign in with Globus",
        _ => "Sign in",
    };
    Page::new(StatusCode::OK, "sign_in", "Sign in")
        .paragraph(format!(
            "{} needs to know who you are.",
            live.external.authority()
        ))
        .link(label, start_address(path))
}

/// 200: signed out.
pub(crate) fn signed_out(live: &Live, provider: Option<String>) -> Page {
    let page = Page::new(StatusCode::OK, "signed_out", "You are signed out").paragraph(format!(
        "Your session at {} has ended.",
        live.external.authority()
    ));
    let page = match provider {
        Some(address) => page
            .paragraph(format!(
                "You may still be logged in at {}. On a shared computer, log out there, too.",
                live.provider.name()
            ))
            .link("Log out there", address),
        None => page,
    };
    page.link("Sign in again", start_address("/"))
}

/// 200: asks before signing out, because another site sent the browser here.
pub(crate) fn confirm_sign_out() -> Page {
    Page::new(StatusCode::OK, "confirm_sign_out", "Sign out?")
        .paragraph("A link on another site asked to sign you out.")
        .post("Sign out", SIGN_OUT_PATH)
        .link("Stay signed in", "/")
}

/// A name under which the log has more. Random, and worth nothing to anybody else.
pub(crate) fn reference() -> String {
    random::bytes::<9>().map_or_else(
        |_unavailable| "unknown".to_owned(),
        |bytes| URL_SAFE_NO_PAD.encode(bytes),
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

//! `/oauth2/connections`: which services a workload may use as a user, and how to take that back.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::email::Email;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::Session;
use globus_auth_core::vault_api::Connection;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use url::form_urlencoded;

use crate::app::App;
use crate::decide::Challenge;
use crate::intent::is_cross_site;
use crate::live::Live;
use crate::login::redirect;
use crate::pages::{Format, Page, Service};
use crate::vault::{Vault, VaultError};
use crate::{CONNECTIONS_PATH, answers, authenticate};

/// `GET /oauth2/connections`.
pub(crate) async fn show(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let format = Format::of(&request.headers);
    let host = live.external.authority();
    let Some(vault) = &live.vault else {
        return answers::no_such_page().respond(format, host);
    };
    let Some(session) = session(&app, &live, &request) else {
        if format == Format::Json {
            return answers::challenge(&live, Challenge::Missing, &request);
        }
        return redirect(&answers::start_address(CONNECTIONS_PATH));
    };
    match vault.connections(session.id).await {
        Ok(connections) if format == Format::Json => {
            let now = app.clock.now();
            status(
                &connections,
                session.identity.email.as_ref().map(Email::as_str),
                now,
            )
        }
        Ok(connections) => {
            let now = app.clock.now();
            let services = services(&connections, &live, vault, now);
            answers::connections(&live, &session.identity, services).respond(format, host)
        }
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// `POST /oauth2/connections`, with the form field `disconnect`.
pub(crate) async fn disconnect(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let live = app.live();
    let (request, body) = request.into_parts();
    let format = Format::of(&request.headers);
    let host = live.external.authority();
    let Some(vault) = &live.vault else {
        return answers::no_such_page().respond(format, host);
    };
    if is_cross_site(&request.headers) {
        return answers::foreign_origin().respond(format, host);
    }
    let Some(session) = session(&app, &live, &request) else {
        return redirect(&answers::start_address(CONNECTIONS_PATH));
    };
    let form = Limited::new(body, MAX_FORM).collect().await;
    let form = form
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut fields = form_urlencoded::parse(&form);
    let Some((_, resource_server)) = fields.find(|(name, _)| name == "disconnect") else {
        return answers::bad_body().respond(format, host);
    };
    match vault.disconnect(session.id, &resource_server).await {
        Ok(()) => {
            tracing::info!(user = %session.identity.subject, "a user disconnected a service");
            see_other(CONNECTIONS_PATH)
        }
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// What is connected, for a program: the fields of Atlas's `/api/globus/status`.
fn status(connections: &[Connection], email: Option<&str>, now: UnixSeconds) -> Response<Body> {
    let is_expired = |one: &Connection| one.expires_at <= now.0;
    let servers = connections.iter().map(|one| {
        json!({
            "resource_server": one.resource_server,
            "is_expired": is_expired(one),
            "expires_at": as_float(one.expires_at),
            "scopes": one.scopes.join(" "),
        })
    });
    let body = json!({
        "enabled": true,
        "authenticated": connections.iter().any(|one| !is_expired(one)),
        "resource_servers": servers.collect::<Vec<_>>(),
        "user_email": email,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Seconds since 1970 as Python's `time.time()` has them.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact until the year 285 million"
)]
const fn as_float(seconds: u64) -> f64 {
    seconds as f64
}

/// Whose page it is: of a session that may still enter. A bearer token has no connections.
fn session(app: &App, live: &Live, request: &Parts) -> Option<Session> {
    let now = app.clock.now();
    authenticate::session(&request.headers, live, &app.ended, now)
        .filter(|session| live.rules.allow(&session.identity, now))
}

/// What is connected, and what the workload would use that is not.
fn services(
    connections: &[Connection],
    live: &Live,
    vault: &Vault,
    now: UnixSeconds,
) -> Vec<Service> {
    let wanted = vault.deliveries_for_users();
    let named = |resource_server: &str| {
        let token = wanted
            .clone()
            .find(|token| token.resource_server == resource_server);
        token
            .map_or(resource_server, |token| &token.name)
            .to_owned()
    };
    let missing = wanted.clone().filter(|token| {
        let is_it = |one: &Connection| one.resource_server == token.resource_server;
        !connections.iter().any(is_it)
    });
    let missing = missing.map(|token| Service {
        name: token.name.clone(),
        resource_server: token.resource_server.clone(),
        state: "Not connected".to_owned(),
        scopes: token.scopes.clone(),
        is_connected: false,
    });
    let connected = connections.iter().map(|one| Service {
        name: named(&one.resource_server),
        resource_server: one.resource_server.clone(),
        state: state(one, now),
        scopes: one.scopes.clone(),
        is_connected: true,
    });
    tracing::debug!(proxy = live.proxy.name, "showed connections");
    connected.chain(missing).collect()
}

/// How a connection is, in words.
fn state(connection: &Connection, now: UnixSeconds) -> String {
    let left = UnixSeconds(connection.expires_at).since(now);
    match (connection.state.as_str(), connection.is_renewed) {
        ("needs_reauthentication", _) if left.is_zero() => {
            "Needs you: sign in again to reconnect it".to_owned()
        }
        ("needs_reauthentication", _) => {
            format!(
                "Needs you: it stops in {}; sign in again to reconnect it",
                words(left)
            )
        }
        ("degraded", true) => "Connected; the last renewal failed, and is tried again".to_owned(),
        (_, true) => "Connected; renewed by itself".to_owned(),
        (_, false) => format!("Connected for another {}", words(left)),
    }
}

fn words(left: Duration) -> String {
    let minutes = left.as_secs() / 60;
    match (minutes / 60 / 24, minutes / 60, minutes) {
        (days @ 2.., _, _) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} hours"),
        (_, _, 1) => "minute".to_owned(),
        (_, _, minutes) => format!("{minutes} minutes"),
    }
}

fn unavailable(error: &VaultError) -> Page {
    let reference = answers::reference();
    tracing::warn!(error = %Chain(error), request_id = %reference, "the vault did not answer");
    answers::vault_down().reference(reference)
}

/// 303: the answer to a form is a page to get (RFC 9110 §15.4.4).
fn see_other(location: &'static str) -> Response<Body> {
    let mut response = redirect(location);
    *response.status_mut() = StatusCode::SEE_OTHER;
    response
}

/// A resource server has at most 255 characters.
const MAX_FORM: usize = 2048;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("active", true, 10, "Connected; renewed by itself")]
    #[case("active", false, 7300, "Connected for another 2 hours")]
    #[case("active", false, 200_000, "Connected for another 2 days")]
    #[case("active", false, 90, "Connected for another minute")]
    #[case(
        "degraded",
        true,
        10,
        "Connected; the last renewal failed, and is tried again"
    )]
    #[case(
        "needs_reauthentication",
        false,
        0,
        "Needs you: sign in again to reconnect it"
    )]
    #[case(
        "needs_reauthentication",
        false,
        300,
        "Needs you: it stops in 5 minutes; sign in again to reconnect it"
    )]
    fn a_connection_is_told_in_words(
        #[case] word: &str,
        #[case] is_renewed: bool,
        #[case] left: u64,
        #[case] expected: &str,
    ) {
        let connection = Connection {
            resource_server: "r".to_owned(),
            scopes: vec![],
            state: word.to_owned(),
            expires_at: 1000 + left,
            is_renewed,
        };
        assert_eq!(state(&connection, UnixSeconds(1000)), expected);
    }
}

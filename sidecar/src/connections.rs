//! `/oauth2/connections`: which services a workload may use as a user, who acts for the user while they are away,
//! and how to take that back.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::email::Email;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::session::Session;
use globus_auth_core::sidecar_config::DeliveredToken;
use globus_auth_core::vault_api::{self, Connection, ConnectionsResponse, PendingConnection};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use url::form_urlencoded;

use crate::app::App;
use crate::connect;
use crate::decide::Challenge;
use crate::intent::is_unseen;
use crate::live::Live;
use crate::login::redirect;
use crate::pages::{Code, Delegation, Format, Page, Service};
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
        Ok(ConnectionsResponse { connections, .. }) if format == Format::Json => {
            let now = app.clock.now();
            status(
                &connections,
                session.identity.email.as_ref().map(Email::as_str),
                now,
            )
        }
        Ok(connected) => {
            let now = app.clock.now();
            let services = services(&connected, &live, vault, now);
            answers::connections(&live, &session.identity, services).respond(format, host)
        }
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// `POST /oauth2/connections`, with one of the form fields `connect` (the name of a token), `disconnect` (a resource
/// server), `delegate` and `end_delegation` (a ServiceAccount, beside `resource_server`).
pub(crate) async fn change(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let live = app.live();
    let (request, body) = request.into_parts();
    let format = Format::of(&request.headers);
    let host = live.external.authority();
    let Some(vault) = &live.vault else {
        return answers::no_such_page().respond(format, host);
    };
    if is_unseen(&request.headers) {
        return answers::foreign_origin().respond(format, host);
    }
    let Some(session) = session(&app, &live, &request) else {
        return redirect(&answers::start_address(CONNECTIONS_PATH));
    };
    let Some(change) = Change::of(&form(body).await) else {
        return answers::bad_body().respond(format, host);
    };
    if let Change::Connect { name } = &change {
        return connect::begin(&live, vault, &session, name)
            .await
            .map_or_else(
                || see_other(CONNECTIONS_PATH),
                |page| page.respond(format, host),
            );
    }
    match change.make(vault, &session).await {
        Ok(()) => see_other(CONNECTIONS_PATH),
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// The fields of a form, in their order; of one that is too large, none.
pub(crate) async fn form(body: Body) -> Vec<(String, String)> {
    let form = Limited::new(body, MAX_FORM).collect().await;
    let form = form
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    form_urlencoded::parse(&form).into_owned().collect()
}

/// What a user changes.
enum Change {
    Connect {
        name: String,
    },
    Disconnect {
        resource_server: String,
    },
    Delegate {
        resource_server: String,
        service_account: String,
    },
    EndDelegation {
        resource_server: String,
        service_account: String,
    },
}

impl Change {
    fn of(form: &[(String, String)]) -> Option<Self> {
        let field = |wanted| {
            let found = form.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        if let Some(name) = field("connect") {
            return Some(Self::Connect { name });
        }
        if let Some(resource_server) = field("disconnect") {
            return Some(Self::Disconnect { resource_server });
        }
        let resource_server = field("resource_server")?;
        match (field("delegate"), field("end_delegation")) {
            (Some(service_account), None) => Some(Self::Delegate {
                resource_server,
                service_account,
            }),
            (None, Some(service_account)) => Some(Self::EndDelegation {
                resource_server,
                service_account,
            }),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    async fn make(self, vault: &Vault, session: &Session) -> Result<(), VaultError> {
        let user = &session.identity.subject;
        match self {
            // It has an answer of its own.
            Self::Connect { .. } => {}
            Self::Disconnect { resource_server } => {
                vault.disconnect(session.id, &resource_server).await?;
                tracing::info!(%user, "a user disconnected a service");
            }
            Self::Delegate {
                resource_server,
                service_account,
            } => {
                // Only what the configuration names: for so long, and to no other.
                let mut tokens = vault.deliveries_for_users();
                let token = tokens.find(|token| {
                    let delegate = token.delegation.as_ref().map(|one| &one.service_account);
                    token.resource_server == resource_server && delegate == Some(&service_account)
                });
                let token = token.ok_or(VaultError::Refused(StatusCode::FORBIDDEN))?;
                vault.delegate(session.id, token).await?;
                tracing::info!(%user, service_account, "a user lets a ServiceAccount act for them");
            }
            Self::EndDelegation {
                resource_server,
                service_account,
            } => {
                vault
                    .end_delegation(session.id, &resource_server, &service_account)
                    .await?;
                tracing::info!(%user, service_account, "a ServiceAccount acts for a user no more");
            }
        }
        Ok(())
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
pub(crate) fn session(app: &App, live: &Live, request: &Parts) -> Option<Session> {
    let now = app.clock.now();
    authenticate::session(&request.headers, live, &app.ended, now)
        .filter(|session| live.rules.allow(&session.identity, now))
}

/// What is connected, and what the workload would use that is not.
fn services(
    connected: &ConnectionsResponse,
    live: &Live,
    vault: &Vault,
    now: UnixSeconds,
) -> Vec<Service> {
    let ConnectionsResponse {
        connections,
        pending,
    } = connected;
    let wanted = vault.deliveries_for_users();
    let of = |resource_server: &str| {
        let mut wanted = wanted.clone();
        wanted.find(|token| token.resource_server == resource_server)
    };
    let missing = wanted.clone().filter(|token| {
        let is_it = |one: &Connection| one.resource_server == token.resource_server;
        !connections.iter().any(is_it)
    });
    let missing = missing.map(unconnected);
    let shown = connections
        .iter()
        .map(|one| service(one, of(&one.resource_server), now));
    tracing::debug!(proxy = live.proxy.name, "showed connections");
    let mut services: Vec<Service> = shown.chain(missing).collect();
    for one in pending {
        let is_it = |service: &&mut Service| service.resource_server == one.resource_server;
        if let Some(service) = services.iter_mut().find(is_it) {
            waiting(service, one, now);
        }
    }
    services
}

fn unconnected(token: &DeliveredToken) -> Service {
    Service {
        name: token.name.clone(),
        resource_server: token.resource_server.clone(),
        state: "Not connected".to_owned(),
        scopes: token.scopes.clone(),
        is_connected: false,
        delegations: vec![],
        account: None,
        connect: token.issuer.is_some().then_some("Connect"),
        code: None,
    }
}

/// A service that waits until its user has entered a code.
fn waiting(service: &mut Service, pending: &PendingConnection, now: UnixSeconds) {
    if pending.is_refused {
        "It was not allowed there, or the code is no longer good: connect it again"
            .clone_into(&mut service.state);
        return;
    }
    let left = UnixSeconds(pending.ends_at).since(now);
    service.state = format!("Waits for you, for another {}", words(left));
    service.connect = Some("Get another code for");
    let page = &pending.verification_uri;
    service.code = Some(Code {
        text: pending.user_code.clone(),
        page: page.clone(),
        address: pending
            .verification_uri_complete
            .as_ref()
            .unwrap_or(page)
            .clone(),
    });
}

/// A connected service, of which the workload gets `token`.
pub(crate) fn service(
    connection: &Connection,
    token: Option<&DeliveredToken>,
    now: UnixSeconds,
) -> Service {
    let resource_server = &connection.resource_server;
    let given = connection.delegations.iter().map(|one| Delegation {
        state: format!(
            "While you are away, jobs of the ServiceAccount {} use it as you for another {}.",
            one.service_account,
            words(UnixSeconds(one.expires_at).since(now))
        ),
        service_account: one.service_account.clone(),
        is_given: true,
    });
    let possible = token.and_then(|token| token.delegation.as_ref());
    let possible = possible.filter(|possible| {
        let is_it = |one: &vault_api::Delegation| one.service_account == possible.service_account;
        !connection.needs_consent && !connection.delegations.iter().any(is_it)
    });
    let possible = possible.map(|one| Delegation {
        state: format!(
            "You can let jobs of the ServiceAccount {} use it as you for {} days while you are away. Whoever may \
             run pods with this ServiceAccount can use it then.",
            one.service_account, one.days
        ),
        service_account: one.service_account.clone(),
        is_given: false,
    });
    let has_own_issuer = token.is_some_and(|token| token.issuer.is_some());
    let remedy = if has_own_issuer {
        "connect it again"
    } else {
        "sign in again to reconnect it"
    };
    Service {
        name: token.map_or(resource_server, |token| &token.name).clone(),
        resource_server: resource_server.clone(),
        state: state(connection, remedy, now),
        scopes: connection.scopes.clone(),
        is_connected: true,
        delegations: given.chain(possible).collect(),
        account: connection.account.clone(),
        connect: (has_own_issuer && connection.state == "needs_reauthentication")
            .then_some("Reconnect"),
        code: None,
    }
}

/// How a connection is, in words.
fn state(connection: &Connection, remedy: &str, now: UnixSeconds) -> String {
    if connection.needs_consent {
        return "Not used until you allow it".to_owned();
    }
    let left = UnixSeconds(connection.expires_at).since(now);
    if let (Some(ends_at), "active" | "degraded") = (connection.session_ends_at, &*connection.state)
    {
        let left = UnixSeconds(ends_at).since(now);
        return format!(
            "Connected for another {}; sign in again to go on",
            words(left)
        );
    }
    match (connection.state.as_str(), connection.is_renewed) {
        ("needs_reauthentication", _) if left.is_zero() => {
            format!("Needs you: {remedy}")
        }
        ("needs_reauthentication", _) => {
            format!("Needs you: it stops in {}; {remedy}", words(left))
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

pub(crate) fn unavailable(error: &VaultError) -> Page {
    let reference = answers::reference();
    tracing::warn!(error = %Chain(error), request_id = %reference, "the vault did not answer");
    answers::vault_down().reference(reference)
}

/// 303: the answer to a form is a page to get (RFC 9110 §15.4.4).
pub(crate) fn see_other(location: &str) -> Response<Body> {
    let mut response = redirect(location);
    *response.status_mut() = StatusCode::SEE_OTHER;
    response
}

/// As large as all scopes of all tokens that a proxy can have.
const MAX_FORM: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const AGAIN: &str = "sign in again to reconnect it";

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
            needs_consent: false,
            session_ends_at: None,
            delegations: vec![],
            account: None,
        };
        assert_eq!(state(&connection, AGAIN, UnixSeconds(1000)), expected);
        let ending = Connection {
            session_ends_at: Some(1000 + 3 * 86_400),
            state: "active".to_owned(),
            ..connection.clone()
        };
        assert_eq!(
            state(&ending, AGAIN, UnixSeconds(1000)),
            "Connected for another 3 days; sign in again to go on"
        );
        let unasked = Connection {
            needs_consent: true,
            ..connection
        };
        assert_eq!(
            state(&unasked, AGAIN, UnixSeconds(1000)),
            "Not used until you allow it"
        );
    }
}

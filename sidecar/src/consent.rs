//! `/oauth2/consent`: whether a workload may use services as a user. An issuer asks this once for a client, and
//! several workloads may share one; so each workload asks for itself, and gets nothing before.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use globus_auth_core::vault_api::ConsentedService;
use http::request::Parts;
use http::{Request, Response};
use url::form_urlencoded;

use crate::app::App;
use crate::connections::{form, see_other, service, session, unavailable};
use crate::intent::is_unseen;
use crate::login::{query_parameter, redirect};
use crate::pages::{Format, Service};
use crate::redirect::ReturnTo;
use crate::vault::{Vault, VaultError};
use crate::{CONNECTIONS_PATH, CONSENT_PATH, answers};

/// Where a user is asked, and comes from back to `return_to`.
pub(crate) fn address(return_to: ReturnTo) -> String {
    let path = return_to.into_path();
    let rd: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
    format!("{CONSENT_PATH}?rd={rd}")
}

/// `GET /oauth2/consent?rd=…`.
pub(crate) async fn show(State(app): State<Arc<App>>, request: Parts) -> Response<Body> {
    let live = app.live();
    let format = Format::of(&request.headers);
    let host = live.external.authority();
    let Some(vault) = &live.vault else {
        return answers::no_such_page().respond(format, host);
    };
    let return_to = query_parameter(&request, "rd").map_or_else(ReturnTo::start_page, |rd| {
        ReturnTo::parse(&rd, &live.external)
    });
    let Some(session) = session(&app, &live, &request) else {
        return redirect(&answers::start_address(&return_to.into_path()));
    };
    let connections = match vault.connections(session.id).await {
        Ok(connected) => connected.connections,
        Err(error) => return unavailable(&error).respond(format, host),
    };
    let now = app.clock.now();
    let services: Vec<_> = connections
        .iter()
        .filter(|one| one.needs_consent)
        .map(|one| {
            let mut wanted = vault.deliveries_for_users();
            let token = wanted.find(|token| token.resource_server == one.resource_server);
            Service {
                state: "If you allow it, it may do this there as you:".to_owned(),
                is_connected: false,
                delegations: vec![],
                connect: None,
                ..service(one, token, now)
            }
        })
        .collect();
    if services.is_empty() {
        return redirect(&return_to.location(&live.external));
    }
    answers::consent(&live, &session.identity, services, return_to.into_path())
        .respond(format, host)
}

/// `POST /oauth2/consent`, with the form fields `decision` (`allow` or `refuse`), `rd`, and for each service
/// `resource_server` followed by its `scope`s: what the user has seen, and no more.
pub(crate) async fn decide(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
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
    let Some(answer) = Answer::of(&form(body).await) else {
        return answers::bad_body().respond(format, host);
    };
    let return_to = ReturnTo::parse(&answer.return_to, &live.external);
    let user = &session.identity.subject;
    let told = if answer.is_yes {
        vault.consent(session.id, answer.services).await
    } else {
        refuse(vault, session.id, &answer.services).await
    };
    match told {
        Ok(()) => {
            tracing::info!(%user, allowed = answer.is_yes, "a user decided what the workload may use");
            see_other(&return_to.location(&live.external))
        }
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// What a user does not allow is taken back at the issuer.
async fn refuse(
    vault: &Vault,
    session: globus_auth_core::session::SessionId,
    services: &[ConsentedService],
) -> Result<(), VaultError> {
    for service in services {
        vault.disconnect(session, &service.resource_server).await?;
    }
    Ok(())
}

/// What a user decided, about what they saw.
#[derive(Debug, Eq, PartialEq)]
struct Answer {
    is_yes: bool,
    services: Vec<ConsentedService>,
    return_to: String,
}

impl Answer {
    /// None if it is not clear what is meant.
    fn of(form: &[(String, String)]) -> Option<Self> {
        let mut decision = None;
        let mut services: Vec<ConsentedService> = vec![];
        let mut return_to = String::new();
        for (name, value) in form {
            match name.as_str() {
                "decision" if decision.is_none() => decision = Some(value.as_str()),
                "rd" => return_to.clone_from(value),
                "resource_server" => services.push(ConsentedService {
                    resource_server: value.clone(),
                    scopes: vec![],
                }),
                "scope" => services.last_mut()?.scopes.push(value.clone()),
                _ => return None,
            }
        }
        let is_yes = match decision? {
            "allow" => true,
            "refuse" => false,
            _ => return None,
        };
        Some(Self {
            is_yes,
            services,
            return_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn answer(form: &str) -> Option<Answer> {
        let fields: Vec<_> = form_urlencoded::parse(form.as_bytes())
            .into_owned()
            .collect();
        Answer::of(&fields)
    }

    #[test]
    fn scopes_belong_to_the_service_before_them() {
        let form =
            "rd=%2Fa&resource_server=r&scope=x&scope=y&resource_server=s&scope=z&decision=allow";
        let answer = answer(form).unwrap();
        assert!(answer.is_yes);
        assert_eq!(answer.return_to, "/a");
        let services: Vec<_> = answer
            .services
            .iter()
            .map(|one| (one.resource_server.as_str(), one.scopes.join(" ")))
            .collect();
        assert_eq!(services, [("r", "x y".to_owned()), ("s", "z".to_owned())]);
    }

    #[rstest]
    #[case::no_decision("resource_server=r&scope=x")]
    #[case::another_decision("decision=maybe&resource_server=r")]
    #[case::two_decisions("decision=refuse&decision=allow&resource_server=r")]
    #[case::a_scope_of_nothing("decision=allow&scope=x&resource_server=r")]
    #[case::something_else("decision=allow&resource_server=r&admin=1")]
    fn what_is_not_clear_is_no_answer(#[case] form: &str) {
        assert_eq!(answer(form), None);
    }
}

//! What follows when a workload refuses a request that was let through: a token that it does not take is
//! asked about anew, and a user who must do more at Globus is shown the way.

use axum::body::Body;
use globus_auth_core::sidecar_config::ProviderKind;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri};

use crate::app::App;
use crate::decide::{Permit, PermittedBy};
use crate::intent::Intent;
use crate::live::Live;
use crate::redirect::ReturnTo;
use crate::{answers, bearer, login, step_up};

/// Whether the workload refuses a request.
pub(crate) fn is_one(response: &Response<Body>) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

/// Whoever is asking, as far as it must be known after their request has gone to the workload.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A program with a token.
    Bearer { token: String },
    /// A person who opens a page, and can be sent to log in again.
    Person { uri: Uri, headers: HeaderMap },
    /// A page's own program, with its user's session.
    Session,
    /// Nobody for whom anything can be done.
    Other,
}

impl Asker {
    pub(crate) fn of<B>(
        request: &Request<B>,
        intent: Intent,
        permit: &Permit,
        live: &Live,
    ) -> Self {
        let is_globus = live.provider.config().kind == ProviderKind::Globus;
        match permit.by() {
            PermittedBy::Bearer => Self::Bearer {
                token: bearer::token(request.headers())
                    .unwrap_or_default()
                    .to_owned(),
            },
            PermittedBy::Session if is_globus => match intent {
                Intent::Navigation => Self::Person {
                    uri: request.uri().clone(),
                    headers: request.headers().clone(),
                },
                Intent::Program => Self::Session,
            },
            PermittedBy::PublicRoute | PermittedBy::Session => Self::Other,
        }
    }

    /// What the asker gets for the workload's `response`, which is a refusal.
    pub(crate) async fn answer(
        self,
        app: &App,
        live: &Live,
        response: Response<Body>,
    ) -> Response<Body> {
        match self {
            Self::Bearer { token } => {
                if response.status() == StatusCode::UNAUTHORIZED {
                    live.bearer.forget(&token);
                }
                response
            }
            Self::Person { uri, headers } => {
                let (response, requirements) = step_up::in_answer(response).await;
                let Some(requirements) = requirements else {
                    return response;
                };
                let return_to = ReturnTo::from_request(&uri, &live.external);
                login::again(app, live, &headers, return_to, requirements).await
            }
            Self::Session => {
                let (mut response, requirements) = step_up::in_answer(response).await;
                let address = requirements.and_then(|requirements| {
                    let sealed = step_up::seal(&requirements, &live.step_ups, app.clock.now())?;
                    let start = answers::start_address("/");
                    let address = live.external.join(&start);
                    HeaderValue::try_from(format!("{address}&{}={sealed}", step_up::PARAMETER)).ok()
                });
                if let Some(address) = address {
                    response.headers_mut().insert(step_up::LOGIN_URL, address);
                }
                response
            }
            Self::Other => response,
        }
    }
}

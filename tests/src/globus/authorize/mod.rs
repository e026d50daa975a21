//! `GET /v2/oauth2/authorize`, and the form that its pages post.
//!
//! Nothing is stored before somebody logs in: the page carries the whole request, so a client may
//! look at the authorization endpoint before a browser does.

mod decide;
mod request;
mod visit;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::Realm;
use super::failure::OAuthError;
use super::faults::{ActiveFault, Fault};
use super::form::{Form, Params, Query};
use super::pages;
use request::Refusal;
use visit::{Visit, redirect};

pub(crate) use request::AuthorizationRequest;
pub(crate) use visit::{COOKIE_NAME, session_cookie};

/// The authorization endpoint.
pub(crate) async fn authorize(
    State(realm): State<Realm>,
    headers: HeaderMap,
    query: Query,
    fault: ActiveFault,
) -> Response {
    let request = match AuthorizationRequest::read(&realm, &query) {
        Ok(request) => request,
        Err(refusal) => return refuse(&realm, refusal, StatusCode::FOUND),
    };
    let mut visit = Visit::of(&realm, request, &headers, StatusCode::FOUND, &fault);
    if let Some(Fault::OauthError {
        error,
        error_description,
        ..
    }) = fault.0
    {
        let status = StatusCode::FOUND;
        return visit.refuse(&OAuthError::ordered(status, error, error_description));
    }
    visit.log_in_automatically();
    visit.answer()
}

/// The buttons of the login and consent pages. `identity` is a user name or an identity's id.
pub(crate) async fn submit(
    State(realm): State<Realm>,
    headers: HeaderMap,
    fault: ActiveFault,
    form: Form,
) -> Response {
    let params = Params::parse(form.get("request").unwrap_or_default().as_bytes());
    let request = match AuthorizationRequest::read(&realm, &params) {
        Ok(request) => request,
        Err(refusal) => return refuse(&realm, refusal, StatusCode::SEE_OTHER),
    };
    let mut visit = Visit::of(&realm, request, &headers, StatusCode::SEE_OTHER, &fault);
    match (form.get("decision"), form.get("identity")) {
        (Some("deny"), _) => return visit.refuse(&OAuthError::access_denied()),
        (Some("allow"), None) => visit.consent(),
        (None, Some(name)) => {
            let Some(account) = realm.account(name) else {
                return pages::error(&realm, "There is no such user.");
            };
            if let Some(identity) = account.identity(name) {
                visit.log_in(&account, identity);
            }
            visit.consent();
        }
        _ => return pages::error(&realm, "No button was pressed."),
    }
    visit.answer()
}

fn refuse(realm: &Realm, refusal: Refusal, status: StatusCode) -> Response {
    match refusal {
        Refusal::Page(detail) => pages::error(realm, detail),
        Refusal::Redirect(told) => {
            let (back, error) = *told;
            redirect(status, &back.with_error(&error))
        }
    }
}

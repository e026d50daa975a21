//! `POST /v2/oauth2/token`: one file for each grant.

mod client_credentials;
mod code;
mod dependent;
mod id_token;
mod issue;
mod refresh;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, PRAGMA};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Realm;
use super::client_auth;
use super::config::Client;
use super::failure::OAuthError;
use super::faults::{ActiveFault, Fault};
use super::form::{Form, Params};

pub(crate) use issue::{Issuance, TokenAnswer};

/// The token endpoint.
pub(crate) async fn token(
    State(realm): State<Realm>,
    headers: HeaderMap,
    fault: ActiveFault,
    form: Form,
) -> Response {
    let client = client_auth::authenticate(&realm, &headers, &form);
    let answer = client.and_then(|client| {
        let call = Call {
            realm: &realm,
            client,
            form: &form,
            fault: &fault,
        };
        call.answer()
    });
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    // RFC 6749 §5.1.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// A request of a client that has authenticated itself.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    realm: &'a Realm,
    client: &'a Client,
    form: &'a Params,
    fault: &'a ActiveFault,
}

impl<'a> Call<'a> {
    fn answer(self) -> Result<Response, OAuthError> {
        self.check_ordered_errors()?;
        match self.form.get("grant_type") {
            Some("authorization_code") => Ok(code::redeem(self)?.into_response()),
            Some("refresh_token") => Ok(refresh::refresh(self)?.into_response()),
            Some("client_credentials") => Ok(client_credentials::issue(self)?.into_response()),
            Some("urn:globus:auth:grant_type:dependent_token") => {
                Ok(dependent::issue(self)?.into_response())
            }
            Some(_) => Err(OAuthError::unsupported_grant_type()),
            None => Err(OAuthError::invalid_request("Missing grant_type.")),
        }
    }

    fn required(self, name: &str) -> Result<&'a str, OAuthError> {
        self.form
            .get(name)
            .ok_or_else(|| OAuthError::invalid_request(&format!("Missing {name}.")))
    }

    fn check_ordered_errors(self) -> Result<(), OAuthError> {
        if self.fault.is(&Fault::InvalidGrant) {
            return Err(OAuthError::invalid_grant("ordered"));
        }
        let Some(Fault::OauthError {
            error,
            error_description,
            status,
        }) = self.fault.0.clone()
        else {
            return Ok(());
        };
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        Err(OAuthError::ordered(status, error, error_description))
    }
}

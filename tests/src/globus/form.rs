//! Parameters of requests: queries and forms, read strictly.

use std::convert::Infallible;
use std::ops::Deref;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use url::form_urlencoded;

use super::failure::OAuthError;

/// Decoded parameters, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The value of a parameter; one without a value counts as not sent (RFC 6749 §3.1).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(candidate, _)| candidate == name);
        pair.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The comma-separated values of a parameter.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.get(name).unwrap_or_default().split(',').map(str::trim);
        values
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A parameter that was sent more than once, which RFC 6749 §3.1 forbids.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let mut rest = self.0.iter();
        while let Some((name, _)) = rest.next() {
            if rest.clone().any(|(other, _)| other == name) {
                return Some(name);
            }
        }
        None
    }
}

/// The query of a request.
#[derive(Clone, Debug)]
pub(crate) struct Query(Params);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(Params::parse(
            parts.uri.query().unwrap_or_default().as_bytes(),
        )))
    }
}

impl Deref for Query {
    type Target = Params;

    fn deref(&self) -> &Params {
        &self.0
    }
}

/// The form in the body of a request, each parameter at most once.
#[derive(Clone, Debug)]
pub(crate) struct Form(Params);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        if !is_form(request.headers()) {
            return Err(OAuthError::invalid_request("The body must be a form."));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| OAuthError::invalid_request("The body cannot be read."))?;
        let params = Params::parse(&body);
        match params.duplicate() {
            Some(name) => Err(OAuthError::invalid_request(&format!(
                "{name} was sent twice."
            ))),
            None => Ok(Self(params)),
        }
    }
}

impl Deref for Form {
    type Target = Params;

    fn deref(&self) -> &Params {
        &self.0
    }
}

/// Whether a body is said to be a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    essence
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

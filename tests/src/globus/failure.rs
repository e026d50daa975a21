//! Errors, in the three shapes that Globus has for them.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::accounts::new_id;

/// An error of the OAuth endpoints.
#[derive(Debug)]
pub(crate) struct OAuthError {
    pub(crate) status: StatusCode,
    pub(crate) code: Cow<'static, str>,
    pub(crate) description: Option<String>,
    /// Further members of the body.
    details: Option<Value>,
    /// For whoever reads the request log; never sent.
    reason: Cow<'static, str>,
}

impl OAuthError {
    fn new(status: StatusCode, code: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        let (code, reason) = (Cow::Borrowed(code), reason.into());
        Self {
            status,
            code,
            description: None,
            details: None,
            reason,
        }
    }

    fn described(status: StatusCode, code: &'static str, description: &str) -> Self {
        let description = description.to_owned();
        let reason = description.clone();
        Self {
            description: Some(description),
            ..Self::new(status, code, reason)
        }
    }

    /// 401 and a bare code, where RFC 6749 §5.2 says 400.
    pub(crate) fn invalid_grant(reason: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_grant", reason)
    }

    /// 401 and a bare code.
    pub(crate) fn invalid_client(reason: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", reason)
    }

    pub(crate) fn invalid_request(description: &str) -> Self {
        Self::described(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(crate) fn invalid_scope(description: &str) -> Self {
        Self::described(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    pub(crate) fn unauthorized_client(description: &str) -> Self {
        Self::described(StatusCode::BAD_REQUEST, "unauthorized_client", description)
    }

    pub(crate) fn unsupported_grant_type() -> Self {
        let description = "The grant type is not known.";
        Self::described(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            description,
        )
    }

    pub(crate) fn server_error() -> Self {
        let description = "The emulator failed to sign.";
        Self::described(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            description,
        )
    }

    /// 403, with the scopes that the user has to approve first.
    pub(crate) fn dependent_consent_required(unapproved: &[String]) -> Self {
        let description = "User must approve your client using scopes. See 'unapproved_scopes'.";
        let error = json!({
            "code": "DEPENDENT_CONSENT_REQUIRED",
            "id": new_id(),
            "status": "403",
            "title": description,
            "detail": format!(
                "User hasn't approved the following scopes: {}",
                unapproved.join(", ")
            ),
            "unapproved_scopes": unapproved,
        });
        let details = Some(json!({ "errors": [error] }));
        let code = "dependent_consent_required";
        Self {
            details,
            ..Self::described(StatusCode::FORBIDDEN, code, description)
        }
    }

    /// Whatever a fault order says.
    pub(crate) fn ordered(status: StatusCode, code: String, description: Option<String>) -> Self {
        let reason = Cow::Borrowed("ordered");
        Self {
            status,
            code: Cow::Owned(code),
            description,
            details: None,
            reason,
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let mut body = self.details.unwrap_or_else(|| json!({}));
        if let Some(members) = body.as_object_mut() {
            members.insert("error".to_owned(), Value::from(&*self.code));
            if let Some(description) = self.description {
                members.insert("error_description".to_owned(), Value::from(description));
            }
        }
        let challenge = self.code == "invalid_client";
        let mut response = (self.status, Json(body)).into_response();
        if challenge {
            let basic = HeaderValue::from_static("Basic realm=\"auth.globus.org\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        response.extensions_mut().insert(Reason(self.reason));
        response
    }
}

/// An error of the other endpoints of Globus Auth.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
}

impl ApiError {
    pub(crate) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "UNAUTHORIZED",
            title: "Unauthorized",
            detail: Cow::Borrowed("Call must be authenticated"),
        }
    }

    pub(crate) fn forbidden(detail: &'static str) -> Self {
        let status = StatusCode::FORBIDDEN;
        Self {
            status,
            code: "FORBIDDEN",
            title: "Forbidden",
            detail: Cow::Borrowed(detail),
        }
    }

    pub(crate) fn not_found() -> Self {
        let status = StatusCode::NOT_FOUND;
        Self {
            status,
            code: "NOT_FOUND",
            title: "Not Found",
            detail: Cow::Borrowed("Not found"),
        }
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "METHOD_NOT_ALLOWED",
            title: "Method Not Allowed",
            detail: Cow::Borrowed("The method is not allowed for this path"),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self {
            status,
            code: "BAD_REQUEST",
            title: "Bad Request",
            detail: detail.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = json!({
            "status": self.status.as_str(),
            "id": new_id(),
            "code": self.code,
            "detail": self.detail,
            "title": self.title,
        });
        let body = json!({
            "errors": [error],
            "error": self.title.to_lowercase().replace(' ', "_"),
            "error_description": self.title,
        });
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Reason(self.detail));
        response
    }
}

/// An error of Globus Groups.
#[derive(Debug)]
pub(crate) struct GroupsError {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
    provided_scopes: Option<Vec<String>>,
}

impl GroupsError {
    pub(crate) fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code,
            detail,
            provided_scopes: None,
        }
    }

    pub(crate) fn forbidden(detail: &'static str, provided_scopes: Vec<String>) -> Self {
        let (status, code) = (StatusCode::FORBIDDEN, "FORBIDDEN");
        Self {
            status,
            code,
            detail,
            provided_scopes: Some(provided_scopes),
        }
    }
}

impl IntoResponse for GroupsError {
    fn into_response(self) -> Response {
        let mut body = json!({ "code": self.code, "detail": self.detail });
        if let (Some(scopes), Some(members)) = (self.provided_scopes, body.as_object_mut()) {
            members.insert("provided_scopes".to_owned(), Value::from(scopes));
        }
        let mut response = (self.status, Json(body)).into_response();
        response
            .extensions_mut()
            .insert(Reason(Cow::Borrowed(self.detail)));
        response
    }
}

/// Why a request was refused, for the request log.
#[derive(Clone, Debug)]
pub(crate) struct Reason(pub(crate) Cow<'static, str>);

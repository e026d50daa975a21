//! The provider ends sessions, without the browser (OpenID Connect Back-Channel Logout 1.0).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use globus_auth_core::ended::LONGEST;
use globus_auth_core::runtime::telemetry::Chain;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::app::App;
use crate::pages::protect;
use crate::provider::NotEnded;

/// `POST /oauth2/backchannel_logout` with the form parameter `logout_token` (§2.5). 200 once the sessions
/// are ended here; every other replica hears of it within seconds. 400 for a token that does not count
/// (§2.8).
///
/// Anybody can post here. Only a token that the provider signed does anything.
pub(crate) async fn log_out(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response<Body> {
    let live = app.live();
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| {
            let kind = text.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == "logout_token");
    let (Some((_, token)), None, true) = (tokens.next(), tokens.next(), is_form) else {
        return answer(
            StatusCode::BAD_REQUEST,
            Some("a form with one logout_token is needed"),
        );
    };
    let now = app.clock.now();
    match live.provider.ended_by(&token, now).await {
        Ok(ended) => {
            app.end_sessions(ended, now.after(LONGEST));
            tracing::info!("the provider ended sessions");
            answer(StatusCode::OK, None)
        }
        Err(error @ NotEnded::Token(_)) => {
            tracing::info!(error = %Chain(&error), "refused a logout token");
            answer(
                StatusCode::BAD_REQUEST,
                Some("the logout token does not count"),
            )
        }
        Err(error @ NotEnded::Keys(_)) => {
            tracing::warn!(error = %Chain(&error), "failed to verify a logout token");
            answer(
                StatusCode::SERVICE_UNAVAILABLE,
                Some("the provider's keys could not be fetched"),
            )
        }
    }
}

fn answer(status: StatusCode, description: Option<&'static str>) -> Response<Body> {
    let body = description.map(|text| {
        let error = json!({"error": "invalid_request", "error_description": text});
        Body::from(format!("{error}\n"))
    });
    let mut response = Response::new(body.unwrap_or_default());
    *response.status_mut() = status;
    // Nothing may keep the answer (§2.8).
    protect(response.headers_mut());
    if description.is_some() {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    response
}

//! Tells the operator what only the sidecar sees.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::report::{PATH, Report};
use globus_auth_core::runtime::http_client::SendError;
use http::{Request, StatusCode, header};

use crate::app::App;
use crate::status::Status;
use globus_auth_core::runtime::telemetry::Chain;

/// Reports every change at once and everything now and then; never returns. Serving users never waits
/// for it.
pub(crate) async fn run(app: Arc<App>, status: Arc<Status>, identity_token: PathBuf) {
    let mut changes = status.changes();
    let mut failures = 0_u32;
    loop {
        changes.mark_unchanged();
        let wait = match send(&app, &status.report(), &identity_token).await {
            Ok(()) => {
                failures = 0;
                INTERVAL
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error = %Chain(&error), "failed to report to the operator; users are served all the same");
                }
                failures = failures.saturating_add(1);
                FIRST_RETRY
                    .saturating_mul(1 << failures.min(5))
                    .min(INTERVAL)
            }
        };
        // The sender lives as long as the status, which this function holds.
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn send(app: &App, report: &Report, identity_token: &PathBuf) -> Result<(), ReportError> {
    // Read each time: the kubelet rotates it.
    let token = tokio::fs::read_to_string(identity_token)
        .await
        .map_err(ReportError::Token)?;
    let live = app.live();
    let body = serde_json::to_vec(report).map_err(ReportError::Encode)?;
    let request = Request::post(format!("{}{PATH}", live.operator.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .body(body)
        .map_err(ReportError::Request)?;
    let response = live
        .operator
        .http
        .send(request)
        .await
        .map_err(ReportError::Send)?;
    match response.status() {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        status => Err(ReportError::Status { status }),
    }
}

/// So that a condition that somebody removed by hand comes back.
const INTERVAL: Duration = Duration::from_mins(1);
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("failed to write the report")]
    Encode(#[source] serde_json::Error),
    #[error("failed to make the request")]
    Request(#[source] http::Error),
    #[error("failed to reach the operator")]
    Send(#[source] SendError),
    #[error("the operator answered with status {status}")]
    Status { status: StatusCode },
    #[error("failed to read the identity token")]
    Token(#[source] std::io::Error),
}

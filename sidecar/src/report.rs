//! Tells the operator what only the sidecar sees.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::ended;
use globus_auth_core::report::PATH;
use globus_auth_core::runtime::http_client::SendError;
use http::{Request, StatusCode, header};

use crate::app::App;
use crate::status::Status;
use globus_auth_core::runtime::telemetry::Chain;

/// Starts telling the operator what it should know.
pub(crate) fn start(app: &Arc<App>, status: &Arc<Status>, identity_token: PathBuf) -> Reports {
    tokio::spawn(tell_ended(Arc::clone(app), identity_token.clone()));
    tokio::spawn(run(Arc::clone(app), Arc::clone(status), identity_token));
    Reports {
        app: Arc::clone(app),
    }
}

/// What is told to the operator while the process lives.
#[derive(Debug)]
pub(crate) struct Reports {
    app: Arc<App>,
}

impl Reports {
    /// Waits a while for the operator to hear of the sessions that ended last, before the process does.
    pub(crate) async fn last_words(&self) {
        let told = async {
            while !self.app.ended.is_told() {
                tokio::time::sleep(LAST_WORDS_INTERVAL).await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
            tracing::warn!("stopped before the operator heard of every session that ended here");
        }
    }
}

/// Reports every change at once and everything now and then; never returns. Serving users never waits
/// for it.
async fn run(app: Arc<App>, status: Arc<Status>, identity_token: PathBuf) {
    let mut changes = status.changes();
    let mut failures = 0_u32;
    loop {
        changes.mark_unchanged();
        let wait = match send(&app, PATH, &status.report(), &identity_token).await {
            Ok(()) => {
                failures = 0;
                INTERVAL
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error = %Chain(&error), "failed to report to the operator; users are served all the same");
                }
                failures = failures.saturating_add(1);
                retry_after(failures)
            }
        };
        // The sender lives as long as the status, which this function holds.
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Tells the operator of sessions that ended here, so that they end at every replica; never returns. What
/// it does not take is told again.
async fn tell_ended(app: Arc<App>, identity_token: PathBuf) {
    let mut failures = 0_u32;
    loop {
        let message = app.ended.untold().await;
        match send(&app, ended::PATH, &message, &identity_token).await {
            Ok(()) => {
                app.ended.told(&message);
                failures = 0;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error = %Chain(&error), "failed to tell the operator of a session that ended; until it hears of it, other replicas take a copy of the cookie");
                }
                failures = failures.saturating_add(1);
                tokio::time::sleep(retry_after(failures)).await;
            }
        }
    }
}

fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(1 << failures.min(5))
        .min(INTERVAL)
}

async fn send(
    app: &App,
    path: &str,
    message: &impl serde::Serialize,
    identity_token: &PathBuf,
) -> Result<(), ReportError> {
    // Read each time: the kubelet rotates it.
    let token = tokio::fs::read_to_string(identity_token)
        .await
        .map_err(ReportError::Token)?;
    let live = app.live();
    let body = serde_json::to_vec(message).map_err(ReportError::Encode)?;
    let request = Request::post(format!("{}{path}", live.operator.url))
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
/// A pod has 30 seconds for its end, most of which are for open requests.
const LAST_WORDS: Duration = Duration::from_secs(3);
const LAST_WORDS_INTERVAL: Duration = Duration::from_millis(50);

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

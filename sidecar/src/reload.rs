//! Reads the configuration, at the start and whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::ended::{self, EndedList};
use globus_auth_core::runtime::telemetry::LevelHandle;
use globus_auth_core::sidecar_config::{self, BadConfig, SidecarConfig};

use crate::app::App;
use crate::live::{BadLive, Live, Tools};
use crate::status::Status;
use globus_auth_core::runtime::telemetry::Chain;

/// Reads the configuration in `folder`.
///
/// # Errors
/// [`ReadError`].
pub(crate) async fn read(
    folder: &Path,
    previous: Option<&Live>,
    tools: &Tools,
) -> Result<Live, ReadError> {
    let text = read_text(folder).await?;
    prepare(&text, previous, tools)
}

/// Puts every new configuration in force; never returns. One that cannot be used changes nothing but
/// what is reported.
pub(crate) async fn watch(
    folder: PathBuf,
    app: Arc<App>,
    status: Arc<Status>,
    tools: Tools,
    level: LevelHandle,
    mut ended: Vec<u8>,
) {
    let mut interval = tokio::time::interval(INTERVAL);
    let mut seen = app.live().hash.clone();
    loop {
        interval.tick().await;
        read_ended(&folder, &app, &mut ended).await;
        let text = match read_text(&folder).await {
            Ok(text) => text,
            Err(error) => {
                // The kubelet replaces the volume atomically, so this lasts only if the volume is broken.
                tracing::warn!(error = %Chain(&error), "failed to read the configuration; the last good one stays in force");
                status.saw_config(Some(error.to_string()));
                continue;
            }
        };
        let hash = sidecar_config::hash(&text);
        if hash == seen {
            continue;
        }
        seen = hash;
        match prepare(&text, Some(&*app.live()), &tools) {
            Ok(live) => {
                level.set(live.log_level);
                tracing::info!(config.hash = live.hash, "a new configuration is in force");
                app.set_live(live);
                app.metrics.reloaded("applied");
                status.saw_config(None);
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::error!(
                    error,
                    "refused a new configuration; the last good one stays in force"
                );
                app.metrics.reloaded("refused");
                status.saw_config(Some(error));
            }
        }
    }
}

/// Takes over the list of ended sessions if it is not what was `seen`; there is none until a session has
/// ended. One that cannot be understood changes nothing, and if none was known before, it ends everything
/// that began until now.
pub(crate) async fn read_ended(folder: &Path, app: &App, seen: &mut Vec<u8>) {
    let text = match tokio::fs::read(folder.join(ended::FILE_NAME)).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(%error, "failed to read which sessions ended; those that were known stay ended");
            return;
        }
    };
    if text == *seen {
        return;
    }
    match EndedList::parse(&text) {
        Ok(list) => app.set_ended(&list),
        Err(error) => {
            tracing::error!(%error, "failed to understand which sessions ended; those that were known stay ended");
            if seen.is_empty() {
                app.set_ended(&EndedList::of_everything(app.clock.now()));
            }
        }
    }
    *seen = text;
}

async fn read_text(folder: &Path) -> Result<Vec<u8>, ReadError> {
    let path = folder.join(sidecar_config::FILE_NAME);
    tokio::fs::read(&path)
        .await
        .map_err(|source| ReadError::Read { path, source })
}

fn prepare(text: &[u8], previous: Option<&Live>, tools: &Tools) -> Result<Live, ReadError> {
    let config = SidecarConfig::parse(text).map_err(ReadError::Config)?;
    Live::new(config, sidecar_config::hash(text), previous, tools).map_err(ReadError::Live)
}

/// The kubelet takes about a second to bring a change here; this adds little to it. Reading some
/// kilobytes from memory costs less than a watch would be worth.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Config(BadConfig),
    #[error("the configuration cannot be used")]
    Live(#[source] BadLive),
    #[error("failed to read {path:?}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
}

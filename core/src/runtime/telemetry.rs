//! Logs: one JSON object per line on standard output.

use std::error::Error;
use std::fmt;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt as lines, reload};

use crate::sidecar_config::LogLevel;

mod json;
mod output;

pub use output::Flushing;

/// Changes the level of a running program.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// Writes lines of `level` and more important ones from now on.
    pub fn set(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and then there is nowhere to say so.
        self.0.reload(filter(level)).unwrap_or_default();
    }
}

/// Starts logging. What is logged last is written when [`Flushing`] is dropped.
///
/// # Errors
/// Logging was started before, or there is no thread for it.
pub fn start(level: LogLevel) -> Result<(LevelHandle, Flushing), StartError> {
    let (output, flushing) = output::start(std::io::stdout()).map_err(StartError::Thread)?;
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = lines::layer()
        .event_format(json::JsonLines)
        .fmt_fields(JsonFields::new())
        .with_writer(output);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(StartError::Twice)?;
    Ok((LevelHandle(handle), flushing))
}

/// Why there will be no log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread.
    #[error("failed to start a thread for the log")]
    Thread(#[source] std::io::Error),
    /// Somebody was first.
    #[error("logging was started before")]
    Twice(#[source] TryInitError),
}

/// `error`, what caused it, and so on.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error with everything that caused it, on one line.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        causes(self.0)
            .skip(1)
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

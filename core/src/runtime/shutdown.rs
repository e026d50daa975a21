//! When to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end: SIGTERM from the kubelet, SIGINT from a terminal.
///
/// # Errors
/// The signal handlers could not be installed.
pub fn requested() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! Watches where the workload listens. The containers of a pod share one network namespace, so the
//! kernel's tables show all of them.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::listeners;
use crate::status::Status;

/// Looks again and again; never returns.
pub(crate) async fn watch(status: Arc<Status>, upstream_port: u16, ours: Vec<SocketAddr>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        match read_tables().await {
            Ok(tables) => {
                let listening = listeners::is_listening(&tables, upstream_port, &ours);
                status.saw_listeners(listening, listeners::exposed(&tables, upstream_port, &ours));
            }
            Err(error) => tracing::warn!(%error, "failed to read the kernel's table of sockets"),
        }
    }
}

async fn read_tables() -> std::io::Result<[String; 2]> {
    let read = || {
        let v4 = listeners::table(File::open("/proc/net/tcp")?)?;
        // Absent where the kernel has no IPv6; then nobody listens there.
        let v6 = File::open("/proc/net/tcp6").and_then(listeners::table);
        Ok([v4, v6.unwrap_or_default()])
    };
    // Quick, but the kernel may have many connections to pass by.
    tokio::task::spawn_blocking(read).await?
}

/// A workload that restarts with another address is noticed within this time.
const INTERVAL: Duration = Duration::from_secs(2);

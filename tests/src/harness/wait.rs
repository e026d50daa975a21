//! Waiting for a condition. Nothing else in the tests takes time on purpose.

use std::time::Duration;

use tokio::time::Instant;

/// Asks again and again until `attempt` returns something.
///
/// # Panics
/// After [`DEADLINE`].
pub async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, attempt).await
}

/// As [`eventually`], with a deadline of its own: for what is slow by design.
///
/// # Panics
/// After the deadline.
pub async fn eventually_within<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for a future that must not take long.
///
/// # Panics
/// After [`DEADLINE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_elapsed| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Long enough for a loaded machine with two cores; nothing that works takes a tenth of it.
pub const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

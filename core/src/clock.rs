//! Time as a value: pure code takes it as a parameter, programs read it from a [`Clock`].

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z, as in a JWT's `NumericDate` (RFC 7519 §2).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This moment plus `duration`, which stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// Where a program reads the time. Tests use [`ManualClock`].
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Since 1970-01-01T00:00:00Z, as exactly as it is known.
    fn since_epoch(&self) -> Duration;

    /// The present moment.
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.since_epoch().as_secs())
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    fn since_epoch(&self) -> Duration {
        // A clock before 1970 reads as 1970: everything then looks not yet valid, which is refused.
        std::time::SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn at(now: UnixSeconds) -> Self {
        Self(std::sync::atomic::AtomicU64::new(now.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0
            .fetch_add(by.as_secs(), std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

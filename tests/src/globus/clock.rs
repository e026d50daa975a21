//! The time, which tests move on instead of waiting.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// Seconds since 1970, with an offset that only grows.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead_seconds: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> i64 {
        Timestamp::now()
            .as_second()
            .saturating_add(self.ahead_seconds.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, seconds: u32) {
        self.ahead_seconds
            .fetch_add(i64::from(seconds), Ordering::Relaxed);
    }
}

/// RFC 3339, as in consents.
pub(crate) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

//! Waiting for what other programs do, in real time.

use std::thread;
use std::time::{Duration, Instant};

/// A moment between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "another program's doing is looked at again and again"
)]
pub(crate) fn pause() {
    thread::sleep(PAUSE);
}

/// A point in time after which nobody waits any longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    end: Instant,
}

impl Deadline {
    /// After `patience` from now.
    #[expect(clippy::disallowed_methods, reason = "other programs take real time")]
    pub(crate) fn after(patience: Duration) -> Self {
        Self {
            end: Instant::now() + patience,
        }
    }

    /// Whether it is over.
    #[expect(clippy::disallowed_methods, reason = "other programs take real time")]
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.end
    }
}

/// Short enough not to be felt, long enough to leave the processors to those who are waited for.
const PAUSE: Duration = Duration::from_millis(50);

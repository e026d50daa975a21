//! Who is to blame for an error, and whether trying again can help.

use std::time::Duration;

/// Whose fault an error is. It decides the family of the HTTP status: 4xx, 502/504 or 500.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The request is wrong; the same request will fail again.
    Client,
    /// We, or our configuration, are wrong.
    Internal,
    /// The identity provider or the workload misbehaved or cannot be reached.
    Upstream,
}

/// When the failed operation may be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// After this time.
    After(Duration),
    /// Not before something else changes.
    Never,
}

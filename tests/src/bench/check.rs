//! A session check alone, in this process: what opening the cookie of a user costs.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Context as _;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::identity::Identity;
use globus_auth_core::sealer::{Context, KeyBytes, KeyId, Sealer};
use globus_auth_core::session::{Limits, Session};
use tokio::time::Instant;

use super::report::SessionCheck;

/// The allocator of the program that measures, which counts.
pub type Counting = &'static stats_alloc::StatsAlloc<std::alloc::System>;
/// To be made the global allocator.
pub const COUNTING: Counting = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Opens a session again and again.
///
/// # Errors
/// The session cannot be opened.
pub fn session() -> anyhow::Result<SessionCheck> {
    let keys = [(KeyId(1), KeyBytes::new([7; 32]))];
    let context = Context {
        purpose: "session",
        binding: &["uid", "https://auth.globus.org", "client"],
    };
    let sealer = Sealer::new(&keys, context)?;
    let now = UnixSeconds(1_800_000_000);
    let limits = Limits {
        idle: Duration::from_hours(12),
        absolute: Duration::from_hours(168),
    };
    let identity = Identity {
        subject: "c2f5a5b0-1f6f-4c2b-9d8e-000000000001".to_owned(),
        email: Some("alice@example.org".parse()?),
        username: "alice@example.org".to_owned(),
        name: Some("Alice Example".to_owned()),
        ..Identity::default()
    };
    let cookie = Session::start(identity, limits, now)?.seal(&sealer)?;
    let open = || {
        Session::open(&sealer, black_box(cookie.as_bytes()), limits, now)
            .context("a session that was sealed just now can be opened")
    };
    drop(black_box(open()?));

    let region = stats_alloc::Region::new(COUNTING);
    let opened = open()?;
    let used = region.change();
    drop(black_box(opened));

    let started = Instant::now();
    for _ in 0..REPETITIONS {
        drop(black_box(open()?));
    }
    let ns = started.elapsed().as_secs_f64() * 1e9 / f64::from(REPETITIONS);
    Ok(SessionCheck {
        ns,
        bytes_allocated: used.bytes_allocated,
        allocations: used.allocations,
    })
}

const REPETITIONS: u32 = 100_000;

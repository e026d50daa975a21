//! A day of abuse, compressed: everything that happens to a sidecar, all at once, and what is left of it.
//!
//! Users work, log in and out, and stream; strangers, programs with tokens and attackers come by; the
//! provider is slow, fails and resets; the list and the file that it is in change. In between, somebody who
//! may enter all the time must never be refused, and nobody else let in. At the end the memory must be flat,
//! every file descriptor given back, and no secret in the log, which the harness searches.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test that uses it"
)]

mod changes;
mod tally;
mod users;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use tally::{Report, Tally};

use crate::globus::User;
use crate::harness::sidecar::addresses;
use crate::harness::stage::{ALICE, CAROL};
use crate::harness::{Stage, eventually};

/// Abuses one sidecar for this long, and tells what came of it.
///
/// # Panics
/// If somebody who takes part does, or a secret is in the log.
pub async fn run(duration: Duration) -> Report {
    let mut stage = Stage::setup()
        .globus(|globus| globus.user(User::new(users::DAVE)))
        .config(|config| config.access.emails.extend(addresses(&[users::DAVE])))
        .start()
        .await;
    let (tally, stop) = (Tally::default(), CancellationToken::new());
    let started = Instant::now();
    let descriptors_before = stage.sidecar.descriptors();
    let users = users::start(&stage, &tally, &stop).await;
    let mut memory = Vec::new();
    let mut round = 0;
    while started.elapsed() < duration {
        changes::make_one(&mut stage, round).await;
        memory.push(stage.sidecar.memory());
        round += 1;
    }
    changes::undo(&mut stage).await;
    stop.cancel();
    for user in users {
        user.await.expect("nobody who takes part panics");
    }
    let descriptors_after = eventually("file descriptors to be given back", async || {
        let left = stage.sidecar.descriptors();
        (left <= descriptors_before + SPARE_DESCRIPTORS).then_some(left)
    })
    .await;
    // After all of it, a person logs in and is served.
    for username in [ALICE, CAROL] {
        stage.logged_in(username).await;
    }
    let panics = stage
        .sidecar
        .metric("decisions_total{decision=\"error\"}")
        .await;
    Report {
        duration: started.elapsed(),
        rounds: round,
        outcomes: tally.outcomes(),
        failures: tally.failures(),
        memory,
        descriptors: (descriptors_before, descriptors_after),
        log_lines: stage.sidecar.events().len(),
        secrets: stage.sidecar.secrets().count(),
        panics,
    }
}

/// Connections to provider and workload that are kept for a while.
const SPARE_DESCRIPTORS: usize = 8;

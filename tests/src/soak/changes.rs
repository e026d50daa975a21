//! What changes around the sidecar meanwhile.

use std::time::Duration;

use crate::globus::{Endpoint, Fault, FaultOrder, When};
use crate::harness::Stage;
use crate::harness::sidecar::{addresses, session_key};
use crate::harness::stage::{ALICE, CAROLS_EMAIL};
use crate::soak::users::DAVE;

/// Makes one change, the next of a list that begins again at its end, and lets it act for a moment.
pub(super) async fn make_one(stage: &mut Stage, round: usize) {
    match round % 8 {
        0 => list(stage, &[ALICE, DAVE]).await,
        1 => fault(stage, Endpoint::Token, status(500)),
        2 => list(stage, &[ALICE, DAVE, CAROLS_EMAIL]).await,
        3 => fault(
            stage,
            Endpoint::Introspect,
            Fault::Reset { when: When::Before },
        ),
        4 => stage.sidecar.write(b"{ this is no configuration"),
        5 => {
            let slow = Fault::Slow {
                delay_ms: 200,
                when: When::Before,
            };
            fault(stage, Endpoint::Token, slow);
        }
        6 => rotate(stage).await,
        _ => stage.globus().clear_faults(),
    }
    // Not a wait for something: the time in which the change is in force.
    tokio::time::sleep(MOMENT).await;
}

/// Leaves everything as it was.
pub(super) async fn undo(stage: &mut Stage) {
    stage.globus().clear_faults();
    list(stage, &[ALICE, DAVE, CAROLS_EMAIL]).await;
}

async fn list(stage: &mut Stage, emails: &[&str]) {
    let emails = addresses(emails);
    let change = |config: &mut globus_auth_core::sidecar_config::SidecarConfig| {
        config.access.emails = emails;
    };
    stage.sidecar.reconfigure(change).await;
}

/// A new key seals, and those of before open: nobody is logged out.
async fn rotate(stage: &mut Stage) {
    let change = |config: &mut globus_auth_core::sidecar_config::SidecarConfig| {
        let newest = config.session_keys[0].id.0;
        config.session_keys.insert(0, session_key(newest + 1));
        // The first key stays: the sessions of those who work all the time are sealed with it.
        if config.session_keys.len() > KEYS_MAX {
            config.session_keys.remove(1);
        }
    };
    stage.sidecar.reconfigure(change).await;
}

fn fault(stage: &Stage, endpoint: Endpoint, fault: Fault) {
    stage.globus().clear_faults();
    stage.globus().order_fault(FaultOrder::new(endpoint, fault));
}

fn status(status: u16) -> Fault {
    Fault::Status {
        status,
        retry_after_seconds: None,
        when: When::Before,
    }
}

const KEYS_MAX: usize = 4;
const MOMENT: Duration = Duration::from_millis(250);

//! What attackers try at an authenticating proxy, from outside, and whether they get anywhere.
//!
//! The attacks need the base URL of a running proxy, the cookies of a session that may enter, and a path
//! below which everything is public for `GET` and `HEAD`; so they can be pointed at a rival as well as at
//! our sidecar. The workload must be the echo upstream of [`crate::echo`], which tells what reached it.
//!
//! An attack is over when somebody without a session reaches the workload, when a claim of a client
//! does, when a browser is led away, or when an answer is a failure of the proxy. `docs/attacks.md` has
//! the table of what each is about and what holds it off.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test that uses it"
)]

mod claims;
mod cookies;
mod framing;
mod http2;
mod paths;
mod probes;
mod redirects;
mod target;

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

pub use http2::ask as ask_over_http2;
pub use redirects::{Redirects, corpus};
pub use target::Target;

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// The line of the list of attacks that it belongs to.
    pub line: u8,
    /// What holds it off, as a sentence.
    pub name: &'static str,
    run: Run,
}

type Run = for<'a> fn(&'a Target) -> LocalBoxFuture<'a, Outcome>;

/// Held off, or what the attacker got.
pub type Outcome = Result<(), String>;

macro_rules! attacks {
    ($($line:literal $module:ident::$name:ident,)*) => {
        /// Every attack.
        pub const ATTACKS: &[Attack] = &[$(Attack {
            line: $line,
            name: stringify!($name),
            run: |target| $module::$name(target).boxed_local(),
        }),*];
    };
}

attacks! {
    1 paths::the_public_path_itself_is_public,
    1 paths::nothing_but_the_path_makes_a_path_public,
    1 paths::a_path_that_servers_read_differently_is_not_public,
    1 paths::a_target_in_another_form_is_not_public,
    1 paths::a_method_that_is_not_named_is_not_public,
    1 paths::what_was_decided_on_is_what_is_forwarded,
    1 http2::a_pseudo_header_makes_nothing_public,
    2 claims::addresses_and_names_that_a_client_claims_do_not_count,
    3 claims::an_identity_that_a_client_claims_reaches_nobody,
    3 claims::an_identity_on_a_public_path_reaches_nobody,
    3 claims::a_connection_header_removes_no_identity,
    3 claims::a_trailer_claims_no_identity,
    4 probes::a_probe_by_its_user_agent_is_anybody,
    4 probes::metrics_and_debugging_are_not_on_the_public_listener,
    5 redirects::a_sign_out_leads_nobody_away,
    5 redirects::a_login_leads_nobody_away,
    5 redirects::a_header_leads_nobody_away,
    5 redirects::addresses_of_our_own_are_kept,
    7 cookies::a_session_that_was_cut_anywhere_is_none,
    7 cookies::a_session_with_another_character_anywhere_is_none,
    7 cookies::a_session_by_another_name_is_none,
    7 cookies::a_session_in_pieces_or_twice_over_is_none,
    7 cookies::an_endless_cookie_is_none,
    12 framing::a_request_with_two_lengths_hides_no_other,
    12 framing::a_malformed_request_is_refused,
    12 framing::a_hidden_request_is_authenticated_by_itself,
    12 framing::an_upgrade_needs_a_session,
    12 framing::h2c_is_not_switched_to,
    12 framing::headers_without_end_are_refused,
    12 framing::a_body_without_end_is_not_waited_for,
    12 framing::an_expectation_is_not_met_before_authentication,
    12 framing::nothing_that_was_sent_is_reflected,
}

/// Carries out every attack in turn, and tells each outcome as soon as it is known.
pub async fn run(target: &Target, mut tell: impl FnMut(&Attack, &Outcome)) -> bool {
    let mut held = true;
    for attack in ATTACKS {
        let outcome = attack.carry_out(target).await;
        tell(attack, &outcome);
        held &= outcome.is_ok();
    }
    held
}

impl Attack {
    /// The attack with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ATTACKS.iter().find(|attack| attack.name == name)
    }

    /// Carries it out.
    ///
    /// # Errors
    /// What the attacker got.
    pub async fn carry_out(&self, target: &Target) -> Outcome {
        // Whatever answers nonsense makes the harness panic.
        let outcome = AssertUnwindSafe((self.run)(target)).catch_unwind().await;
        outcome.unwrap_or_else(|panic| Err(message(panic.as_ref())))
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "nonsense".to_owned())
}

//! Forty questions to an authenticating proxy, asked from outside, and the answers of two of them.
//!
//! The suite needs the base URL of a running proxy and the name of its session cookie; so it can be
//! pointed at an oauth2-proxy as well as at our sidecar. What both answer is parity; where the columns
//! differ, ours is a decision, and [`table`] is where to read it.
//!
//! Some questions need more than a URL: that an address leaves the allowlist, or a token that has
//! expired. Whoever runs the suite gives it [`Controls`]; questions whose controls are missing are told
//! as skipped, never as passed.
//!
//! The provider must be the emulator of [`crate::globus`] and the workload the echo upstream of
//! [`crate::echo`].

mod endpoints;
mod entry;
mod forwarding;
mod login;
mod subject;
pub mod table;

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

pub use subject::{Controls, Order, Skipped, Subject, TokenKind};
pub use table::{CHECKS, Check};

/// Whose answers are expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Ours.
    GlobusAuth,
    /// Those of an oauth2-proxy 7 with its defaults, and `--set-xauthrequest`.
    Oauth2Proxy,
}

/// What a question brought to light, in a few words that the table has, too.
pub type Observed = Result<String, Skipped>;

/// Asks one question.
pub type Ask = fn(Rc<Subject>) -> LocalBoxFuture<'static, Observed>;

/// How one check went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The row of the table.
    pub check: &'static Check,
    /// What the table says.
    pub expected: &'static str,
    /// What happened.
    pub verdict: Verdict,
}

/// How it is to be judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected, but so.
    Failed(String),
    /// Not asked, and why.
    Skipped(&'static str),
}

impl Outcome {
    /// Whether this outcome is a failure.
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { name, request, .. } = self.check;
        match &self.verdict {
            Verdict::Passed => write!(f, "ok    {name:>3}  {request}: {}", self.expected),
            Verdict::Skipped(why) => write!(f, "skip  {name:>3}  {request}: {why}"),
            Verdict::Failed(observed) => write!(
                f,
                "FAIL  {name:>3}  {request}\n            expected {}\n            observed {observed}",
                self.expected
            ),
        }
    }
}

/// Asks every question in turn, and tells each outcome as soon as it is known.
pub async fn run(
    subject: Rc<Subject>,
    dialect: Dialect,
    mut tell: impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(CHECKS.len());
    for check in CHECKS {
        let expected = match dialect {
            Dialect::GlobusAuth => check.ours,
            Dialect::Oauth2Proxy => check.theirs,
        };
        // Whatever answers nonsense makes the harness panic.
        let observed = AssertUnwindSafe((check.ask)(Rc::clone(&subject)))
            .catch_unwind()
            .await;
        let verdict = match observed {
            Ok(Ok(observed)) if observed == expected => Verdict::Passed,
            Ok(Ok(observed)) => Verdict::Failed(observed),
            Ok(Err(Skipped(why))) => Verdict::Skipped(why),
            Err(panic) => Verdict::Failed(message(panic.as_ref()).to_owned()),
        };
        let outcome = Outcome {
            check,
            expected,
            verdict,
        };
        tell(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("nonsense")
}

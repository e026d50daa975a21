//! Where a test lets the process die: between the steps of a refresh. Without the feature `failpoints`,
//! nothing.

/// The step before which the process dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Before the claim is written.
    Claim,
    /// Between the claim and the redemption.
    Redeem,
    /// Between the redemption and the write of what came.
    Store,
    /// After that write.
    Stored,
}

impl Step {
    /// The step's name, for the environment variable.
    #[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "for tests"))]
    const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Redeem => "redeem",
            Self::Store => "store",
            Self::Stored => "stored",
        }
    }
}

/// Dies here, if `GLOBUS_AUTH_VAULT_DIE_BEFORE` names this step.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(step: Step) {
    #[expect(clippy::disallowed_methods, reason = "this is for tests only")]
    let wanted = std::env::var("GLOBUS_AUTH_VAULT_DIE_BEFORE");
    if wanted.is_ok_and(|wanted| wanted == step.name()) {
        // As `kill -9` does: nothing is flushed, nobody is told.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .unwrap_or_default();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::missing_const_for_fn, reason = "it is not in the other form")]
pub(crate) fn reach(_step: Step) {}

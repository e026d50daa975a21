//! Abuses a sidecar for a while, and says what came of it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use globus_auth_tests::soak;

/// Abuses a sidecar on loopback: users, logins, attackers, faults of the provider and changes of the
/// configuration, all at once. The exit status is 0 if memory stayed flat, every file descriptor was given
/// back, nobody got an answer that they should not get, and no secret is in the log.
///
/// `GLOBUS_AUTH_SIDECAR` names the program.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Args {
    /// For how long.
    #[arg(long, default_value_t = 15)]
    minutes: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let report = soak::run(Duration::from_secs(args.minutes * 60)).await;
    write!(std::io::stdout(), "{report}")?;
    Ok(ExitCode::from(u8::from(!report.problems().is_empty())))
}

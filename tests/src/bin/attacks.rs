//! Carries out the attacks of the suite at a running proxy.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use globus_auth_tests::attacks::{self, Target};
use globus_auth_tests::harness::secrets::Secrets;
use url::Url;

/// Attacks an authenticating proxy from outside, and tells which attacks it holds off.
///
/// In front of it must be nothing, and behind it the echo upstream. The exit status is 0 if every attack is
/// held off. `docs/attacks.md` says what each is about.
#[derive(Debug, Parser)]
#[command(name = "attacks")]
struct Args {
    /// Where users reach the proxy.
    #[arg(long)]
    url: Url,
    /// Where the proxy listens, if its URL does not lead there.
    #[arg(long)]
    address: Option<SocketAddr>,
    /// The name of its session cookie.
    #[arg(long)]
    cookie: String,
    /// The value of that cookie, of a session that may enter.
    #[arg(long, env = "SESSION", hide_env_values = true)]
    session: String,
    /// A path below which GET and HEAD are for everybody.
    #[arg(long, default_value = "/public")]
    public: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let address = match args.address {
        Some(address) => address,
        None => *args
            .url
            .socket_addrs(|| None)
            .context("--url leads nowhere; say --address")?
            .first()
            .context("--url leads nowhere; say --address")?,
    };
    let target = Target {
        url: args.url,
        address,
        cookie: args.cookie,
        session: args.session,
        public: args.public,
        secrets: Secrets::default(),
    };
    let mut stdout = std::io::stdout();
    let held = attacks::run(&target, |attack, outcome| {
        let told = match outcome {
            Ok(()) => writeln!(stdout, "held  {:>2}  {}", attack.line, attack.name),
            Err(got) => writeln!(stdout, "LOST  {:>2}  {}: {got}", attack.line, attack.name),
        };
        // Nobody may be reading; the exit status still tells.
        drop(told);
    })
    .await;
    Ok(ExitCode::from(u8::from(!held)))
}

//! Asks a running proxy the questions of the conformance suite.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use futures_util::future::LocalBoxFuture;
use globus_auth_tests::conformance::{
    self, Controls, Dialect, Order, Skipped, Subject, TokenKind, Verdict,
};
use globus_auth_tests::harness::secrets::Secrets;
use tokio::process::Command;
use url::Url;

/// Asks an authenticating proxy forty questions from outside, and compares its answers with a table.
///
/// In front of it must be nothing, behind it the echo upstream, and its provider must be the Globus
/// emulator. The exit status is 0 if no answer differs.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Args {
    /// Where users reach the proxy.
    #[arg(long)]
    url: Url,
    /// The name of its session cookie.
    #[arg(long)]
    cookie: String,
    /// Where the proxy listens, if its URL does not lead there.
    #[arg(long)]
    address: Option<SocketAddr>,
    /// The user that the allowlist names.
    #[arg(long, default_value = "alice@example.org")]
    allowed: String,
    /// A user of the provider that it does not name.
    #[arg(long, default_value = "mallory@example.net")]
    refused: String,
    /// Which column of the table is expected.
    #[arg(long, value_enum, default_value_t = Column::GlobusAuth)]
    expect: Column,
    /// A program that carries out orders: `allow ENTRY...`, `break-allowlist`, `token
    /// opaque|expired|foreign` (which prints the token), `stop-upstream`, `start-upstream`. It exits with
    /// 0 when the order is carried out, with 3 if it cannot be. Without it, what needs orders is skipped.
    #[arg(long)]
    control: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Column {
    GlobusAuth,
    Oauth2Proxy,
}

struct Program(Option<String>);

impl Controls for Program {
    fn carry_out(&mut self, order: Order) -> LocalBoxFuture<'_, Result<String, Skipped>> {
        Box::pin(async move {
            let program = self.0.as_ref().ok_or(Skipped("there is no --control"))?;
            let output = Command::new(program).args(words(order)).output().await;
            let output = output.map_err(|_error| Skipped("--control cannot be run"))?;
            if !output.status.success() {
                return Err(Skipped("--control does not do that"));
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        })
    }
}

fn words(order: Order) -> Vec<String> {
    let word = |word: &str| vec![word.to_owned()];
    match order {
        Order::Allow(entries) => [word("allow"), entries].concat(),
        Order::BreakAllowlist => word("break-allowlist"),
        Order::StopUpstream => word("stop-upstream"),
        Order::StartUpstream => word("start-upstream"),
        Order::Token(kind) => [
            word("token"),
            word(match kind {
                TokenKind::Opaque => "opaque",
                TokenKind::Expired => "expired",
                TokenKind::Foreign => "foreign",
            }),
        ]
        .concat(),
    }
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
    let subject = Subject::new(
        args.url.as_str(),
        address,
        &args.cookie,
        [&args.allowed, &args.refused],
        Box::new(Program(args.control)),
        Secrets::default(),
    );
    let dialect = match args.expect {
        Column::GlobusAuth => Dialect::GlobusAuth,
        Column::Oauth2Proxy => Dialect::Oauth2Proxy,
    };
    let mut stdout = std::io::stdout();
    let outcomes = conformance::run(Rc::new(subject), dialect, |outcome| {
        // Nobody may be reading; the exit status still tells.
        drop(writeln!(stdout, "{outcome}"));
    })
    .await;
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|o| is(&o.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    writeln!(
        stdout,
        "{} passed, {failed} failed, {} skipped",
        count(|verdict| *verdict == Verdict::Passed),
        count(|verdict| matches!(verdict, Verdict::Skipped(_)))
    )?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

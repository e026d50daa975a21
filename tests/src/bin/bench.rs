//! Measures our sidecar beside its peers: `make bench`.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use globus_auth_tests::bench::{Options, check, run, upstream, vault};

#[global_allocator]
static ALLOCATOR: check::Counting = check::COUNTING;

/// Measures our sidecar beside oauth2-proxy, Apache with `mod_auth_openidc` and plain nginx, on loopback.
///
/// `GLOBUS_AUTH_SIDECAR` names our program, `OAUTH2_PROXY_BIN` oauth2-proxy's.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// A minute instead of several: enough to see whether a change helps.
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose names have this in them; `streams` for long-lived connections.
    #[arg(long)]
    only: Option<String>,
    /// Where the report goes.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// A document whose figures are replaced by those of this run.
    #[arg(long)]
    into: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only the vault: reads of tokens through HTTP and TLS.
    Vault,
    /// Only the workload behind all peers, which the rest starts.
    Upstream {
        /// Where it listens.
        address: SocketAddr,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.part {
        Some(Part::Upstream { address }) => return upstream::serve(address).await,
        Some(Part::Vault) => {
            let line = vault::reads().await?;
            writeln!(std::io::stdout(), "{line}")?;
            return Ok(());
        }
        None => {}
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    let options = Options {
        quick: args.quick,
        only: args.only,
        folder: std::path::absolute(args.folder)?,
    };
    let report = run(&options).await?;
    write!(std::io::stdout(), "{}", report.table())?;
    if let Some(path) = args.into {
        let text = fs::read_to_string(&path).context("failed to read --into")?;
        fs::write(&path, report.replace_in(&text)?).context("failed to write --into")?;
    }
    Ok(())
}

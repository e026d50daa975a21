//! Runs the echo upstream until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use globus_auth_tests::asked_to_stop;
use globus_auth_tests::echo::Echo;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// An HTTP server that tells what it received.
#[derive(Debug, Parser)]
struct Args {
    /// The address to listen on.
    #[arg(long, env = "ECHO_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter.from_env_lossy())
        .init();
    let Args { listen } = Args::parse();
    let echo = Echo::listen(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}"))?;
    tracing::info!(address = %echo.address(), "the echo upstream is ready");
    asked_to_stop()
        .await
        .context("failed to wait for signals")?;
    echo.stop().await;
    Ok(())
}

//! Runs the Globus emulator until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use globus_auth_tests::asked_to_stop;
use globus_auth_tests::globus::{Config, Emulator};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A stand-in for Globus Auth and Globus Groups, for tests and demos.
#[derive(Debug, Parser)]
struct Args {
    /// The configuration, in JSON.
    #[arg(long, env = "GLOBUS_EMULATOR_CONFIG")]
    config: PathBuf,
    /// The address to listen on, instead of the configured one.
    #[arg(long, env = "GLOBUS_EMULATOR_LISTEN")]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter.from_env_lossy())
        .init();
    let args = Args::parse();
    let mut config = Config::load(&args.config)
        .with_context(|| format!("failed to use {}", args.config.display()))?;
    config.listen = args.listen.unwrap_or(config.listen);
    let emulator = Emulator::start(config)
        .await
        .context("failed to start the emulator")?;
    tracing::info!(address = %emulator.address(), issuer = emulator.issuer(), "the Globus emulator is ready");
    asked_to_stop()
        .await
        .context("failed to wait for signals")?;
    emulator.stop().await;
    Ok(())
}

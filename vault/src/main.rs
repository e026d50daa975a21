//! The vault's program.

use std::process::ExitCode;

use clap::Parser;
use globus_auth_vault::{Args, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let line = format!(
                "{{\"level\":\"ERROR\",\"message\":{:?}}}\n",
                format!("{error:#}")
            );
            std::io::stdout()
                .write_all(line.as_bytes())
                .unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

//! The sidecar's program.

use std::process::ExitCode;

use clap::Parser;
use globus_auth_sidecar::{Args, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One worker: a sidecar shares its node with the workload, and one core carries 50,000 requests per
/// second.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have started; the pod's termination message shows this line either way.
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

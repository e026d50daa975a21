//! Puts MLflow behind a login in a cluster, and keeps two loopback ports that lead there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use globus_auth_tests::demo::{self, Settings};

/// MLflow behind a login, from one command.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    action: Action,

    /// The kubeconfig of the cluster.
    #[arg(
        long,
        global = true,
        env = "KUBECONFIG",
        default_value = "target/kubernetes/kubeconfig"
    )]
    kubeconfig: PathBuf,

    /// Where the images are.
    #[arg(
        long,
        global = true,
        env = "IMAGE_REPOSITORY",
        default_value = "localhost"
    )]
    image_repository: String,

    /// Their tag.
    #[arg(long, global = true, env = "IMAGE_TAG", default_value = "dev")]
    image_tag: String,

    /// Where the demo keeps its files.
    #[arg(long, global = true, default_value = "target/demo")]
    folder: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install everything and say what to try.
    Up,
    /// Remove everything again.
    Down,
    /// Only stop leading into the cluster.
    Stop,
    /// Lead from the host into the cluster, until it is ended.
    Forward,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args {
        action,
        kubeconfig,
        image_repository,
        image_tag,
        folder,
    } = Args::parse();
    let settings = Settings {
        kubeconfig,
        image_repository,
        image_tag,
        folder,
    };
    let result = match action {
        Action::Up => demo::up(&settings),
        Action::Down => demo::down(&settings),
        Action::Stop => demo::stop(&settings),
        Action::Forward => demo::forward(&settings).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            demo::say(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

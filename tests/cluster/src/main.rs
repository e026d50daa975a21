//! A real Kubernetes on one Linux machine, in seconds: for the tests and for the demo.
//!
//! | room | what is in it |
//! |---|---|
//! | `lifecycle` | up, down and commands inside, from the host |
//! | `supervisor` | the cluster from the inside |
//! | `components`, `images` | programs and images, and where they are kept |
//! | `config`, `pki` | what the parts are told |
//! | `preflight`, `cgroups`, `paths`, `forward` | the machine around it |

mod cgroups;
mod command;
mod components;
mod config;
mod forward;
mod images;
mod lifecycle;
mod paths;
mod pki;
mod preflight;
mod progress;
mod supervisor;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use paths::Paths;
use preflight::KubernetesVersion;

/// A real Kubernetes on one Linux machine, in seconds. Nothing of the host but one loopback port is
/// touched.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    action: Action,

    /// Where the cluster keeps everything.
    #[arg(
        long,
        global = true,
        env = "CLUSTER_STATE",
        default_value = "target/kubernetes"
    )]
    state: PathBuf,

    #[arg(long, hide = true, global = true, env = "XDG_CACHE_HOME")]
    xdg_cache_home: Option<PathBuf>,

    #[arg(long, hide = true, global = true, env = "HOME")]
    home: Option<PathBuf>,

    #[arg(long, hide = true, global = true, env = "PATH", default_value = "")]
    search_path: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, after building what is missing.
    Up {
        /// The version of Kubernetes.
        #[arg(long, env = "KUBERNETES_VERSION", default_value = preflight::DEFAULT)]
        kubernetes: KubernetesVersion,
    },
    /// Stop it, and leave nothing behind but files.
    Down,
    /// Say whether it runs.
    Status,
    /// Load image archives.
    Load {
        /// OCI archives.
        archives: Vec<PathBuf>,
    },
    /// Run a command in its network, with its name resolution.
    Exec {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        words: Vec<OsString>,
    },
    /// Be the cluster's first process.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        programs: PathBuf,
        #[arg(long)]
        cni: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("cluster: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let cache = args
        .xdg_cache_home
        .or_else(|| args.home.map(|home| home.join(".cache")));
    let cache = cache.map(|cache| cache.join("globus-auth"));
    let paths = Paths::new(&args.state, cache)?;
    match args.action {
        Action::Up { kubernetes } => lifecycle::up(&paths, &kubernetes, &args.search_path),
        Action::Down => lifecycle::down(&paths),
        Action::Status => lifecycle::status(&paths),
        Action::Load { archives } => lifecycle::load(&paths, &archives),
        Action::Exec { words } => lifecycle::exec(&paths, &words),
        Action::Supervise { programs, cni } => {
            let plan = supervisor::Plan {
                state: paths.state,
                programs,
                cni,
                id: paths.id,
            };
            supervisor::run_cluster(&plan)
        }
    }
}

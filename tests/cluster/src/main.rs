//! A real Kubernetes on one Linux machine, in seconds: for the tests and for the demo.
//!
//! | room | what is in it |
//! |---|---|
//! | `lifecycle`, `inside` | up, down and commands inside, from the host |
//! | `launch`, `lock` | one supervisor for each cluster |
//! | `supervisor`, `parts` | the cluster from the inside |
//! | `mounts`, `network`, `dns`, `forward` | the namespaces that it lives in |
//! | `components`, `images`, `oci` | programs and images, and where they are kept |
//! | `arguments`, `config`, `files`, `pki` | what the parts are told |
//! | `preflight`, `cgroups`, `paths`, `version` | the machine, and what is wanted of it |

mod arguments;
mod cgroups;
mod command;
mod components;
mod config;
mod dns;
mod files;
mod forward;
mod images;
mod inside;
mod launch;
mod lifecycle;
mod lock;
mod mounts;
mod network;
mod oci;
mod parts;
mod paths;
mod pause;
mod pki;
mod preflight;
mod progress;
mod supervisor;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use lifecycle::Owner;
use paths::Paths;

/// A real Kubernetes on one Linux machine, in seconds. Nothing of the host but one loopback port is
/// touched.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Command {
    #[command(subcommand)]
    action: Action,

    /// Where the cluster keeps everything. Clusters with different folders know nothing of each other.
    #[arg(
        long,
        global = true,
        env = "CLUSTER_STATE",
        default_value = "target/kubernetes"
    )]
    state: PathBuf,

    #[command(flatten)]
    environment: Environment,
}

/// What is taken from the environment only.
#[derive(Args, Debug)]
struct Environment {
    #[arg(long, hide = true, global = true, env = "XDG_CACHE_HOME")]
    xdg_cache_home: Option<PathBuf>,

    #[arg(long, hide = true, global = true, env = "HOME")]
    home: Option<PathBuf>,

    #[arg(long, hide = true, global = true, env = "PATH", default_value = "")]
    search_path: String,

    #[arg(long, hide = true, global = true, env = "SUDO_UID")]
    sudo_user: Option<u32>,

    #[arg(long, hide = true, global = true, env = "SUDO_GID")]
    sudo_group: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build what is missing. Needs no root.
    Build(Wanted),
    /// Start it, after building what is missing.
    Up(Wanted),
    /// Stop it, and leave nothing behind but files.
    Down,
    /// Say whether it runs, or why not.
    Status,
    /// Load image archives that are not loaded yet.
    Load {
        /// OCI archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run a command in its network, with its name resolution and its kubeconfig.
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

#[derive(Args, Debug)]
struct Wanted {
    /// The version of Kubernetes.
    #[arg(long, env = "KUBERNETES_VERSION", default_value = version::DEFAULT)]
    kubernetes: String,
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::complain(&format!("cluster: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let Environment {
        xdg_cache_home,
        home,
        search_path,
        sudo_user,
        sudo_group,
    } = command.environment;
    let cache = xdg_cache_home.or_else(|| home.map(|home| home.join(".cache")));
    let cache = cache.map(|cache| cache.join("globus-auth"));
    let paths = Paths::new(&command.state, cache)?;
    match command.action {
        Action::Build(wanted) => {
            components::ensure(&paths.cache, &wanted.kubernetes.parse()?).map(drop)
        }
        Action::Up(wanted) => {
            let version = wanted.kubernetes.parse()?;
            let owner = sudo_user.map(|user| Owner {
                user,
                group: sudo_group,
            });
            preflight::check_person()?;
            lifecycle::up(&paths, &version, &search_path, owner)
        }
        Action::Down => {
            preflight::check_person()?;
            lifecycle::down(&paths)
        }
        Action::Status => lifecycle::status(&paths),
        Action::Load { archives } => {
            preflight::check_person()?;
            inside::load(&paths, &archives)
        }
        Action::Exec { words } => {
            preflight::check_person()?;
            inside::exec(&paths, &words, &search_path)
        }
        Action::Supervise { programs, cni } => supervisor::run_cluster(&supervisor::Plan {
            state: paths.state,
            programs,
            cni,
            id: paths.id,
        }),
    }
}

//! The cluster from the outside: up, down, and commands inside it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroups;
use crate::command::{command, run, tail};
use crate::components;
use crate::config;
use crate::images::{self, Loaded};
use crate::paths::Paths;
use crate::preflight::{self, KubernetesVersion};
use crate::progress::{say, step};

/// Starts the cluster, or does nothing if it runs.
///
/// # Errors
/// What is missing, or did not come up.
pub(crate) fn up(
    paths: &Paths,
    version: &KubernetesVersion,
    search_path: &str,
) -> anyhow::Result<()> {
    let machine = preflight::check(&paths.state, search_path)?;
    if is_running(paths)? {
        let running = fs::read_to_string(paths.state.join("version")).unwrap_or_default();
        if running != version.to_string() {
            bail!(
                "a cluster of Kubernetes {running} runs already: stop it first with `make cluster-down`"
            );
        }
        say(&format!(
            "the cluster runs already: export KUBECONFIG={}",
            paths.kubeconfig().display()
        ));
        return Ok(());
    }
    say(&format!("starting Kubernetes {version}"));
    let programs = components::ensure(&paths.cache, version)?;
    clean(paths)?;
    for folder in [paths.logs(), paths.bin(), paths.containerd()] {
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    fs::write(paths.state.join("version"), version.to_string())
        .context("failed to note the version")?;
    cgroups::create(&paths.id)?;
    start_supervisor(paths, &programs, &machine.cni)?;
    let kubectl = Kubectl {
        program: programs.join("kubectl"),
        kubeconfig: paths.kubeconfig(),
    };
    let result = wait_until_ready(paths, &kubectl);
    if result.is_err() {
        // Half a cluster helps nobody.
        down(paths)?;
    }
    result?;
    for program in ["kubectl", "helm"] {
        let link = paths.bin().join(program);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).context("failed to replace a link")?;
        }
        std::os::unix::fs::symlink(programs.join(program), link)
            .context("failed to link a program")?;
    }
    say(&format!(
        "ready: export KUBECONFIG={} PATH={}:$PATH",
        paths.kubeconfig().display(),
        paths.bin().display()
    ));
    Ok(())
}

fn wait_until_ready(paths: &Paths, kubectl: &Kubectl) -> anyhow::Result<()> {
    step("start the parts", || {
        wait(paths, || paths.state.join("started").exists())
    })?;
    step("API server ready", || {
        wait(paths, || kubectl.succeeds(&["get", "--raw", "/readyz"]))
    })?;
    step("cluster DNS", || {
        wait(paths, || {
            kubectl.succeeds(&["get", "namespace", "kube-system"])
        })?;
        kubectl.apply(&config::dns_service().to_string())
    })?;
    step("node ready, namespaces usable", || {
        wait(paths, || {
            kubectl.succeeds(&[
                "wait",
                "node",
                "--all",
                "--for=condition=Ready",
                "--timeout=1s",
            ])
        })?;
        wait(paths, || {
            kubectl.succeeds(&["-n", "default", "get", "serviceaccount", "default"])
        })
    })
}

/// Stops the cluster and removes what is visible of it outside its namespaces. Files stay: logs to be
/// read, and images.
///
/// # Errors
/// Something of it could not be ended.
pub(crate) fn down(paths: &Paths) -> anyhow::Result<()> {
    if is_running(paths)? {
        let id = fs::read_to_string(paths.process_id()).context("failed to read the process id")?;
        let id = id
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .context("the process id is none")?;
        // The kernel ends everything below it.
        if let Err(error) = kill_process(id, Signal::KILL) {
            bail!("failed to end the cluster's first process {id:?}: {error}");
        }
        wait(paths, || !is_running(paths).unwrap_or(true)).or_else(|_ended| {
            if is_running(paths)? {
                bail!("processes of the cluster do not end")
            }
            Ok(())
        })?;
    }
    clean(paths)?;
    say("the cluster is down");
    Ok(())
}

/// Removes what an earlier cluster has left, also one that ended half-way.
fn clean(paths: &Paths) -> anyhow::Result<()> {
    // Processes that the kernel has just ended leave their cgroups a moment later.
    let mut last = Ok(());
    for _attempt in 0..100 {
        last = cgroups::remove(&paths.id);
        if last.is_ok() {
            break;
        }
        pause();
    }
    last?;
    for leftover in [
        "kubelet",
        "config",
        "started",
        "pid",
        "kubeconfig",
        "supervisor.log",
    ] {
        let path = paths.state.join(leftover);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Says whether the cluster runs.
///
/// # Errors
/// The lock cannot be asked.
pub(crate) fn status(paths: &Paths) -> anyhow::Result<()> {
    if !is_running(paths)? {
        bail!("the cluster is down: start it with `make cluster`");
    }
    let version = fs::read_to_string(paths.state.join("version")).unwrap_or_default();
    say(&format!(
        "Kubernetes {version} runs: export KUBECONFIG={}",
        paths.kubeconfig().display()
    ));
    Ok(())
}

/// Loads image archives that are not loaded yet.
///
/// # Errors
/// The cluster is down, or an archive cannot be loaded.
pub(crate) fn load(paths: &Paths, archives: &[PathBuf]) -> anyhow::Result<()> {
    status_quietly(paths)?;
    let record = paths.containerd().join("loaded.json");
    let mut loaded: Loaded = fs::read(&record)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    for archive in archives {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("there is no image archive {}", archive.display()))?;
        let name = archive.to_string_lossy().into_owned();
        let version = images::version(&archive)?;
        if loaded.get(&name) == Some(&version) {
            continue;
        }
        let shown = archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        step(&format!("load {shown}"), || {
            let import = [
                "ctr",
                "--address",
                config::CONTAINERD_SOCKET,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                &name,
            ];
            run(&mut inside(paths, &import.map(std::ffi::OsString::from))?)
        })?;
        loaded.insert(name, version);
        fs::write(&record, serde_json::to_vec(&loaded)?)
            .context("failed to note what is loaded")?;
    }
    Ok(())
}

/// Becomes `words`, run inside the cluster's network with its name resolution.
///
/// # Errors
/// The cluster is down, or there is no such program.
pub(crate) fn exec(paths: &Paths, words: &[std::ffi::OsString]) -> anyhow::Result<()> {
    status_quietly(paths)?;
    let error = inside(paths, words)?.exec();
    Err(error).context("failed to run nsenter")
}

fn status_quietly(paths: &Paths) -> anyhow::Result<()> {
    if is_running(paths)? {
        Ok(())
    } else {
        bail!("the cluster is down: start it with `make cluster`")
    }
}

/// A command in the network and the mounts of the cluster, but among the processes of the host, so that it
/// can be interrupted.
fn inside(paths: &Paths, words: &[std::ffi::OsString]) -> anyhow::Result<Command> {
    let outer = fs::read_to_string(paths.process_id()).context("failed to read the process id")?;
    let children = format!("/proc/{0}/task/{0}/children", outer.trim());
    let children =
        fs::read_to_string(children).context("failed to find the cluster's first process")?;
    let first = children
        .split_whitespace()
        .next()
        .context("the cluster has no first process")?;
    let mut nsenter = command(&[
        "nsenter", "--target", first, "--net", "--mount", "--wd=.", "--",
    ]);
    nsenter.args(words);
    Ok(nsenter)
}

/// Whether anything of the cluster is alive: all of it holds the lock.
fn is_running(paths: &Paths) -> anyhow::Result<bool> {
    let lock = File::create(paths.lock()).context("failed to open the lock")?;
    Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Starts the supervisor in namespaces of its own. It inherits the lock, and as its standard input a
/// listener that stays in the host's network.
fn start_supervisor(paths: &Paths, programs: &Path, cni: &Path) -> anyhow::Result<()> {
    let lock = File::create(paths.lock()).context("failed to open the lock")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .context("another `make cluster` is starting this cluster")?;
    rustix::io::fcntl_setfd(&lock, FdFlags::empty()).context("failed to hand the lock over")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to listen on loopback")?;
    let log = File::create(paths.state.join("supervisor.log")).context("failed to open a log")?;
    let ourselves = std::env::current_exe().context("failed to find this program")?;
    let mut unshare = command(&[
        "setsid",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
    ]);
    let supervisor = unshare
        .arg(ourselves)
        .arg("supervise")
        .arg("--programs")
        .arg(programs)
        .arg("--cni")
        .arg(cni)
        .arg("--state")
        .arg(&paths.state)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone().context("failed to open a log")?)
        .stderr(log)
        .spawn()
        .context("failed to start the supervisor")?;
    // setsid and unshare become each other: the number stays.
    fs::write(paths.process_id(), supervisor.id().to_string())
        .context("failed to note the process id")
}

/// Waits for `is_there`, as long as the cluster is alive.
///
/// # Errors
/// The cluster ended, with what it said last; or a minute has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "a condition of another program is polled, in real time"
)]
fn wait(paths: &Paths, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    while !is_there() {
        let log = || fs::read_to_string(paths.state.join("supervisor.log")).unwrap_or_default();
        if !is_running(paths)? {
            bail!("the cluster ended: {}", tail(&log(), 20));
        }
        if started.elapsed() > Duration::from_mins(2) {
            bail!(
                "it took more than two minutes; look into {}: {}",
                paths.logs().display(),
                tail(&log(), 20)
            );
        }
        pause();
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition"
)]
fn pause() {
    thread::sleep(Duration::from_millis(100));
}

/// kubectl, as the host uses it.
struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        command
    }

    fn succeeds(&self, arguments: &[&str]) -> bool {
        run(&mut self.command(arguments)).is_ok()
    }

    fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut kubectl = self
            .command(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("failed to run kubectl")?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            stdin
                .write_all(manifest.as_bytes())
                .context("failed to write to kubectl")?;
        }
        if !kubectl
            .wait()
            .context("failed to wait for kubectl")?
            .success()
        {
            bail!("kubectl apply failed");
        }
        Ok(())
    }
}

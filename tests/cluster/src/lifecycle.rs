//! The cluster from the outside: up, down, and whether it runs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Signal, kill_process};

use crate::cgroups;
use crate::command::tail;
use crate::components;
use crate::launch;
use crate::lock;
use crate::paths::Paths;
use crate::pause::{Deadline, pause};
use crate::preflight;
use crate::progress::say;
use crate::version::KubernetesVersion;

/// Who is at the keyboard, if it is not root: the kubeconfig is theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: Option<u32>,
}

/// Starts the cluster, or waits until one that was started can be used.
///
/// # Errors
/// What is missing, or did not come up.
pub(crate) fn up(
    paths: &Paths,
    version: &KubernetesVersion,
    search_path: &str,
    owner: Option<Owner>,
) -> anyhow::Result<()> {
    let _turn = lock::take_turn(paths)?;
    if lock::is_alive(paths)? {
        must_be(paths, version)?;
    } else {
        start(paths, version, search_path)?;
    }
    if let Err(error) = follow(paths) {
        // Half a cluster helps nobody.
        stop(paths)?;
        return Err(error);
    }
    if let Some(owner) = owner {
        chown(paths.kubeconfig(), Some(owner.user), owner.group)
            .context("failed to hand the kubeconfig over")?;
    }
    say(&format!(
        "Kubernetes {version} runs: export KUBECONFIG={} PATH={}:$PATH",
        paths.kubeconfig().display(),
        paths.bin().display()
    ));
    Ok(())
}

fn must_be(paths: &Paths, version: &KubernetesVersion) -> anyhow::Result<()> {
    let running = running_version(paths);
    if running != version.to_string() {
        bail!(
            "a cluster of Kubernetes {running} runs already: stop it first with `make cluster-down`"
        );
    }
    Ok(())
}

fn start(paths: &Paths, version: &KubernetesVersion, search_path: &str) -> anyhow::Result<()> {
    let machine = preflight::check(&paths.state, search_path)?;
    if let Some(reason) = why_it_ended(paths) {
        say(&format!("the last cluster ended: {reason}"));
    }
    let programs = components::ensure(&paths.cache, version)?;
    say(&format!("starting Kubernetes {version}"));
    clean(paths)?;
    for folder in [paths.logs(), paths.bin(), paths.containerd()] {
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    for program in ["kubectl", "helm"] {
        link(&programs.join(program), &paths.bin().join(program))?;
    }
    fs::write(paths.version(), version.to_string()).context("failed to note the version")?;
    cgroups::create(&paths.id)?;
    launch::supervisor(paths, &programs, &machine.cni)
}

fn link(program: &Path, link: &Path) -> anyhow::Result<()> {
    remove(link)?;
    symlink(program, link).with_context(|| format!("failed to make the link {}", link.display()))
}

/// Passes on what the supervisor says, until the cluster can be used.
fn follow(paths: &Paths) -> anyhow::Result<()> {
    if paths.ready().exists() {
        return Ok(());
    }
    let deadline = Deadline::after(PATIENCE);
    let mut told = 0;
    loop {
        // Asked before the log is read: what was said before is then in it.
        let (is_ready, is_alive) = (paths.ready().exists(), lock::is_alive(paths)?);
        let log = fs::read_to_string(paths.supervisor_log()).unwrap_or_default();
        for line in log.lines().skip(told).filter(|line| line.starts_with(' ')) {
            say(line);
        }
        told = log.lines().count();
        if !is_alive {
            let reason = why_it_ended(paths).unwrap_or_default();
            bail!("the cluster ended: {reason}");
        }
        if is_ready {
            return Ok(());
        }
        if deadline.is_over() {
            bail!(
                "the cluster did not become ready: look into {}",
                paths.logs().display()
            );
        }
        pause();
    }
}

/// Stops the cluster and removes what is visible of it outside its namespaces. Files stay: logs to be
/// read, and images.
///
/// # Errors
/// Something of it could not be ended.
pub(crate) fn down(paths: &Paths) -> anyhow::Result<()> {
    let _turn = lock::take_turn(paths)?;
    stop(paths)?;
    say("the cluster is down");
    Ok(())
}

fn stop(paths: &Paths) -> anyhow::Result<()> {
    if lock::is_alive(paths)? {
        // If it cannot be asked, it is just starting, or ending by itself.
        if let Ok(first) = launch::first_process(paths) {
            kill_process(first, Signal::TERM).unwrap_or_default();
        }
        if !ends_within(paths, GRACE)? {
            let outer = launch::outer_process(paths)?;
            kill_process(outer, Signal::KILL)
                .with_context(|| format!("failed to end the process {outer}"))?;
            if !ends_within(paths, PATIENCE)? {
                bail!("processes of the cluster do not end: look for them below {outer}");
            }
        }
    }
    clean(paths)
}

fn ends_within(paths: &Paths, patience: Duration) -> anyhow::Result<bool> {
    let deadline = Deadline::after(patience);
    while lock::is_alive(paths)? {
        if deadline.is_over() {
            return Ok(false);
        }
        pause();
    }
    Ok(true)
}

/// Removes what an earlier cluster has left, also one that ended half-way.
fn clean(paths: &Paths) -> anyhow::Result<()> {
    let deadline = Deadline::after(GRACE);
    // Processes that the kernel has just ended leave their cgroups a moment later.
    while let Err(error) = cgroups::remove(&paths.id) {
        if deadline.is_over() {
            return Err(error);
        }
        pause();
    }
    let kubelet = paths.state.join("kubelet");
    let config = paths.state.join("config");
    for leftover in [
        &kubelet,
        &config,
        &paths.ready(),
        &paths.ended(),
        &paths.process_id(),
        &paths.kubeconfig(),
        &paths.version(),
    ] {
        remove(leftover)?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Says whether the cluster runs.
///
/// # Errors
/// It does not; the message has the reason if it ended by itself.
pub(crate) fn status(paths: &Paths) -> anyhow::Result<()> {
    if !lock::is_alive(paths)? {
        if let Some(reason) = why_it_ended(paths) {
            bail!("the cluster ended: {reason}\nstart it again with `make cluster`");
        }
        bail!("the cluster is down: start it with `make cluster`");
    }
    let version = running_version(paths);
    if !paths.ready().exists() {
        bail!("Kubernetes {version} is starting: wait for it with `make cluster`");
    }
    say(&format!(
        "Kubernetes {version} runs: export KUBECONFIG={}",
        paths.kubeconfig().display()
    ));
    Ok(())
}

fn running_version(paths: &Paths) -> String {
    fs::read_to_string(paths.version()).unwrap_or_default()
}

/// Why a cluster that nobody took down does not run.
fn why_it_ended(paths: &Paths) -> Option<String> {
    // Taking it down removes this.
    if !paths.process_id().exists() {
        return None;
    }
    let left = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let said = left(&paths.ended());
    if !said.is_empty() {
        return Some(said);
    }
    if paths.ready().exists() {
        return Some("it was killed".to_owned());
    }
    // What it could not write down, such as complaints of unshare, is here.
    let log = left(&paths.supervisor_log());
    let complaints = log.lines().filter(|line| !line.starts_with(' '));
    let complaints: Vec<&str> = complaints.collect();
    Some(tail(&complaints.join("\n"), LAST_LINES))
}

/// For the machine, not for the cluster: it has its own patience, and says what it waits for.
const PATIENCE: Duration = Duration::from_mins(5);
/// containerd has three seconds of it.
const GRACE: Duration = Duration::from_secs(5);
const LAST_LINES: usize = 15;

//! Starting the supervisor from the host, and finding it again.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use rustix::process::Pid;

use crate::command::command;
use crate::lock;
use crate::paths::Paths;

/// Starts the supervisor in namespaces of its own. It inherits the lock, and as its standard input a
/// listener that stays in the host's network.
///
/// # Errors
/// The cluster is alive, or no process can be started.
pub(crate) fn supervisor(paths: &Paths, programs: &Path, cni: &Path) -> anyhow::Result<()> {
    let _inherited = lock::for_cluster(paths)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to listen on loopback")?;
    let log = File::create(paths.supervisor_log()).context("failed to open a log")?;
    let ourselves = std::env::current_exe().context("failed to find this program")?;
    // A session of its own: what ends the terminal does not end the cluster.
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

/// The process outside, which ends when the first process inside does, and the other way round.
///
/// # Errors
/// There is none that is noted.
pub(crate) fn outer_process(paths: &Paths) -> anyhow::Result<Pid> {
    let noted = fs::read_to_string(paths.process_id()).context("failed to read the process id")?;
    let id = noted.trim().parse().ok().and_then(Pid::from_raw);
    let id = id.with_context(|| format!("{noted:?} is no process id"))?;
    let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    // Numbers are used again.
    if !words
        .split(|byte| *byte == 0)
        .any(|word| word == b"supervise")
    {
        bail!("process {id} is none of the cluster");
    }
    Ok(id)
}

/// The first process inside, by its number outside.
///
/// # Errors
/// It is not there, or not there yet.
pub(crate) fn first_process(paths: &Paths) -> anyhow::Result<Pid> {
    let outer = outer_process(paths)?;
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))
        .context("failed to look for the cluster's first process")?;
    children
        .split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .and_then(Pid::from_raw)
        .context("the cluster has no first process")
}

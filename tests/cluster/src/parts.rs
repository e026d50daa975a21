//! The processes of the cluster, as their parent sees them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait, waitpid};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::command::tail;
use crate::mounts::{HOME, PROGRAMS, STATE, TEMPORARY};
use crate::paths::LOGS;
use crate::pause::{Deadline, pause};

/// The parts that run. Each writes a log of its own; none is started again when it ends.
#[derive(Debug)]
pub(crate) struct Parts {
    programs: PathBuf,
    running: BTreeMap<i32, String>,
    signals: Signals,
}

impl Parts {
    /// No part yet. Our own programs are in the folder `bin` of [`PROGRAMS`].
    ///
    /// # Errors
    /// Signals cannot be received.
    pub(crate) fn new(bin: &Path) -> anyhow::Result<Self> {
        let signals =
            Signals::new([SIGCHLD, SIGINT, SIGTERM]).context("failed to listen for signals")?;
        Ok(Self {
            programs: Path::new(PROGRAMS).join(bin),
            running: BTreeMap::new(),
            signals,
        })
    }

    /// The program `name`: ours, or one that the machine has.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let ours = self.programs.join(name);
        if ours.exists() {
            ours
        } else {
            PathBuf::from(name)
        }
    }

    /// Starts the part `name`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, name: &str, arguments: &[String]) -> anyhow::Result<()> {
        let log = File::create(log(name)).with_context(|| format!("failed to log {name}"))?;
        let child = Command::new(self.program(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to log")?)
            .stderr(log)
            .current_dir("/")
            .env("HOME", HOME)
            .env("TMPDIR", TEMPORARY)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let id = i32::try_from(child.id()).context("a process has no number")?;
        self.running.insert(id, name.to_owned());
        Ok(())
    }

    /// Waits for `is_there`, as long as every part runs.
    ///
    /// # Errors
    /// A part ended, the cluster is to stop, or it did not come in time.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        mut is_there: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Deadline::after(PATIENCE);
        while !is_there(self) {
            self.bury()?;
            if self.is_asked_to_stop() {
                bail!("it was asked to stop before it was ready");
            }
            if deadline.is_over() {
                let seconds = PATIENCE.as_secs();
                bail!("{what} did not come within {seconds} seconds: look into the logs");
            }
            pause();
        }
        Ok(())
    }

    /// Waits until the cluster is asked to stop.
    ///
    /// # Errors
    /// A part ended.
    pub(crate) fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            self.bury()?;
            if self.signals.wait().any(|signal| signal != SIGCHLD) {
                return Ok(());
            }
        }
    }

    /// Lets `name` end by itself, and ends it if it does not. The kernel ends all others with us.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.running.iter().find(|(_, running)| *running == name);
        let Some(id) = running.map(|(id, _)| *id) else {
            bail!("{name} does not run")
        };
        let process = Pid::from_raw(id).context("a process has no number")?;
        kill_process(process, Signal::TERM).with_context(|| format!("failed to stop {name}"))?;
        let deadline = Deadline::after(GRACE);
        while waitpid(Some(process), WaitOptions::NOHANG)
            .with_context(|| format!("failed to wait for {name}"))?
            .is_none()
        {
            if deadline.is_over() {
                kill_process(process, Signal::KILL)
                    .with_context(|| format!("failed to end {name}"))?;
            }
            pause();
        }
        self.running.remove(&id);
        Ok(())
    }

    fn is_asked_to_stop(&mut self) -> bool {
        self.signals.pending().any(|signal| signal != SIGCHLD)
    }

    /// Buries the dead, orphans of others among them, as the first process of a namespace must.
    fn bury(&mut self) -> anyhow::Result<()> {
        // No child at all is no reason to complain: there are none before the first part.
        while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
            if let Some(name) = self.running.remove(&process.as_raw_nonzero().get()) {
                let status = ExitStatus::from_raw(status.as_raw());
                bail!("{}", obituary(&name, status));
            }
        }
        Ok(())
    }
}

/// Which part ended, how, and what it said last.
fn obituary(name: &str, status: ExitStatus) -> String {
    let log = fs::read_to_string(log(name)).unwrap_or_default();
    let last_words = tail(&log, LAST_LINES);
    if last_words.is_empty() {
        return format!("{name} ended ({status}) without a word");
    }
    format!("{name} ended ({status}); the end of its log:\n{last_words}")
}

fn log(name: &str) -> PathBuf {
    Path::new(STATE).join(LOGS).join(format!("{name}.log"))
}

/// Longer than anything takes on a slow and busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// containerd writes out what it knows of images; it takes a fraction of it.
const GRACE: Duration = Duration::from_secs(3);
const LAST_LINES: usize = 15;

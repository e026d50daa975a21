//! A program under measurement, as the kernel sees it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A running program and its children. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    started: Instant,
}

/// What a program has used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// In user space and in the kernel.
    pub(super) cpu: Duration,
    /// Resident, in KiB; pages that processes share count for each.
    pub(super) rss_kib: u64,
}

impl Process {
    /// Starts `program`; what it prints goes to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).context("failed to create a log file")?;
        let errors = output.try_clone().context("failed to share a log file")?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("failed to start {}", command.get_program().display()))?;
        Ok(Self { child, started })
    }

    /// Waits until `address` answers a request, and says how long that took from the start.
    pub(super) async fn answers(&mut self, address: SocketAddr) -> anyhow::Result<Duration> {
        loop {
            if answers(address).await {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("it ended with {status} before it served");
            }
            anyhow::ensure!(
                self.started.elapsed() < START_DEADLINE,
                "it did not serve within {START_DEADLINE:?}"
            );
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// What the program and all its children have used.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = Usage {
            cpu: Duration::ZERO,
            rss_kib: 0,
        };
        for id in family(self.child.id())? {
            // A child that has ended meanwhile has no more to tell.
            if let Ok(one) = usage_of(id) {
                usage.cpu += one.cpu;
                usage.rss_kib += one.rss_kib;
            }
        }
        Ok(usage)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first, so that a parent ends its children.
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            kill_process(id, Signal::TERM).unwrap_or_default();
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port of loopback that was free just now, for programs that cannot say which one they took.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// An address of loopback.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let request = "GET /64 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let mut status = [0; 9];
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_exact(&mut status).await.is_ok()
        && status.starts_with(b"HTTP/1.")
}

pub(super) fn usage_of(id: u32) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may have spaces; what follows is numbers (proc_pid_stat(5)).
    let (_name, rest) = stat.rsplit_once(')').context("a stat without a name")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| -> anyhow::Result<u64> {
        let text = fields.get(field).context("a short stat")?;
        Ok(text.parse()?)
    };
    let ticks = number(UTIME)? + number(STIME)?;
    let per_second = rustix::param::clock_ticks_per_second();
    let page_kib = u64::try_from(rustix::param::page_size())? / 1024;
    Ok(Usage {
        cpu: Duration::from_micros(ticks * 1_000_000 / per_second),
        rss_kib: number(RSS)? * page_kib,
    })
}

/// A process and all that descend from it.
fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(id) = family.get(next).copied() {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else {
            continue;
        };
        for task in tasks {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            family.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    Ok(family)
}

/// Fields of `/proc/PID/stat`, counted from the one after the name.
const UTIME: usize = 11;
const STIME: usize = 12;
const RSS: usize = 21;
const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(5);

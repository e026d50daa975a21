//! The rounds: every peer gets the same load in turn, again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::check;
use super::load::{self, Seen};
use super::peer::{Absent, Kind, Peer, Stage};
use super::process::{self, Process};
use super::report::{Line, Machine, Report, Start};
use super::scenario::{self, Scenario};
use super::streams;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// A minute instead of several.
    pub quick: bool,
    /// Only scenarios whose names have this in them.
    pub only: Option<String>,
    /// Where the report, and the peers' folders, go.
    pub folder: PathBuf,
}

impl Options {
    /// How often each peer has its turn.
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { 6 }
    }

    /// How long a turn takes.
    fn turn(&self) -> Duration {
        Duration::from_millis(if self.quick { 700 } else { 1500 })
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// Measures, prints a table, and writes `report.json`.
///
/// # Errors
/// What kept it from measuring. A peer that is not installed is no error; our own sidecar must run.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    fs::create_dir_all(&options.folder).context("failed to make a folder")?;
    let port = process::free_port()?;
    let mut upstream = start_upstream(port, &options.folder)?;
    upstream.answers(process::loopback(port)).await?;
    let stage = Stage::new(process::loopback(port), &options.folder).await?;
    let mut report = Report::new(Machine::read()?);
    report.session_check = Some(check::session()?);

    for logs in [false, true] {
        let scenarios: Vec<Scenario> = scenario::ALL
            .into_iter()
            .filter(|scenario| scenario.logs == logs && options.wants(&scenario.name()))
            .collect();
        if scenarios.is_empty() && (logs || !options.wants("streams")) {
            continue;
        }
        let mut peers = start(&stage, logs, &mut report).await?;
        for scenario in &scenarios {
            measure(&mut peers, scenario, options, &mut report).await?;
        }
        if !logs && options.wants("streams") {
            let all = streams::measure(&peers).await;
            report.streams.extend(all);
        }
        report_memory_after(&peers, &mut report)?;
    }
    report.write(&options.folder.join("report.json"))?;
    Ok(report)
}

fn start_upstream(port: u16, folder: &Path) -> anyhow::Result<Process> {
    let program = std::env::current_exe().context("a process has a program")?;
    let mut command = Command::new(program);
    command
        .arg("upstream")
        .arg(process::loopback(port).to_string());
    Process::start(&mut command, &folder.join("upstream.log"))
}

async fn start(stage: &Stage, logs: bool, report: &mut Report) -> anyhow::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for kind in Kind::ALL {
        match kind.start(stage, logs).await {
            Ok(peer) => {
                if !logs {
                    report.starts.push(Start {
                        peer: peer.name,
                        milliseconds: peer.start.as_secs_f64() * 1000.0,
                        idle_rss_kib: peer.process.usage()?.rss_kib,
                        after_rss_kib: 0,
                    });
                }
                peers.push(peer);
            }
            Err(Absent { name, reason }) if kind == Kind::GlobusAuth => {
                anyhow::bail!("{name}: {reason}")
            }
            Err(Absent { name, reason }) => {
                tracing::warn!("{name} is skipped: {reason}");
                report.skipped.insert(name, reason);
            }
        }
    }
    Ok(peers)
}

/// What one peer used and gave in all its turns.
struct Total {
    seen: Seen,
    cpu: Duration,
    rss_kib: u64,
}

async fn measure(
    peers: &mut [Peer],
    scenario: &Scenario,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = scenario.name();
    tracing::info!("{name}");
    let mut totals: BTreeMap<usize, Total> = BTreeMap::new();
    for round in 0..options.rounds() {
        for turn in 0..peers.len() {
            // Another begins in each round.
            let index = (round + turn) % peers.len();
            let Some(peer) = peers.get(index) else {
                continue;
            };
            let Some(request) = peer.request(scenario) else {
                continue;
            };
            let turn = match take_turn(peer, &request, scenario, options).await {
                Ok(turn) => turn,
                Err(error) if peer.name == Kind::GlobusAuth.name() => return Err(error),
                Err(error) => {
                    tracing::warn!("{} failed in {name}: {error:#}", peer.name);
                    continue;
                }
            };
            let total = totals.entry(index).or_insert(Total {
                seen: Seen::nothing()?,
                cpu: Duration::ZERO,
                rss_kib: 0,
            });
            total.seen.add(&turn.seen)?;
            total.cpu += turn.cpu;
            total.rss_kib = total.rss_kib.max(turn.rss_kib);
        }
    }
    for (index, total) in totals {
        if let Some(peer) = peers.get(index) {
            report.proxy.push(Line::new(
                peer.name,
                &name,
                scenario.bytes,
                &total.seen,
                total.cpu,
                total.rss_kib,
            ));
        }
    }
    Ok(())
}

async fn take_turn(
    peer: &Peer,
    request: &str,
    scenario: &Scenario,
    options: &Options,
) -> anyhow::Result<Total> {
    // Connections to the workload, caches and branch predictors warm up first.
    let warm = options.turn() / 10;
    load::send(peer.address, request, scenario.connections, warm).await?;
    let before = peer.process.usage()?;
    let seen = load::send(peer.address, request, scenario.connections, options.turn()).await?;
    let after = peer.process.usage()?;
    Ok(Total {
        seen,
        cpu: after.cpu.saturating_sub(before.cpu),
        rss_kib: after.rss_kib,
    })
}

fn report_memory_after(peers: &[Peer], report: &mut Report) -> anyhow::Result<()> {
    for peer in peers.iter().filter(|peer| !peer.logs) {
        let rss_kib = peer.process.usage()?.rss_kib;
        for start in report
            .starts
            .iter_mut()
            .filter(|start| start.peer == peer.name)
        {
            start.after_rss_kib = rss_kib;
        }
    }
    Ok(())
}

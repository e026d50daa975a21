//! The figures, for programs and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::load::Seen;
use super::targets::{self, Target};

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Requests through each peer.
    pub proxy: Vec<Line>,
    /// From exec to serving, and memory before and after.
    pub starts: Vec<Start>,
    /// Many long-lived connections.
    pub streams: Vec<Stream>,
    /// One session check of ours.
    pub session_check: Option<SessionCheck>,
    /// Who was not asked, and why.
    pub skipped: BTreeMap<&'static str, String>,
    /// What was to be reached.
    pub targets: Vec<Target>,
}

/// The machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
}

/// One peer under one kind of load.
#[derive(Debug, Serialize)]
pub struct Line {
    pub(super) peer: &'static str,
    pub(super) scenario: String,
    pub(super) requests_per_second: f64,
    pub(super) cpu_us_per_request: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) rss_kib: u64,
    pub(super) mib_per_second: f64,
}

/// How one peer started, and what it held.
#[derive(Debug, Serialize)]
pub struct Start {
    pub(super) peer: &'static str,
    /// From exec to the first answered request.
    pub(super) milliseconds: f64,
    pub(super) idle_rss_kib: u64,
    pub(super) after_rss_kib: u64,
}

/// Many connections that stay open.
#[derive(Debug, Serialize)]
pub struct Stream {
    pub(super) peer: &'static str,
    pub(super) scenario: &'static str,
    pub(super) connections: usize,
    pub(super) rss_kib: u64,
    pub(super) events_per_second: f64,
    pub(super) cpu_us_per_event: f64,
}

/// What a session check costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SessionCheck {
    pub(super) ns: f64,
    pub(super) bytes_allocated: usize,
    pub(super) allocations: usize,
}

impl SessionCheck {
    /// By one check.
    pub const fn bytes_allocated(&self) -> usize {
        self.bytes_allocated
    }
}

impl Machine {
    /// This one.
    pub(super) fn read() -> anyhow::Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("no /proc/cpuinfo")?;
        let cpu = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("no /proc/sys")?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: cpu.to_owned(),
            kernel: kernel.trim().to_owned(),
        })
    }
}

impl Line {
    #[expect(
        clippy::cast_precision_loss,
        reason = "figures for people: nobody counts to 2^52"
    )]
    pub(super) fn new(
        peer: &'static str,
        scenario: &str,
        bytes: usize,
        seen: &Seen,
        cpu: Duration,
        rss_kib: u64,
    ) -> Self {
        let requests = seen.requests as f64;
        let per_second = requests / seen.elapsed.as_secs_f64();
        Self {
            peer,
            scenario: scenario.to_owned(),
            requests_per_second: per_second,
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / requests,
            p50_us: seen.latency_us.value_at_quantile(0.5),
            p99_us: seen.latency_us.value_at_quantile(0.99),
            p999_us: seen.latency_us.value_at_quantile(0.999),
            rss_kib,
            mib_per_second: per_second * bytes as f64 / (1024.0 * 1024.0),
        }
    }
}

impl Report {
    pub(super) const fn new(machine: Machine) -> Self {
        Self {
            machine,
            proxy: Vec::new(),
            starts: Vec::new(),
            streams: Vec::new(),
            session_check: None,
            skipped: BTreeMap::new(),
            targets: Vec::new(),
        }
    }

    /// Judges the figures and writes them down.
    pub(super) fn write(&mut self, path: &Path) -> anyhow::Result<()> {
        self.targets = targets::judge(self);
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// The line of a peer in a scenario.
    pub(super) fn line(&self, peer: &str, scenario: &str) -> Option<&Line> {
        self.proxy
            .iter()
            .find(|line| line.peer == peer && line.scenario == scenario)
    }

    /// As tables, in Markdown, which also reads well in a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        self.write_table(&mut text).unwrap_or_default();
        text
    }

    /// `text` with the figures between its two marks replaced by these.
    ///
    /// # Errors
    /// The marks are missing.
    pub fn replace_in(&self, text: &str) -> anyhow::Result<String> {
        let (before, rest) = text.split_once(BEGIN).context("there is no mark before")?;
        let (_old, after) = rest.split_once(END).context("there is no mark after")?;
        Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.table()))
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let Machine { cores, cpu, kernel } = &self.machine;
        writeln!(text, "{cores} cores, {cpu}, Linux {kernel}\n")?;
        writeln!(
            text,
            "| scenario | peer | requests/s | CPU µs/request | p50 µs | p99 µs | p99.9 µs | MiB/s | RSS MiB |"
        )?;
        writeln!(text, "|---|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for line in &self.proxy {
            writeln!(
                text,
                "| {} | {} | {:.0} | {:.1} | {} | {} | {} | {:.0} | {:.1} |",
                line.scenario,
                line.peer,
                line.requests_per_second,
                line.cpu_us_per_request,
                line.p50_us,
                line.p99_us,
                line.p999_us,
                line.mib_per_second,
                mib(line.rss_kib)
            )?;
        }
        self.write_rest(text)
    }

    fn write_rest(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "\n| peer | starts in ms | RSS idle, MiB | RSS after, MiB |"
        )?;
        writeln!(text, "|---|--:|--:|--:|")?;
        for start in &self.starts {
            let (idle, after) = (mib(start.idle_rss_kib), mib(start.after_rss_kib));
            writeln!(
                text,
                "| {} | {:.1} | {idle:.1} | {after:.1} |",
                start.peer, start.milliseconds
            )?;
        }
        if !self.streams.is_empty() {
            writeln!(
                text,
                "\n| long-lived | peer | connections | events/s | CPU µs/event | RSS MiB |"
            )?;
            writeln!(text, "|---|---|--:|--:|--:|--:|")?;
        }
        for stream in &self.streams {
            writeln!(
                text,
                "| {} | {} | {} | {:.0} | {:.1} | {:.1} |",
                stream.scenario,
                stream.peer,
                stream.connections,
                stream.events_per_second,
                stream.cpu_us_per_event,
                mib(stream.rss_kib)
            )?;
        }
        if let Some(check) = self.session_check {
            writeln!(
                text,
                "\nA session check: {:.2} µs, {} bytes in {} allocations.",
                check.ns / 1000.0,
                check.bytes_allocated,
                check.allocations
            )?;
        }
        for (peer, reason) in &self.skipped {
            writeln!(text, "\nSkipped: {peer}: {reason}.")?;
        }
        writeln!(text, "\n| target | measured | |\n|---|--:|---|")?;
        for target in &self.targets {
            writeln!(
                text,
                "| {} | {} | {} |",
                target.what, target.measured, target.verdict
            )?;
        }
        Ok(())
    }
}

const BEGIN: &str = "<!-- figures: written by `make bench` -->";
const END: &str = "<!-- end of figures -->";

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_what_stands_between_the_marks_and_nothing_else() {
        let report = Report::new(Machine::read().unwrap());
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let replaced = report.replace_in(&text).unwrap();
        assert!(replaced.starts_with("before\n"), "{replaced}");
        assert!(replaced.ends_with("\nafter\n"), "{replaced}");
        assert!(!replaced.contains("old"), "{replaced}");
        assert_eq!(report.replace_in(&replaced).unwrap(), replaced);
        assert!(report.replace_in("no marks").is_err());
    }
}

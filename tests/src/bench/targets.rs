//! What is to be reached, and whether it was.

use serde::Serialize;

use super::report::Report;
use super::scenario::{LARGE, LOGGED, MAIN, Scenario};

/// One goal.
#[derive(Debug, Serialize)]
pub struct Target {
    pub(super) what: String,
    pub(super) measured: String,
    /// `met`, `missed`, or `not measured`.
    pub(super) verdict: &'static str,
}

/// Which way is good.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Compares a report with what it should say.
pub(super) fn judge(report: &Report) -> Vec<Target> {
    let mut targets = vec![
        target(
            "requests per CPU-second of oauth2-proxy, with a cookie",
            Bound::AtLeast(15.0),
            "times",
            ratio(report, &MAIN, "oauth2-proxy", |line| {
                1.0 / line.cpu_us_per_request
            }),
        ),
        target(
            "CPU per request of nginx, logs off",
            Bound::AtMost(1.15),
            "times",
            ratio(report, &MAIN, "nginx", |line| line.cpu_us_per_request),
        ),
        target(
            "CPU per request of nginx, logs on",
            Bound::AtMost(1.15),
            "times",
            ratio(report, &LOGGED, "nginx", |line| line.cpu_us_per_request),
        ),
        target(
            "p99 of nginx, 32 connections",
            Bound::AtMost(1.3),
            "times",
            ratio(report, &MAIN, "nginx", |line| as_float(line.p99_us)),
        ),
        target(
            "throughput of nginx, bodies of 100 MiB",
            Bound::AtLeast(0.9),
            "times",
            ratio(report, &LARGE, "nginx", |line| line.mib_per_second),
        ),
    ];
    targets.extend(own(report));
    targets
}

/// Targets that compare us with nobody.
fn own(report: &Report) -> [Target; 5] {
    let check = report.session_check;
    let start = report.starts.iter().find(|start| start.peer == OURS);
    let idle_sockets = report
        .streams
        .iter()
        .find(|stream| stream.peer == OURS && stream.scenario == "idle-websockets");
    [
        target(
            "session check",
            Bound::AtMost(5.0),
            "µs",
            check.map(|check| check.ns / 1000.0),
        ),
        target(
            "allocated for a session check",
            Bound::AtMost(1000.0),
            "bytes",
            check.map(|check| as_float(u64::try_from(check.bytes_allocated).unwrap_or(u64::MAX))),
        ),
        target(
            "resident, idle",
            Bound::AtMost(10.0),
            "MiB",
            start.map(|start| as_float(start.idle_rss_kib) / 1024.0),
        ),
        target(
            "resident, 1,000 idle WebSockets",
            Bound::AtMost(40.0),
            "MiB",
            idle_sockets.map(|stream| as_float(stream.rss_kib) / 1024.0),
        ),
        target(
            "from exec to serving",
            Bound::AtMost(50.0),
            "ms",
            start.map(|start| start.milliseconds),
        ),
    ]
}

fn target(what: &str, bound: Bound, unit: &str, measured: Option<f64>) -> Target {
    let (words, limit) = match bound {
        Bound::AtLeast(limit) => ("at least", limit),
        Bound::AtMost(limit) => ("at most", limit),
    };
    let verdict = match (measured, bound) {
        (None, _) => "not measured",
        (Some(value), Bound::AtLeast(limit)) if value >= limit => "met",
        (Some(value), Bound::AtMost(limit)) if value <= limit => "met",
        (Some(_), _) => "missed",
    };
    Target {
        what: format!("{what}: {words} {limit} {unit}"),
        measured: measured.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}")),
        verdict,
    }
}

/// Our figure as a multiple of a peer's.
fn ratio(
    report: &Report,
    scenario: &Scenario,
    peer: &str,
    figure: impl Fn(&super::report::Line) -> f64,
) -> Option<f64> {
    let name = scenario.name();
    let ours = figure(report.line(OURS, &name)?);
    let theirs = figure(report.line(peer, &name)?);
    (theirs > 0.0).then(|| ours / theirs)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_float(number: u64) -> f64 {
    number as f64
}

const OURS: &str = "globus-auth";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Bound::AtMost(1.15), Some(1.15), "met")]
    #[case(Bound::AtMost(1.15), Some(1.16), "missed")]
    #[case(Bound::AtLeast(15.0), Some(15.0), "met")]
    #[case(Bound::AtLeast(15.0), Some(14.9), "missed")]
    #[case(Bound::AtLeast(15.0), Some(f64::NAN), "missed")]
    #[case(Bound::AtMost(1.0), None, "not measured")]
    fn a_target_is_met_on_the_right_side_of_its_bound(
        #[case] bound: Bound,
        #[case] measured: Option<f64>,
        #[case] verdict: &str,
    ) {
        assert_eq!(target("x", bound, "y", measured).verdict, verdict);
    }
}

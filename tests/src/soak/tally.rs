//! What was counted, and what it must be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Counts what everybody got. Clones are the same tally.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    outcomes: BTreeMap<(&'static str, u16), u64>,
    failures: Vec<String>,
}

impl Tally {
    /// Notes an answer; one whose status is not among `expected` is a failure.
    pub(super) fn note(&self, what: &'static str, status: u16, expected: &[u16]) {
        let mut counted = self.0.lock();
        *counted.outcomes.entry((what, status)).or_default() += 1;
        if !expected.contains(&status) && counted.failures.len() < FAILURES_MAX {
            counted.failures.push(format!("{what} got {status}"));
        }
    }

    pub(super) fn outcomes(&self) -> BTreeMap<(&'static str, u16), u64> {
        self.0.lock().outcomes.clone()
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.0.lock().failures.clone()
    }
}

/// What a soak brought to light.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took.
    pub duration: Duration,
    /// How many changes were made.
    pub rounds: usize,
    /// How many of each kind got which status.
    pub outcomes: BTreeMap<(&'static str, u16), u64>,
    /// Answers that nobody should have got.
    pub failures: Vec<String>,
    /// The sidecar's resident memory after each change, in bytes.
    pub memory: Vec<u64>,
    /// Its open file descriptors before and after.
    pub descriptors: (usize, usize),
    /// Lines of its log.
    pub log_lines: usize,
    /// Secrets that none of them has.
    pub secrets: usize,
    /// Requests that panicked.
    pub panics: u64,
}

impl Report {
    /// What is wrong; nothing if all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.failures.clone();
        if self.panics > 0 {
            problems.push(format!("{} requests panicked", self.panics));
        }
        let (early, late) = self.memory_early_and_late();
        if late > early + early / 5 + GROWTH_MAX {
            problems.push(format!("memory grew from {early} to {late} bytes"));
        }
        problems
    }

    /// The mean of the second and of the last quarter: the first is for warming up.
    fn memory_early_and_late(&self) -> (u64, u64) {
        let quarter = self.memory.len() / 4;
        let mean = |from: usize| {
            let part = &self.memory[from..from + quarter];
            part.iter().sum::<u64>() / u64::try_from(quarter.max(1)).unwrap_or(1)
        };
        match quarter {
            0 => (0, 0),
            _ => (mean(quarter), mean(self.memory.len() - quarter)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = self.memory_early_and_late();
        writeln!(f, "{:?}, {} changes", self.duration, self.rounds)?;
        for ((what, status), count) in &self.outcomes {
            writeln!(f, "{count:>9}  {status}  {what}")?;
        }
        let kibibytes = |bytes: u64| bytes / 1024;
        writeln!(
            f,
            "memory: {} KiB in the second quarter, {} KiB in the last",
            kibibytes(early),
            kibibytes(late)
        )?;
        let (before, after) = self.descriptors;
        writeln!(f, "file descriptors: {before} before, {after} after")?;
        writeln!(
            f,
            "log: {} lines, none with any of {} secrets; {} panics",
            self.log_lines, self.secrets, self.panics
        )?;
        for problem in self.problems() {
            writeln!(f, "FAIL  {problem}")?;
        }
        Ok(())
    }
}

const FAILURES_MAX: usize = 20;
/// What allocators keep.
const GROWTH_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(memory: Vec<u64>) -> Report {
        let tally = Tally::default();
        tally.note("work", 200, &[200]);
        Report {
            duration: Duration::from_mins(1),
            rounds: memory.len(),
            outcomes: tally.outcomes(),
            failures: tally.failures(),
            memory,
            descriptors: (9, 9),
            log_lines: 1,
            secrets: 1,
            panics: 0,
        }
    }

    #[test]
    fn memory_that_grows_and_answers_that_nobody_should_get_are_problems() {
        let flat = report(vec![1 << 20, 10 << 20, 11 << 20, 10 << 20]);
        assert_eq!(flat.problems(), Vec::<String>::new());
        let grows = report(vec![1 << 20, 10 << 20, 20 << 20, 40 << 20]);
        assert_eq!(grows.problems().len(), 1);
        let tally = Tally::default();
        tally.note("work", 502, &[200]);
        assert_eq!(tally.failures(), ["work got 502"]);
    }
}

//! What somebody who waits gets to see.

use std::io::Write;
use std::time::Instant;

/// Writes a line to standard output.
pub(crate) fn say(line: &str) {
    // Whoever closed the pipe does not read it.
    writeln!(std::io::stdout(), "{line}").unwrap_or_default();
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

/// Does `work` and says how long it took.
///
/// # Errors
/// Those of `work`.
#[expect(clippy::disallowed_methods, reason = "a person waits in real time")]
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    let result = work()?;
    say(&format!(
        "  {what:<36} {:>6.1} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(result)
}

//! Running programs, with errors that say what they said.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

/// Runs `command` and returns what it wrote to its standard output.
///
/// # Errors
/// It could not be started, or failed; the message has the end of what it wrote to its standard error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {shown}"))?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("{shown} failed ({status}): {}", tail(&stderr, 12));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// A command from words.
pub(crate) fn command(words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

//! Running programs, with errors that say what they said.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

/// Runs `command` and returns what it wrote to its standard output.
///
/// # Errors
/// It could not be started, or failed; the message has the end of what it wrote to its standard error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    run_with(command, Stdio::null())
}

/// Like [`run`], with a standard input.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn run_with(command: &mut Command, input: Stdio) -> anyhow::Result<String> {
    let output = command
        .stdin(input)
        .output()
        .with_context(|| format!("failed to run {}", show(command)))?;
    judge(command, &output)
}

/// Like [`run`], with a text as the standard input. The program must read it before it writes much.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {}", show(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read has a reason, and says it.
        stdin.write_all(input.as_bytes()).unwrap_or_default();
    }
    let output = child.wait_with_output().context("failed to wait")?;
    judge(command, &output)
}

fn judge(command: &Command, output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            show(command),
            output.status,
            tail(&stderr, LAST_LINES)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

const LAST_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_heard() {
        assert_eq!(run(&mut command(&["echo", "hello"])).unwrap(), "hello\n");
        assert_eq!(
            run_with_input(&mut command(&["cat"]), "hello").unwrap(),
            "hello"
        );
    }

    #[test]
    fn a_failure_tells_the_command_and_its_last_words() {
        let error = run(&mut command(&["sh", "-c", "echo why >&2; exit 3"])).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("sh -c"), "{error}");
        assert!(error.ends_with("(exit status: 3): why"), "{error}");
    }

    #[test]
    fn a_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}

//! The tools that a person would use, run for them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Settings;

/// kubectl and helm, pointed at the demo's cluster.
pub(super) struct Tools {
    kubeconfig: PathBuf,
}

impl Tools {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            kubeconfig: settings.kubeconfig.clone(),
        }
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.ask(arguments).map(drop)
    }

    /// What kubectl prints.
    pub(super) fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.command("kubectl").args(arguments), "")
    }

    pub(super) fn helm(&self, arguments: &[&str]) -> anyhow::Result<()> {
        run(self.command("helm").args(arguments), "").map(drop)
    }

    pub(super) fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        run(
            self.command("kubectl").args(["apply", "--filename", "-"]),
            manifest,
        )
        .map(drop)
    }

    pub(super) fn wait(
        &self,
        namespace: &str,
        object: &str,
        condition: &str,
        seconds: u32,
    ) -> anyhow::Result<()> {
        let (condition, timeout) = (
            format!("--for={condition}"),
            format!("--timeout={seconds}s"),
        );
        self.kubectl(&["--namespace", namespace, "wait", object, &condition, &timeout]).with_context(|| {
            format!("{object} is not what it should be; see: kubectl --namespace {namespace} describe {object}")
        })
    }

    /// The local cluster brings its own; elsewhere they are whatever is on the path.
    fn command(&self, program: &str) -> Command {
        let ours = Path::new("target/kubernetes/bin").join(program);
        let mut command = if ours.exists() {
            Command::new(ours)
        } else {
            Command::new(program)
        };
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

fn run(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("failed to run {program}; install it, or use the local cluster")
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("failed to write to {program}"))?;
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().context("failed to wait")?;
    if !status.success() {
        bail!("{}", String::from_utf8_lossy(&stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Posts JSON over plain HTTP to a loopback port.
pub(super) fn post_json(url: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
    let rest = url.strip_prefix("http://").context("not a plain address")?;
    let (host, path) = rest.split_once('/').context("the address has no path")?;
    let body = body.to_string();
    let mut stream = TcpStream::connect(host).with_context(|| format!("failed to reach {host}"))?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .context("failed to set a time limit")?;
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .with_context(|| format!("failed to ask {host}"))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("failed to hear from {host}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("not an HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.1 201") {
        bail!("{url} answered {}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).context("not JSON")
}

/// Writes a line for the person who waits.
pub fn say(line: &str) {
    // Whoever closed the pipe does not read it.
    writeln!(std::io::stdout(), "{line}").unwrap_or_default();
}

/// Does `work`, and says how long it took.
#[expect(clippy::disallowed_methods, reason = "a person waits in real time")]
pub(super) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    let result = work().with_context(|| format!("failed to {what}"))?;
    say(&format!(
        "  {what:<52} {:>6.1} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(result)
}

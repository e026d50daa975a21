//! The process that keeps the demo's loopback ports.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::asked_to_stop;
use crate::forward::{Forward, Target};

/// The ports.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Ports {
    mlflow: u16,
    notebook: u16,
    emulator: u16,
}

impl Ports {
    pub(super) fn mlflow_url(self) -> String {
        format!("http://127.0.0.1:{}", self.mlflow)
    }

    pub(super) fn notebook_url(self) -> String {
        format!("http://127.0.0.1:{}", self.notebook)
    }

    pub(super) fn emulator_url(self) -> String {
        format!("http://127.0.0.1:{}", self.emulator)
    }
}

/// Starts the process, or finds the one that runs.
pub(super) fn start(settings: &Settings) -> anyhow::Result<Ports> {
    if let Some((_, ports)) = running(settings) {
        return Ok(ports);
    }
    let log = File::create(settings.folder.join("forward.log")).context("failed to open a log")?;
    let ourselves = std::env::current_exe().context("failed to find this program")?;
    let mut child = Command::new(ourselves)
        .arg("forward")
        .arg("--folder")
        .arg(&settings.folder)
        .env("KUBECONFIG", &settings.kubeconfig)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("failed to open a log")?)
        .stderr(log)
        // It goes on when this program, and the terminal, are gone.
        .process_group(0)
        .spawn()
        .context("failed to start the forwarding")?;
    let started = now();
    loop {
        if let Some((_, ports)) = running(settings) {
            return Ok(ports);
        }
        if let Some(status) = child
            .try_wait()
            .context("failed to look at the forwarding")?
        {
            let log = std::fs::read_to_string(settings.folder.join("forward.log"));
            bail!(
                "the forwarding ended ({status}): {}",
                log.unwrap_or_default().trim_end()
            );
        }
        if started.elapsed() > Duration::from_secs(20) {
            bail!(
                "the forwarding did not start; see {}",
                settings.folder.join("forward.log").display()
            );
        }
        pause();
    }
}

/// Ends the process, if it runs.
///
/// # Errors
/// It could not be ended.
pub fn stop(settings: &Settings) -> anyhow::Result<()> {
    if let Some((process, _)) = running(settings) {
        let status = Command::new("kill")
            .arg(process.to_string())
            .status()
            .context("failed to run kill")?;
        if !status.success() {
            bail!("failed to end process {process}");
        }
    }
    Ok(())
}

/// What the process says of itself.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    process: u32,
    ports: Ports,
}

fn record(settings: &Settings) -> PathBuf {
    settings.folder.join("forward.json")
}

/// The process, if there is one and it is ours.
fn running(settings: &Settings) -> Option<(u32, Ports)> {
    let json = std::fs::read(record(settings)).ok()?;
    let Record { process, ports } = serde_json::from_slice(&json).ok()?;
    let words = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    words
        .contains(&b"forward".as_slice())
        .then_some((process, ports))
}

/// Leads from loopback ports into the cluster, until it is ended.
///
/// # Errors
/// There is no cluster, or no port.
pub async fn forward(settings: &Settings) -> anyhow::Result<()> {
    let kubeconfig =
        Kubeconfig::read_from(&settings.kubeconfig).context("failed to read the kubeconfig")?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .context("failed to use the kubeconfig")?;
    let client = Client::try_from(config).context("failed to make a client")?;
    let target = |namespace: &str, labels: &str, port| Target {
        namespace: namespace.to_owned(),
        labels: labels.to_owned(),
        port,
    };
    let remembered = std::fs::read(record(settings))
        .ok()
        .and_then(|json| serde_json::from_slice::<Record>(&json).ok());
    let remembered = remembered.map(|record| record.ports);
    let mlflow = listen(remembered.map(|ports| ports.mlflow))?;
    let notebook = listen(remembered.map(|ports| ports.notebook))?;
    let emulator = listen(remembered.map(|ports| ports.emulator))?;
    let mlflow = Forward::on(mlflow, client.clone(), target("ml", "app=mlflow", 4180))?;
    let notebook = Forward::on(notebook, client.clone(), target("ml", "app=notebook", 4180))?;
    let emulator = Forward::on(
        emulator,
        client,
        target("globus-emulator", "app=globus-emulator", 8080),
    )?;
    let ports = Ports {
        mlflow: mlflow.port(),
        notebook: notebook.port(),
        emulator: emulator.port(),
    };
    let json = serde_json::to_vec(&Record {
        process: std::process::id(),
        ports,
    })?;
    std::fs::write(record(settings), json).context("failed to note the ports")?;
    asked_to_stop()
        .await
        .context("failed to listen for signals")
}

/// The port that it was last time, so that addresses stay good; else a free one.
fn listen(port: Option<u16>) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = port
        .and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)
        .context("failed to listen on loopback")?;
    listener
        .set_nonblocking(true)
        .context("failed to prepare a listener")?;
    tokio::net::TcpListener::from_std(listener).context("failed to prepare a listener")
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for in real time"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

//! Our sidecar, as it is shipped.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use globus_auth_core::sidecar_config::{FILE_NAME, LogLevel};

use super::{Kind, Peer, Stage, USER, log_in};
use crate::bench::process::{self, Process};
use crate::globus::MintRequest;
use crate::harness::sidecar::{CLIENT_ID, EXTERNAL_URL, config, text};

pub(super) async fn start(stage: &Stage, logs: bool) -> anyhow::Result<Peer> {
    let program = std::env::var_os("GLOBUS_AUTH_SIDECAR")
        .map(PathBuf::from)
        .context("GLOBUS_AUTH_SIDECAR does not name the release build of the sidecar")?;
    let folder = stage.folder(Kind::GlobusAuth.name(), logs)?;
    let mut config = config(stage.provider.issuer(), &[USER]);
    config.log_level = if logs { LogLevel::Info } else { LogLevel::Warn };
    fs::write(folder.join(FILE_NAME), text(&config)).context("failed to write a configuration")?;
    let (port, admin_port) = (process::free_port()?, process::free_port()?);
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&folder)
        .args(["--listen-address", "127.0.0.1"])
        .args(["--listen-port", &port.to_string()])
        .args(["--admin-port", &admin_port.to_string()])
        .args(["--upstream-port", &stage.upstream.port().to_string()]);
    let mut process = Process::start(&mut command, &folder.join("log"))?;
    let address = process::loopback(port);
    let start = process.answers(address).await?;
    let bearer = stage.provider.mint(&MintRequest::new(USER, CLIENT_ID));
    Ok(Peer {
        name: Kind::GlobusAuth.name(),
        address,
        process,
        start,
        logs,
        host: "app.test".to_owned(),
        cookie: log_in(EXTERNAL_URL, address, "/oauth2/start?rd=/64").await?,
        bearer: bearer.ok().map(|minted| minted.access_token),
    })
}

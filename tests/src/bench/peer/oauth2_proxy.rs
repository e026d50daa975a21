//! oauth2-proxy, from the program that `OAUTH2_PROXY_BIN` names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::{Kind, Peer, Stage, USER, log_in};
use crate::bench::process::{self, Process};
use crate::harness::sidecar::{CLIENT_ID, CLIENT_SECRET, EXTERNAL_URL};

pub(super) async fn start(stage: &Stage, logs: bool) -> anyhow::Result<Peer> {
    let program = std::env::var_os("OAUTH2_PROXY_BIN")
        .map(PathBuf::from)
        .context("OAUTH2_PROXY_BIN names no program")?;
    let folder = stage.folder(Kind::Oauth2Proxy.name(), logs)?;
    let emails = folder.join("emails");
    fs::write(&emails, format!("{USER}\n")).context("failed to write a list")?;
    let port = process::free_port()?;
    let mut command = Command::new(program);
    command
        .args(["--provider=oidc", "--oidc-enabled-signing-alg=RS512"])
        .arg(format!("--oidc-issuer-url={}", stage.provider.issuer()))
        .arg(format!("--client-id={CLIENT_ID}"))
        .arg(format!("--client-secret={CLIENT_SECRET}"))
        .args([
            "--insecure-oidc-allow-unverified-email",
            "--code-challenge-method=S256",
        ])
        .arg(format!("--authenticated-emails-file={}", emails.display()))
        .args(["--cookie-secure=true", "--skip-jwt-bearer-tokens=true"])
        .arg(format!("--cookie-secret={COOKIE_SECRET}"))
        .arg(format!("--redirect-url={EXTERNAL_URL}/oauth2/callback"))
        .arg(format!("--http-address=127.0.0.1:{port}"))
        .arg(format!("--upstream=http://{}", stage.upstream))
        .arg(format!("--request-logging={logs}"))
        .arg(format!("--auth-logging={logs}"));
    let mut process = Process::start(&mut command, &folder.join("log"))?;
    let address = process::loopback(port);
    let start = process.answers(address).await?;
    Ok(Peer {
        name: Kind::Oauth2Proxy.name(),
        address,
        process,
        start,
        logs,
        host: "app.test".to_owned(),
        cookie: log_in(EXTERNAL_URL, address, "/oauth2/start?rd=/64").await?,
        // It takes JWTs only; the provider's tokens are opaque.
        bearer: None,
    })
}

/// Sixteen bytes; nothing that it protects outlives the run.
const COOKIE_SECRET: &str = "0123456789abcdef";

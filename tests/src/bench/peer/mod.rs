//! Who is asked: each a real program with its own configuration, folder and port, and a real login.

mod apache;
mod globus_auth;
mod nginx;
mod oauth2_proxy;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::process::{self, Process};
use super::scenario::{Credentials, Scenario};
use crate::globus::{Client, Config, Emulator, RunningEmulator, User};
use crate::harness::Browser;
use crate::harness::secrets::Secrets;
use crate::harness::sidecar::{CLIENT_ID, CLIENT_SECRET, EXTERNAL_URL};

/// One of them, running.
#[derive(Debug)]
pub(super) struct Peer {
    /// As the report calls it.
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) process: Process,
    /// From exec to the first answered request.
    pub(super) start: Duration,
    /// Whether every request is logged.
    pub(super) logs: bool,
    host: String,
    cookie: String,
    bearer: Option<String>,
}

/// A peer that could not be asked, and why.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) name: &'static str,
    pub(super) reason: String,
}

/// What all of them share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) upstream: SocketAddr,
    pub(super) provider: RunningEmulator,
    folder: PathBuf,
    apache_port: u16,
}

/// How to start one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    GlobusAuth,
    Nginx,
    Oauth2Proxy,
    Apache,
}

impl Kind {
    /// In the order in which they take turns.
    pub(super) const ALL: [Self; 4] = [
        Self::GlobusAuth,
        Self::Nginx,
        Self::Oauth2Proxy,
        Self::Apache,
    ];

    /// As the report calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::GlobusAuth => "globus-auth",
            Self::Nginx => "nginx",
            Self::Oauth2Proxy => "oauth2-proxy",
            Self::Apache => "mod_auth_openidc",
        }
    }

    /// Starts it on `stage`, with every request logged or none.
    pub(super) async fn start(self, stage: &Stage, logs: bool) -> Result<Peer, Absent> {
        let started = match self {
            Self::GlobusAuth => globus_auth::start(stage, logs).await,
            Self::Nginx => nginx::start(stage, logs).await,
            Self::Oauth2Proxy => oauth2_proxy::start(stage, logs).await,
            Self::Apache => apache::start(stage, logs).await,
        };
        started.map_err(|error| Absent {
            name: self.name(),
            reason: format!("{error:#}"),
        })
    }
}

impl Stage {
    /// A provider that knows one user, in front of `upstream`; files go below `folder`.
    pub(super) async fn new(upstream: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let apache_port = process::free_port()?;
        let mut client = Client::confidential(
            CLIENT_ID,
            CLIENT_SECRET,
            &format!("{EXTERNAL_URL}/oauth2/callback"),
        );
        client
            .redirect_uris
            .push(format!("http://127.0.0.1:{apache_port}/oauth2/callback"));
        let config = Config::default().client(client).user(User::new(USER));
        let provider = Emulator::start(config)
            .await
            .context("failed to start the provider")?;
        Ok(Self {
            upstream,
            provider,
            folder: folder.to_owned(),
            apache_port,
        })
    }

    /// A fresh folder for one peer.
    fn folder(&self, name: &str, logs: bool) -> anyhow::Result<PathBuf> {
        let folder = self
            .folder
            .join(format!("{name}{}", if logs { "-logs" } else { "" }));
        if folder.exists() {
            fs::remove_dir_all(&folder).context("failed to empty a folder")?;
        }
        fs::create_dir_all(&folder).context("failed to make a folder")?;
        Ok(folder)
    }
}

impl Peer {
    /// The request that `scenario` sends over and over.
    pub(super) fn request(&self, scenario: &Scenario) -> Option<String> {
        let credentials = match scenario.credentials {
            Credentials::Cookie => format!("Cookie: {}", self.cookie),
            Credentials::Bearer => format!("Authorization: Bearer {}", self.bearer.as_ref()?),
        };
        Some(self.ask(&format!("/{}", scenario.bytes), &credentials))
    }

    /// A request with the session.
    pub(super) fn ask_with_session(&self, path: &str, fields: &str) -> String {
        self.ask(path, &format!("{fields}Cookie: {}", self.cookie))
    }

    /// What a client sends: a session among the headers that programs send.
    fn ask(&self, path: &str, fields: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, deflate\r\n{fields}\r\n\r\n",
            self.host
        )
    }
}

/// Logs [`USER`] in, as a browser does, and returns the `Cookie` field.
async fn log_in(home: &str, address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let browser = Browser::new(home, address, Secrets::default());
    let page = browser.log_in_until_callback(path, USER).await;
    anyhow::ensure!(
        page.status.is_redirection(),
        "the login was refused: {}",
        page.status
    );
    let cookie = browser.cookie_field();
    anyhow::ensure!(!cookie.is_empty(), "the login set no cookie");
    Ok(cookie)
}

/// The path of a program, or nothing if it is not installed.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Who has logged in.
const USER: &str = "alice@example.org";

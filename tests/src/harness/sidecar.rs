//! The sidecar as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use globus_auth_core::email::Email;
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::sealer::{KeyBytes, KeyId};
use globus_auth_core::sidecar_config::{
    Access, Bearer, Exposure, HostHeader, IdentityHeaders, LogLevel, Operator, Protocol, Provider,
    ProviderKind, ProxyReference, Session, SessionKey, SidecarConfig, Upstream, VERSION, hash,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::binary;
use super::folder::Folder;
use super::log::Log;
use super::secrets::Secrets;
use super::wait::eventually;
use super::wire;

/// Where users reach the workload. Nothing resolves it; browsers of the harness know the way.
pub const EXTERNAL_URL: &str = "https://app.test";
/// The client id at the provider.
pub const CLIENT_ID: &str = "11111111-2222-4333-8444-555555555555";
/// The client secret, with everything in it that some encoding mangles.
pub const CLIENT_SECRET: &str = "canary client secret +/=&%:é";
/// The session cookie.
pub const SESSION_COOKIE: &str = "__Host-globus-auth";
/// What the cookies of login attempts start with.
pub const LOGIN_COOKIE_PREFIX: &str = "__Host-globus-auth-login-";

/// A running sidecar. It is killed when it is dropped, and its log is then searched for secrets.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    log: Log,
    folder: Folder,
    config: SidecarConfig,
    address: SocketAddr,
    admin: SocketAddr,
    secrets: Secrets,
    arguments: Vec<String>,
}

/// A configuration for a sidecar at the provider `issuer` that admits `emails`.
///
/// # Panics
/// If something in it is not what it must be.
pub fn config(issuer: &str, emails: &[&str]) -> SidecarConfig {
    SidecarConfig {
        version: VERSION,
        proxy: ProxyReference {
            namespace: "ml".to_owned(),
            name: "mlflow".to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
        },
        external_url: EXTERNAL_URL.parse().expect("an origin"),
        provider: Provider {
            kind: ProviderKind::Globus,
            issuer: issuer.parse().expect("an issuer"),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.into(),
            scopes: vec!["email".to_owned(), "profile".to_owned()],
            email_verification: EmailVerification::IfPresent,
            groups_claim: None,
            session_requirements: SessionRequirements::default(),
        },
        access: Access {
            emails: addresses(emails),
            ..Access::default()
        },
        session: Session {
            idle_timeout_seconds: 43_200,
            absolute_timeout_seconds: 604_800,
        },
        bearer: Bearer {
            introspection: true,
            jwt: vec![],
        },
        upstream: Upstream {
            host_header: HostHeader::External,
            exposure: Exposure::Report,
            protocol: Protocol::HTTP1,
            max_request_body_bytes: None,
            response_timeout_seconds: None,
        },
        identity_headers: IdentityHeaders::default(),
        tls: None,
        tracing: None,
        vault: None,
        session_keys: vec![session_key(7)],
        operator: Operator {
            url: "https://127.0.0.1:9".to_owned(),
            certificate_authorities: AUTHORITY.to_owned(),
        },
        // What is not logged at the most talkative level is not logged at all.
        log_level: LogLevel::Debug,
    }
}

/// Addresses for an allowlist.
///
/// # Panics
/// If one is not an address.
pub fn addresses(emails: &[&str]) -> Vec<Email> {
    let parse = |email: &&str| email.parse().expect("an address");
    emails.iter().map(parse).collect()
}

/// A key that nobody else has.
pub fn session_key(id: u32) -> SessionKey {
    let mut bytes = KeyBytes::default();
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
    SessionKey {
        id: KeyId(id),
        key: bytes.into(),
    }
}

impl Sidecar {
    /// Which of `texts` are anywhere in its memory.
    ///
    /// # Panics
    /// If its memory cannot be read.
    pub fn remembers(&self, texts: &[&str]) -> Vec<bool> {
        super::memory::contains(self.child.id(), texts)
    }

    /// Starts a sidecar in front of `upstream_port` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(config: SidecarConfig, upstream_port: u16, secrets: Secrets) -> Self {
        let sidecar = Self::launch(config, upstream_port, &[], secrets).await;
        sidecar.ready().await;
        sidecar
    }

    /// Starts a sidecar with further options and waits until it serves, ready or not.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn launch(
        config: SidecarConfig,
        upstream_port: u16,
        options: &[String],
        secrets: Secrets,
    ) -> Self {
        let folder = Folder::new();
        folder.write(&text(&config));
        secrets.add(CLIENT_SECRET);
        for key in &config.session_keys {
            let key = serde_json::to_value(&key.key).expect("a key is text");
            secrets.add(key.as_str().expect("a key is text"));
        }
        let is_upstream = |option: &String| option == "--upstream-url" || option == "--no-upstream";
        let upstream_port = (!options.iter().any(is_upstream)).then_some(upstream_port);
        let arguments: Vec<String> = arguments(upstream_port)
            .into_iter()
            .chain(options.iter().cloned())
            .collect();
        let (child, log) = spawn(folder.path(), &arguments);
        let (address, admin) = serving(&log).await;
        Self {
            child,
            log,
            folder,
            config,
            address,
            admin,
            secrets,
            arguments,
        }
    }

    /// Where users are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the workload asks other services.
    ///
    /// # Panics
    /// If it does not listen there.
    pub async fn outbound(&self) -> SocketAddr {
        let line = self.logged("serving requests of the workload").await;
        let address = line["address"].as_str().expect("an address");
        address.parse().expect("an address")
    }

    /// Where the kubelet asks.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The secrets that its log must not have.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The configuration that was written last.
    pub fn config(&self) -> &SidecarConfig {
        &self.config
    }

    /// Waits until the kubelet would call it ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn ready(&self) {
        eventually("the sidecar to be ready", async || {
            (self.ask_admin("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// What the admin listener answers.
    pub async fn ask_admin(&self, path: &str) -> wire::Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        wire::Wire::connect(self.admin).await.ask(&request).await
    }

    /// The value of one metric, such as `logins_total{outcome="success"}`; 0 if it is not there.
    ///
    /// # Panics
    /// If the value is not a number.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = self.ask_admin("/metrics").await.text();
        let name = format!("globus_auth_sidecar_{name} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |value| value.parse().expect("a metric is a number"))
    }

    /// Changes the configuration and waits until the new one is in force.
    ///
    /// # Panics
    /// If it is not taken.
    pub async fn reconfigure(&mut self, change: impl FnOnce(&mut SidecarConfig)) {
        change(&mut self.config);
        let text = text(&self.config);
        self.folder.write(&text);
        let hash = hash(&text);
        eventually("the new configuration to be in force", async || {
            let events = self.events();
            let in_force = events.iter().rfind(|event| {
                event["message"] == "a new configuration is in force"
                    || event["message"] == "serving"
            })?;
            (in_force["config.hash"] == *hash).then_some(())
        })
        .await;
    }

    /// Writes something else where the configuration should be, and waits for nothing.
    pub fn write(&self, text: &[u8]) {
        self.folder.write(text);
    }

    /// Writes the list of ended sessions, as the operator does for all replicas.
    pub fn write_ended(&self, text: &[u8]) {
        self.folder.write_ended(text);
    }

    /// Takes the mounted files away.
    pub fn remove_config(&self) {
        self.folder.remove_data();
    }

    /// Ends the process and starts another with the same configuration, as the kubelet does.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn restart(&mut self) {
        self.end();
        let (child, log) = spawn(self.folder.path(), &self.arguments);
        (self.child, self.log) = (child, log);
        (self.address, self.admin) = serving(&self.log).await;
        self.ready().await;
    }

    /// Every line of its log so far.
    ///
    /// # Panics
    /// If a line is not JSON.
    pub fn events(&self) -> Vec<Value> {
        self.log.events()
    }

    /// Waits for a log line with this message.
    ///
    /// # Panics
    /// If there is none in time.
    pub async fn logged(&self, message: &str) -> Value {
        eventually(&format!("the log line {message:?}"), async || {
            self.log.find(message)
        })
        .await
    }

    /// The most memory that the process ever had, in bytes.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn peak_memory(&self) -> u64 {
        self.bytes_in_status("VmHWM:")
    }

    /// The memory that the process has now, in bytes.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn memory(&self) -> u64 {
        self.bytes_in_status("VmRSS:")
    }

    /// How many file descriptors the process has open.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        let open = std::fs::read_dir(path).expect("a process has descriptors");
        open.count()
    }

    fn bytes_in_status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.expect("a size").trim().parse::<u64>();
        kibibytes.expect("a number") * 1024
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as the kubelet does.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn ask_to_stop(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), Signal::TERM).expect("the process is there");
    }

    /// Waits until it has stopped by itself.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stopped(&mut self) -> ExitStatus {
        eventually("the sidecar to stop", async || {
            self.child
                .try_wait()
                .expect("the process can be waited for")
        })
        .await
    }

    /// Lines about requests are collected before they are written. Asked to stop, it writes those that
    /// wait; that open connections keep it from stopping does not matter then.
    fn let_it_say_everything(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_stop();
        }
        let started = tokio::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None))
            && !self.log.ends_with("stopping")
            && started.elapsed() < LAST_WORDS
        {
            std::thread::park_timeout(PAUSE);
        }
    }

    fn end(&mut self) {
        self.let_it_say_everything();
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
        self.log.finish();
        let lines = self.log.lines();
        if let Some((secret, line)) = self.secrets.found_in(&lines)
            && !std::thread::panicking()
        {
            panic!("the secret {secret:?} is in the log: {line}");
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.log.lines();
            let last = lines.get(lines.len().saturating_sub(LINES_SHOWN)..);
            tracing::error!(
                "the sidecar's last words:\n{}",
                last.unwrap_or_default().join("\n")
            );
        }
        self.end();
    }
}

/// Runs a sidecar that must not start, and returns what it prints.
///
/// # Panics
/// If it starts.
pub async fn refused_start(text: &[u8]) -> (ExitStatus, Vec<String>) {
    let folder = Folder::new();
    folder.write(text);
    let (mut child, mut log) = spawn(folder.path(), &arguments(Some(9)));
    let status = eventually("the sidecar to give up", async || {
        child.try_wait().expect("the process can be waited for")
    })
    .await;
    log.finish();
    (status, log.lines())
}

/// The file that the operator would write.
///
/// # Panics
/// Never: a configuration is JSON.
pub fn text(config: &SidecarConfig) -> Vec<u8> {
    serde_json::to_vec(config).expect("a configuration is JSON")
}

fn arguments(upstream_port: Option<u16>) -> Vec<String> {
    let upstream = upstream_port.map(|port| ["--upstream-port".to_owned(), port.to_string()]);
    [
        "--listen-address",
        "127.0.0.1",
        "--listen-port",
        "0",
        "--admin-port",
        "0",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(upstream.into_iter().flatten())
    .collect()
}

fn spawn(folder: &Path, arguments: &[String]) -> (Child, Log) {
    let mut child = Command::new(binary::sidecar())
        .arg("--config")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the sidecar can be started");
    let log = Log::of(child.stdout.take().expect("its output is piped"));
    (child, log)
}

/// Waits until the log says where it serves: with port 0, nobody else can take the port in between.
async fn serving(log: &Log) -> (SocketAddr, SocketAddr) {
    let line = eventually("the sidecar to serve", async || log.find("serving")).await;
    let port = |member: &str| {
        let address = line[member].as_str().expect("an address");
        let address: SocketAddr = address.parse().expect("an address");
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    };
    (port("address"), port("admin.address"))
}

/// A certificate whose key was never kept: nobody listens where it would be used.
const AUTHORITY: &str = include_str!("authority.pem");
const LINES_SHOWN: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);
/// Enough for one that still can.
const LAST_WORDS: Duration = Duration::from_secs(2);

//! The vault as a process, and the API server that tells it who asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use globus_auth_core::egress::Egress;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::tls_server::{self, ServedCertificate};
use globus_auth_core::sidecar_config::{LogLevel, ProviderKind};
use globus_auth_core::vault_api::{
    CONNECTIONS, CONSENT, ConnectionsRequest, ConnectionsResponse, ConsentRequest,
    ConsentedService, LOGINS, LoginRequest, LoginResponse, Refusal, SESSIONS, SessionRequest,
    SessionResponse, audience,
};
use globus_auth_core::vault_config::{
    BearerTokens, Consumer, Issuer, Refresh, Rotation, UserGrant, VERSION, VaultConfig,
    VaultReference,
};
use http::{Request, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::binary;
use super::log::Log;
use super::secrets::Secrets;
use super::sidecar::{CLIENT_ID, CLIENT_SECRET, EXTERNAL_URL};
use super::wait::eventually;
use crate::globus::RunningEmulator;

/// The vault of the tests.
const NAMESPACE: &str = "auth";
const NAME: &str = "alcf";

/// A running vault. It is killed when it is dropped, and its log is then searched for secrets.
#[derive(Debug)]
pub struct Vault {
    child: Child,
    log: Log,
    folder: Arc<Files>,
    address: SocketAddr,
    api_server: SocketAddr,
    authority: String,
    secrets: Secrets,
    database: String,
}

/// A configuration for a vault at the provider `issuer`, where pods of `ml/app` may ask for tokens of
/// `resource_servers`.
///
/// # Panics
/// If the issuer is none.
pub fn config(issuer: &str, resource_servers: &[&str]) -> VaultConfig {
    VaultConfig {
        version: VERSION,
        vault: VaultReference {
            namespace: NAMESPACE.to_owned(),
            name: NAME.to_owned(),
        },
        issuers: vec![Issuer {
            name: "globus".to_owned(),
            kind: ProviderKind::Globus,
            issuer: issuer.parse().expect("an issuer"),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.into(),
            rotation: Rotation::Never,
            requests_per_second: 1000,
            session_seconds: None,
            bearer_tokens: BearerTokens::Ignored,
            user_grant: UserGrant::default(),
        }],
        consumers: vec![Consumer {
            namespace: "ml".to_owned(),
            service_account: "app".to_owned(),
            resource_servers: resource_servers
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            client_credentials: vec![],
            delegation_days: None,
        }],
        admins: None,
        egress: Egress {
            allowed: vec!["127.0.0.0/8".parse().expect("a network")],
        },
        refresh: Refresh {
            keep_alive_seconds: 30 * 86_400,
            max_concurrent_per_issuer: 8,
            forget_unused_after_seconds: None,
        },
        restored_at: None,
        is_closing: false,
        log_level: LogLevel::Debug,
    }
}

/// A pod, as its ServiceAccount token names it.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its ServiceAccount.
    pub service_account: &'static str,
    /// Its uid.
    pub uid: &'static str,
}

/// The pod of the workload.
pub const POD: Pod = Pod {
    namespace: "ml",
    service_account: "app",
    uid: "pod-1",
};

impl Pod {
    /// A token for the vault, as the stand-in of the API server knows it.
    pub fn token(self) -> String {
        let audience = audience(NAMESPACE, NAME);
        let Self {
            namespace,
            service_account,
            uid,
        } = self;
        format!("{namespace}/{service_account}/{uid}/{audience}")
    }
}

impl Vault {
    /// Starts a vault with a database that is told, or one in a file.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start(config: &VaultConfig, secrets: Secrets, database: Option<String>) -> Self {
        let folder = Arc::new(Files::new());
        let database =
            database.unwrap_or_else(|| format!("sqlite:{}", folder.0.join("vault.db").display()));
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate can be made");
        let authority = made.cert.pem();
        let text = serde_json::to_vec(config).expect("a configuration is JSON");
        folder.write("config/vault.json", &text);
        folder.write("tls/tls.crt", authority.as_bytes());
        folder.write("tls/tls.key", made.signing_key.serialize_pem().as_bytes());
        folder.write("account/ca.crt", authority.as_bytes());
        folder.write("account/token", b"the vault's own token");
        folder.write("keyring.json", &keyring(&secrets));
        let api_server = api_server(&authority, &made.signing_key.serialize_pem()).await;
        let (child, log) = spawn(&folder.0, api_server, &database, None);
        let address = serving(&log).await;
        Self {
            child,
            log,
            folder,
            address,
            api_server,
            authority,
            secrets,
            database,
        }
    }

    /// Starts another one beside it, with the same database.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn replica(&self) -> Self {
        let (child, log) = spawn(&self.folder.0, self.api_server, &self.database, None);
        let address = serving(&log).await;
        Self {
            child,
            log,
            folder: Arc::clone(&self.folder),
            address,
            api_server: self.api_server,
            authority: self.authority.clone(),
            secrets: self.secrets.clone(),
            database: self.database.clone(),
        }
    }

    /// Writes another key ring, as the kubelet does.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn set_keys(&self, keyring: &[u8]) {
        self.folder.write("keyring.new", keyring);
        let path = |name| self.folder.0.join(name);
        std::fs::rename(path("keyring.new"), path("keyring.json")).expect("a file is renamed");
    }

    /// The key ring that it was started with, or the last one that was set.
    ///
    /// # Panics
    /// If there is none.
    pub fn keys(&self) -> Value {
        let text = std::fs::read(self.folder.0.join("keyring.json")).expect("a key ring");
        serde_json::from_slice(&text).expect("a key ring is JSON")
    }

    /// Waits until it has logged `message`.
    pub async fn logged(&self, message: &str) -> Value {
        eventually(message, async || self.log.find(message)).await
    }

    /// The file with the token of a pod, as the kubelet projects it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn identity_token(&self, pod: Pod) -> String {
        let name = format!("token-{}", pod.uid);
        self.folder.write(&name, pod.token().as_bytes());
        self.folder.0.join(name).display().to_string()
    }

    /// Where sidecars ask.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority that vouches for it, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Waits until it has died by itself.
    ///
    /// # Panics
    /// If it does not.
    pub async fn died(&mut self) {
        eventually("the vault to die", async || {
            self.child
                .try_wait()
                .expect("the process can be waited for")
        })
        .await;
    }

    /// Ends the process as `kill -9` does, and starts another with the same database. It dies before the
    /// step `dies_before`, if one is named.
    ///
    /// # Panics
    /// If it does not serve again.
    pub async fn restart(&mut self, dies_before: Option<&str>) {
        self.end();
        let (child, log) = spawn(&self.folder.0, self.api_server, &self.database, dies_before);
        (self.child, self.log) = (child, log);
        self.address = serving(&self.log).await;
    }

    /// Asks as `pod` does.
    ///
    /// # Errors
    /// The status and body of a refusal.
    ///
    /// # Panics
    /// If there is no answer, or one that is not what it must be.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        pod: Pod,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, (StatusCode, Refusal)> {
        let (status, body) = self.send(&pod.token(), path, request).await;
        if status.is_success() {
            let body = if body.is_empty() {
                b"null".to_vec()
            } else {
                body
            };
            Ok(serde_json::from_slice(&body).expect("an answer"))
        } else {
            Err((status, serde_json::from_slice(&body).expect("a refusal")))
        }
    }

    /// Logs in as a sidecar does, without one: the session that a browser would hold.
    ///
    /// # Errors
    /// The status of a refusal.
    ///
    /// # Panics
    /// If the provider does not know the user.
    pub async fn log_in(
        &self,
        globus: &RunningEmulator,
        pod: Pod,
        username: &str,
        scope: &str,
    ) -> Result<String, StatusCode> {
        let (verifier, nonce) = ("v".repeat(43), "a nonce of a test");
        let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge.as_ref());
        let redirect_uri = format!("{EXTERNAL_URL}/oauth2/callback");
        let url = globus.url("/v2/oauth2/authorize").parse();
        let mut url: Url = url.expect("an address");
        url.query_pairs_mut().extend_pairs([
            ("client_id", CLIENT_ID),
            ("redirect_uri", &redirect_uri),
            ("response_type", "code"),
            ("scope", scope),
            ("state", "s"),
            ("nonce", nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("access_type", "offline"),
        ]);
        let callback = globus.approve(url.as_str(), username).await;
        let callback: Url = callback
            .expect("the user logs in")
            .parse()
            .expect("an address");
        let mut parameters = callback.query_pairs();
        let code = parameters.find(|(name, _)| name == "code");
        let request = LoginRequest {
            issuer: globus.issuer().to_owned(),
            client_id: CLIENT_ID.to_owned(),
            redirect_uri,
            code: code.expect("a code").1.into_owned().into(),
            code_verifier: verifier.into(),
            nonce: nonce.into(),
            session_seconds: None,
        };
        let answer: Result<LoginResponse, _> = self.ask(pod, LOGINS, &request).await;
        let answer = answer.map_err(|(status, _)| status)?;
        Ok(answer.session.expose_secret().to_owned())
    }

    /// Lets the workload use whatever the user of `session` has connected, as they would on the page.
    ///
    /// # Panics
    /// If it is none of the workload's.
    pub async fn allow_all(&self, pod: Pod, session: &str) {
        let request = SessionRequest {
            session: session.into(),
        };
        let opened: SessionResponse = self.ask(pod, SESSIONS, &request).await.expect("a handle");
        let request = ConnectionsRequest {
            handle: opened.handle.clone(),
        };
        let found: ConnectionsResponse = self
            .ask(pod, CONNECTIONS, &request)
            .await
            .expect("connections");
        let services = found.connections.into_iter().map(|one| ConsentedService {
            resource_server: one.resource_server,
            scopes: one.scopes,
        });
        let request = ConsentRequest {
            handle: opened.handle,
            services: services.collect(),
        };
        let () = self.ask(pod, CONSENT, &request).await.expect("a consent");
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks with a token of the test's own.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(
        &self,
        token: &str,
        path: &str,
        request: &impl Serialize,
    ) -> (StatusCode, Vec<u8>) {
        let http = HttpClient::with_authorities(&self.authority).expect("a client");
        let request = self.request(token, path, request);
        let response = http.send(request).await.expect("an answer");
        (response.status(), response.into_body())
    }

    /// Asks, and does not care whether an answer comes.
    pub async fn send_and_forget(&self, pod: Pod, path: &str, request: &impl Serialize) {
        let http = HttpClient::with_authorities(&self.authority).expect("a client");
        let request = self.request(&pod.token(), path, request);
        let _died_meanwhile = http.send(request).await;
    }

    /// Asks as an administrator does.
    ///
    /// # Panics
    /// If there is no answer, or one that is not JSON.
    pub async fn administer(
        &self,
        token: &str,
        method: http::Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let http = HttpClient::with_authorities(&self.authority).expect("a client");
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(body.map(Value::to_string).unwrap_or_default().into_bytes())
            .expect("a request");
        let response = http.send(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body();
        if body.is_empty() {
            return (status, Value::Null);
        }
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    fn request(&self, token: &str, path: &str, request: &impl Serialize) -> Request<Vec<u8>> {
        Request::post(format!("{}{path}", self.url()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(serde_json::to_vec(request).expect("a request is JSON"))
            .expect("a request")
    }

    /// Every byte of its database, with all that SQLite keeps beside it.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn database(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in ["vault.db", "vault.db-wal", "vault.db-shm"] {
            bytes.extend(std::fs::read(self.folder.0.join(name)).unwrap_or_default());
        }
        assert!(!bytes.is_empty());
        bytes
    }

    /// Runs another command of the program beside it, with its configuration, keys and database. What it printed,
    /// and whether it succeeded.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn command(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(binary::vault())
            .args(arguments)
            .args(["--database", &self.database])
            .arg("--config")
            .arg(self.folder.0.join("config"))
            .arg("--keys")
            .arg(self.folder.0.join("keyring.json"))
            .output()
            .expect("the program can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// Writes another key ring, and says what a start with it prints.
    ///
    /// # Panics
    /// If it starts.
    pub async fn refuses_to_start_with(&mut self, keyring: &[u8]) -> String {
        self.end();
        let before = std::fs::read(self.folder.0.join("keyring.json")).expect("a key ring");
        self.folder.write("keyring.json", keyring);
        let (mut child, mut log) = spawn(&self.folder.0, self.api_server, &self.database, None);
        eventually("the vault to give up", async || {
            child.try_wait().expect("the process can be waited for")
        })
        .await;
        log.finish();
        self.folder.write("keyring.json", &before);
        log.lines().join("\n")
    }

    fn end(&mut self) {
        // It may have died before.
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("the process can be waited for");
        self.log.finish();
        let lines = self.log.lines();
        if let Some((secret, line)) = self.secrets.found_in(&lines)
            && !std::thread::panicking()
        {
            panic!("the secret {secret:?} is in the vault's log: {line}");
        }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint(&self.log.lines());
        }
        self.end();
    }
}

fn eprint(lines: &[String]) {
    let last = lines.get(lines.len().saturating_sub(20)..);
    tracing::error!(
        "the vault's last words:\n{}",
        last.unwrap_or_default().join("\n")
    );
}

/// A key ring with one random key.
///
/// # Panics
/// Without randomness.
pub fn keyring(secrets: &Secrets) -> Vec<u8> {
    json!({"primary": "k1", "keys": [key("k1", secrets)]})
        .to_string()
        .into_bytes()
}

/// A random key, as a key ring has it.
///
/// # Panics
/// Without randomness.
pub fn key(id: &str, secrets: &Secrets) -> Value {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).expect("the operating system has randomness");
    let key = STANDARD.encode(key);
    secrets.add(&key);
    json!({"id": id, "key": key})
}

fn spawn(
    folder: &Path,
    api_server: SocketAddr,
    database: &str,
    dies_before: Option<&str>,
) -> (Child, Log) {
    let mut command = Command::new(binary::vault());
    command
        .args(["--listen-port", "0", "--admin-port", "0"])
        .args(["--api-server", &format!("https://{api_server}")])
        .args(["--database", database])
        .arg("--config")
        .arg(folder.join("config"))
        .arg("--keys")
        .arg(folder.join("keyring.json"))
        .arg("--certificate")
        .arg(folder.join("tls"))
        .arg("--service-account")
        .arg(folder.join("account"))
        .arg("--unstored")
        .arg(folder.join("unstored"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(step) = dies_before {
        command.env("GLOBUS_AUTH_VAULT_DIE_BEFORE", step);
    }
    let mut child = command.spawn().expect("the vault can be started");
    let log = Log::of(child.stdout.take().expect("its output is piped"));
    (child, log)
}

async fn serving(log: &Log) -> SocketAddr {
    let line = eventually("the vault to serve", async || log.find("serving")).await;
    let address = line["address"].as_str().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}

/// An API server that reviews tokens, and does nothing else. It knows the tokens of [`Pod::token`].
async fn api_server(certificate: &str, key: &str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let served = Arc::new(ServedCertificate::default());
    let pair = globus_auth_core::runtime::certificate::read(certificate, key);
    served.set(pair.expect("a certificate"));
    let router = Router::new().route(
        "/apis/authentication.k8s.io/v1/tokenreviews",
        post(async |Json(review): Json<Value>| Json(reviewed(&review))),
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    tokio::spawn(tls_server::serve(
        listener,
        router,
        served,
        provider,
        std::future::pending(),
    ));
    address
}

fn reviewed(review: &Value) -> Value {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let wanted = review["spec"]["audiences"][0].as_str().unwrap_or_default();
    let parts: Vec<&str> = token.split('/').collect();
    let [namespace, account, uid, audience] = parts[..] else {
        return json!({"status": {"authenticated": false}});
    };
    if audience != wanted {
        return json!({"status": {"authenticated": false}});
    }
    json!({"status": {
        "authenticated": true,
        "audiences": [audience],
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{account}"),
            "extra": {"authentication.kubernetes.io/pod-uid": [uid]},
        },
    }})
}

/// A folder that goes with the test.
#[derive(Debug)]
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("globus-auth-{}", uuid::Uuid::new_v4()));
        for folder in ["config", "tls", "account"] {
            std::fs::create_dir_all(path.join(folder)).expect("a folder for temporary files");
        }
        Self(path)
    }

    fn write(&self, name: &str, text: &[u8]) {
        std::fs::write(self.0.join(name), text).expect("a file is written");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "failed to remove a folder");
        }
    }
}

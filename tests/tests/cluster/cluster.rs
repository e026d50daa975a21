//! The cluster under test: the operator in it, and namespaces for tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

use crate::canary;

pub(crate) const SYSTEM: &str = "globus-auth-system";

/// A namespace for one test, deleted with it.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) client: Client,
    /// Tests share the operator; one that changes it has it alone.
    _operator: Hold,
}

#[allow(dead_code, reason = "held, never read")]
enum Hold {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

static OPERATOR: RwLock<()> = RwLock::const_new(());
static INSTALLED: OnceCell<()> = OnceCell::const_new();

impl Namespace {
    /// A namespace in a cluster with the operator.
    pub(crate) async fn new(name: &str) -> Self {
        Self::held(name, Hold::Shared(OPERATOR.read().await)).await
    }

    /// The same, and no other test uses the operator meanwhile.
    pub(crate) async fn alone(name: &str) -> Self {
        Self::held(name, Hold::Alone(OPERATOR.write().await)).await
    }

    async fn held(name: &str, operator: Hold) -> Self {
        INSTALLED.get_or_init(async || install_anew()).await;
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{name}-{}", &suffix[..6]);
        apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        ));
        Self {
            name,
            client: client().await,
            _operator: operator,
        }
    }

    /// Applies a manifest in this namespace.
    pub(crate) fn apply(&self, manifest: &str) {
        expect_success(&self.try_apply(manifest), manifest);
    }

    /// The same, for what may be refused.
    pub(crate) fn try_apply(&self, manifest: &str) -> Output {
        run(
            kubectl(&["--namespace", &self.name, "apply", "--filename", "-"]),
            manifest,
        )
    }

    /// kubectl's answer, which must be good.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        expect_success(&output, &arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["--namespace", &self.name];
        all.extend(arguments);
        run(kubectl(&all), "")
    }

    /// An object, as JSON.
    pub(crate) fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "--output=json"])).unwrap()
    }

    /// The condition `type_` of a `GlobusAuthProxy`.
    pub(crate) fn condition(&self, proxy: &str, type_: &str) -> Option<Condition> {
        let object = self.get(&format!("globusauthproxy/{proxy}"));
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == type_)?;
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
        })
    }

    /// Waits until a condition has this status and reason, and returns its message.
    pub(crate) async fn await_condition(
        &self,
        proxy: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> String {
        eventually(&format!("{type_}={status}, {reason}"), SHORT, async || {
            let condition = self.condition(proxy, type_).ok_or("no such condition")?;
            match condition.status == status && condition.reason == reason {
                true => Ok(condition.message),
                false => Err(format!("{condition:?}")),
            }
        })
        .await
    }

    /// Waits until a Deployment is available.
    pub(crate) fn await_available(&self, deployment: &str) {
        self.kubectl(&[
            "rollout",
            "status",
            &format!("deployment/{deployment}"),
            "--timeout=120s",
        ]);
    }

    /// The reasons and messages of the Events about an object.
    pub(crate) fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let selector =
            format!("--field-selector=involvedObject.kind={kind},involvedObject.name={name}");
        let list = self.kubectl(&["get", "events", &selector, "--output=json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let events = list["items"].as_array().unwrap().clone();
        events
            .iter()
            .map(|event| {
                format!(
                    "{}: {}",
                    event["reason"].as_str().unwrap_or_default(),
                    event["message"].as_str().unwrap_or_default()
                )
            })
            .collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let searched = if std::thread::panicking() {
            // What there is to see stays, shortly, for whoever reads the failure.
            let all = run(
                kubectl(&[
                    "--namespace",
                    &self.name,
                    "get",
                    "pods,gap,events",
                    "--output=wide",
                ]),
                "",
            );
            eprintln!("{}", String::from_utf8_lossy(&all.stdout));
            None
        } else {
            Some(canary::search(&self.name))
        };
        run(
            kubectl(&["delete", "namespace", &self.name, "--wait=false"]),
            "",
        );
        if let Some(searched) = searched {
            searched.assert_clean();
        }
    }
}

/// A condition without its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Installs the operator, and starts it anew: the images of the tests have the same name after a change.
fn install_anew() {
    install(&[]);
    for action in ["restart", "status"] {
        let rollout = [
            "--namespace",
            SYSTEM,
            "rollout",
            action,
            "deployment/globus-auth",
        ];
        expect_success(&run(kubectl(&rollout), ""), "kubectl rollout");
    }
}

/// Installs or upgrades the operator, with the images that the tests are about.
pub(crate) fn install(values: &[&str]) {
    let image = format!(
        "image.repository={},image.tag={}",
        image_repository(),
        image_tag()
    );
    let mut arguments = vec![
        "upgrade",
        "--install",
        "globus-auth",
        "../charts/globus-auth",
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--reset-values",
        "--wait",
        "--timeout=3m",
        "--set",
        &image,
    ];
    for value in values {
        arguments.extend(["--set", value]);
    }
    expect_success(&helm(&arguments), "helm upgrade --install");
}

pub(crate) fn helm(arguments: &[&str]) -> Output {
    let mut command = tool("helm");
    command.args(arguments);
    run(command, "")
}

pub(crate) fn image_repository() -> String {
    variable("IMAGE_REPOSITORY").unwrap_or_else(|| "localhost".to_owned())
}

pub(crate) fn image_tag() -> String {
    variable("IMAGE_TAG").unwrap_or_else(|| "dev".to_owned())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test is configured by its environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn kubeconfig() -> PathBuf {
    PathBuf::from(variable("KUBECONFIG").expect("KUBECONFIG names the cluster; run `make test`"))
}

pub(crate) async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn tool(name: &str) -> Command {
    let ours = Path::new("../target/kubernetes/bin").join(name);
    let mut command = if ours.exists() {
        Command::new(ours)
    } else {
        Command::new(name)
    };
    command.env("KUBECONFIG", kubeconfig());
    command
}

pub(crate) fn kubectl(arguments: &[&str]) -> Command {
    let mut command = tool("kubectl");
    command.args(arguments);
    command
}

/// Applies what belongs to no namespace.
pub(crate) fn apply(manifest: &str) {
    expect_success(
        &run(kubectl(&["apply", "--filename", "-"]), manifest),
        manifest,
    );
}

pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    // A program that does not read to the end closes its side.
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    written.unwrap_or_default();
    child.wait_with_output().unwrap()
}

pub(crate) fn expect_success(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}\nfailed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits for something, and says what it saw last if it does not come.
pub(crate) async fn eventually<T, E: std::fmt::Display>(
    what: &str,
    patience: Duration,
    look: impl AsyncFn() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("waited {patience:?} for {what}; seen last: {seen}")
            }
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub(crate) const SHORT: Duration = Duration::from_secs(30);
pub(crate) const LONG: Duration = Duration::from_mins(3);

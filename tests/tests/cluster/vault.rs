//! A vault in the cluster: a login through it, the user's token at the workload, and what outlives its pod.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_tests::harness::secrets::Secrets;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::cluster::{Namespace, eventually, variable};
use crate::workload::{ALICE, Provider, Scene, echo};

const SERVER: &str = "transfer.api.globus.org";
const SCOPE: &str = "urn:globus:auth:scope:transfer.api.globus.org:all";

/// A pod with a volume takes its time.
const PATIENCE: Duration = Duration::from_mins(2);

/// A volume for the vault, where the cluster makes none by itself: ours does not.
struct Volume(Option<std::path::PathBuf>);

impl Volume {
    fn new(namespace: &Namespace) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let is_ours = variable("KUBECONFIG")
            .is_none_or(|path| path.ends_with("target/kubernetes/kubeconfig"));
        if !is_ours {
            return Self(None);
        }
        let path = std::env::temp_dir().join(format!("globus-auth-volume-{}", namespace.name));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        namespace.apply(&format!(
            r"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {0}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  claimRef: {{namespace: {0}, name: data-tokens-tokenvault-0}}
  hostPath: {{path: {1}}}
",
            namespace.name,
            path.display()
        ));
        Self(Some(path))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            drop(std::fs::remove_dir_all(path));
        }
    }
}

fn vault(namespace: &Namespace) -> String {
    format!(
        r"
apiVersion: globus-auth.dev/v1alpha1
kind: TokenVault
metadata: {{name: tokens}}
spec:
  issuers:
  - {{name: globus, type: Globus, issuer: '{}', clientSecretRef: {{name: client}}}}
  consumers:
  - {{namespace: {}, serviceAccount: default, resourceServers: [{SERVER}]}}
",
        Scene::issuer(namespace),
        namespace.name
    )
}

fn ready(namespace: &Namespace) -> Result<(), String> {
    let vault = namespace.get("tokenvault/tokens");
    let conditions = vault["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => Ok(()),
        _ => Err(format!("{conditions:?}")),
    }
}

/// The token that the workload got, as the page of the echo upstream shows it.
fn token_in(page: &str) -> String {
    let reflection: Value = serde_json::from_str(page).unwrap_or_else(|_| panic!("{page}"));
    let headers = reflection["headers"].as_array().unwrap();
    let header = headers.iter().find(|pair| pair[0] == "x-token-transfer");
    header.unwrap_or_else(|| panic!("{page}"))[1]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Has the key replaced, and waits until the old one is gone.
async fn rotate_key(namespace: &Namespace) {
    let now = globus_auth_core::clock::Clock::now(&globus_auth_core::clock::SystemClock);
    let now = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(now.0).unwrap()).unwrap();
    let encryption =
        json!({"spec": {"encryption": {"retainDays": 0, "replaceKeysBefore": now.to_string()}}});
    namespace.kubectl(&[
        "patch",
        "tokenvault",
        "tokens",
        "--type=merge",
        "-p",
        &encryption.to_string(),
    ]);
    eventually("the key to be replaced", PATIENCE, async || {
        let status = namespace.get("tokenvault/tokens")["status"].take();
        let expected = json!({"primary": "k2", "oldestInUse": "k2", "rowsPending": 0});
        let ring = namespace.get("secret/tokens-tokenvault-keyring");
        let ring = STANDARD
            .decode(ring["data"]["keyring.json"].as_str().unwrap())
            .unwrap();
        let ring: Value = serde_json::from_slice(&ring).unwrap();
        let is_done = status["keyring"] == expected && ring["keys"].as_array().unwrap().len() == 1;
        // Ids alone: a failure is printed.
        is_done.then_some(()).ok_or(status["keyring"].to_string())
    })
    .await;
    let status = namespace.get("tokenvault/tokens")["status"].take();
    assert_eq!(status["grants"]["active"], 1, "{status}");
}

#[tokio::test]
async fn a_workload_gets_its_users_token_also_after_the_vault_was_replaced() {
    let namespace = Namespace::new("vault").await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&vault(&namespace));
    eventually("the vault to be ready", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    let tokens = format!(
        "  vaultRef: {{name: tokens}}\n  tokens: [{{name: transfer, resourceServer: {SERVER}, scopes: ['{SCOPE}'], header: X-Token-Transfer}}]"
    );
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), &tokens));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    namespace
        .await_condition("app", "VaultConnected", "True", "Found")
        .await;

    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    let token = token_in(&browser.await_text("x-token-transfer").await);
    browser
        .open(&format!("{}/oauth2/connections", scene.app.url()))
        .await;
    let page = browser.await_text("Disconnect transfer").await;
    assert!(
        page.contains(ALICE) && page.contains("renewed by itself"),
        "{page}"
    );
    browser.screenshot("connections").await;

    namespace.kubectl(&["delete", "pod", "tokens-tokenvault-0", "--wait=true"]);
    namespace.kubectl(&[
        "rollout",
        "status",
        "statefulset/tokens-tokenvault",
        "--timeout=120s",
    ]);
    // Another sidecar knows nothing of the token: it asks the vault, with the browser's session.
    namespace.kubectl(&["rollout", "restart", "deployment/app"]);
    namespace.await_available("app");
    namespace.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]);
    eventually("the same token again", PATIENCE, async || {
        browser.open(&scene.app.url()).await;
        let page = browser.text().await;
        let is_there = page.contains("x-token-transfer") && token_in(&page) == token;
        is_there.then_some(()).ok_or(page)
    })
    .await;

    rotate_key(&namespace).await;
    namespace.kubectl(&["rollout", "restart", "deployment/app"]);
    namespace.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]);
    eventually("the token under another key", PATIENCE, async || {
        browser.open(&scene.app.url()).await;
        let page = browser.text().await;
        let is_there = page.contains("x-token-transfer") && token_in(&page) == token;
        is_there.then_some(()).ok_or(page)
    })
    .await;

    // Nobody who may look at the namespace sees the token.
    let secrets = Secrets::default();
    secrets.add(&token);
    let mut seen = Vec::new();
    for what in [
        "pods",
        "globusauthproxies",
        "tokenvaults",
        "events",
        "secrets",
        "configmaps",
        "statefulsets",
    ] {
        seen.extend(
            namespace
                .kubectl(&["describe", what])
                .lines()
                .map(str::to_owned),
        );
    }
    for pod in ["deployment/app", "statefulset/tokens-tokenvault"] {
        let logs = namespace.kubectl(&["logs", pod, "--all-containers=true"]);
        seen.extend(logs.lines().map(str::to_owned));
    }
    assert!(seen.len() > 100);
    assert_eq!(secrets.found_in(&seen), None);
    browser.close().await;
}

#[tokio::test]
async fn a_deleted_vault_is_gone_at_once_and_its_key_stays() {
    let namespace = Namespace::new("vaultgone").await;
    let _volume = Volume::new(&namespace);
    namespace.apply(&crate::workload::client_secret());
    namespace.apply(&vault(&namespace));
    eventually("the vault to be ready", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    let binding = format!(
        "clusterrolebinding/globus-auth-tokenvault:{}:tokens",
        namespace.name
    );
    namespace.kubectl(&["get", &binding]);
    namespace.kubectl(&["delete", "tokenvault", "tokens", "--timeout=30s"]);
    let gone = namespace.try_kubectl(&["get", &binding]);
    assert!(!gone.status.success());
    let keyring = namespace.get("secret/tokens-tokenvault-keyring");
    assert!(keyring["data"]["keyring.json"].is_string());
    // A key that was used and is gone is told, and not replaced.
    namespace.apply(&vault(&namespace));
    eventually("the vault to be ready again", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    namespace.kubectl(&["delete", "secret", "tokens-tokenvault-keyring"]);
    namespace.kubectl(&["annotate", "tokenvault", "tokens", "look=again"]);
    namespace.kubectl(&[
        "patch",
        "tokenvault",
        "tokens",
        "--type=merge",
        "-p",
        r#"{"spec":{"refresh":{"keepAliveDays":29}}}"#,
    ]);
    eventually("the loss to be told", PATIENCE, async || {
        let vault = namespace.get("tokenvault/tokens");
        let conditions = vault["status"]["conditions"].to_string();
        conditions
            .contains("KeyringLost")
            .then_some(())
            .ok_or(conditions)
    })
    .await;
    assert!(
        !namespace
            .try_kubectl(&["get", "secret/tokens-tokenvault-keyring"])
            .status
            .success()
    );
}

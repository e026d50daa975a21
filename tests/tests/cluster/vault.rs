//! A vault in the cluster: a login through it, the user's token at the workload, and what outlives its pod.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::{Clock, SystemClock};
use globus_auth_tests::globus::{Issued, RequestLog};
use http::Method;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::canary;
use crate::cluster::{
    Namespace, SYSTEM, eventually, expect_success, image_repository, image_tag, kubectl, run,
    variable,
};
use crate::operator;
use crate::workload::{
    ALICE, CLIENT_ID, CLIENT_SECRET, INFERENCE, INFERENCE_SCOPE, MALLORY, Provider, Scene,
    deployment, echo, echo_pod, proxy_of, python, send,
};

pub(crate) const SERVER: &str = "transfer.api.globus.org";
pub(crate) const SCOPE: &str = "urn:globus:auth:scope:transfer.api.globus.org:all";
const FLOWS: &str = "flows.globus.org";
const FLOWS_SCOPE: &str =
    "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_status";
const COMPUTE: &str = "funcx_service";
const COMPUTE_SCOPE: &str =
    "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all";

/// A pod with a volume takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The page on which a workload asks for its user's consent.
pub(crate) const ASKS: &str = "May it use these services as you?";

/// A volume for the vault, where the cluster makes none by itself: ours does not.
pub(crate) struct Volume(Option<std::path::PathBuf>);

impl Volume {
    pub(crate) fn new(namespace: &Namespace) -> Self {
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
    vault_for(
        namespace,
        &format!(
            "{{namespace: {}, serviceAccount: default, resourceServers: [{SERVER}]}}",
            namespace.name
        ),
    )
}

/// A vault with these consumers, in YAML's flow style.
pub(crate) fn vault_for(namespace: &Namespace, consumers: &str) -> String {
    format!(
        r"
apiVersion: globus-auth.dev/v1alpha1
kind: TokenVault
metadata: {{name: tokens}}
spec:
  issuers:
  - {{name: globus, type: Globus, issuer: '{}', clientSecretRef: {{name: client}}}}
  # Where the Services of a cluster are.
  allowedNetworks: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
  consumers: [{consumers}]
",
        Scene::issuer(namespace),
    )
}

pub(crate) fn ready(namespace: &Namespace) -> Result<(), String> {
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

/// Every token that the provider has given out.
pub(crate) async fn issued(scene: &Scene) -> Vec<Issued> {
    let url = format!("{}/_emulator/tokens", scene.provider.url());
    let answer = send(Method::GET, &url, &[], String::new()).await;
    serde_json::from_str(&answer.body).unwrap()
}

/// Has the key replaced, and waits until the old one is gone.
async fn rotate_key(namespace: &Namespace) {
    let now = SystemClock.now();
    let now = Timestamp::from_second(i64::try_from(now.0).unwrap()).unwrap();
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
        is_done
            .then_some(())
            .ok_or_else(|| status["keyring"].to_string())
    })
    .await;
    let status = namespace.get("tokenvault/tokens")["status"].take();
    assert_eq!(status["grants"]["active"], 1, "{status}");
}

/// Starts a vault, and a workload whose user's token for [`SERVER`] is in a header.
async fn serve(namespace: &Namespace, scene: &Scene, vault: &str) {
    namespace.apply(vault);
    eventually("the vault to be ready", PATIENCE, async || ready(namespace)).await;
    let tokens = format!(
        "  vaultRef: {{name: tokens}}\n  tokens: [{{name: transfer, resourceServer: {SERVER}, scopes: ['{SCOPE}'], header: X-Token-Transfer}}]"
    );
    namespace.apply(&scene.proxy(namespace, &format!("{{emails: [{ALICE}]}}"), &tokens));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    namespace
        .await_condition("app", "VaultConnected", "True", "Found")
        .await;
}

#[tokio::test]
async fn a_workload_gets_its_users_token_also_after_the_vault_was_replaced() {
    let namespace = Namespace::new("vault").await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::new(&namespace, Provider::Globus).await;
    serve(&namespace, &scene, &vault(&namespace)).await;

    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    let page = browser.await_text(ASKS).await;
    assert!(
        page.contains(ALICE) && page.contains("app") && page.contains(SCOPE),
        "{page}"
    );
    browser.screenshot("consent").await;
    browser.press("Allow").await;
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

    // Every test ends with this search; here is something to find.
    assert!(issued(&scene).await.iter().any(|one| one.is_refresh_token));
    let searched = canary::search(&namespace.name);
    searched.assert_clean();
    assert!(searched.secrets > 4);
    for what in [
        "globus_auth_vault_",
        "globus_auth_sidecar_",
        "\"target\":\"access\"",
        "VaultConnected",
    ] {
        assert!(searched.saw(what), "{what} was not looked at");
    }
    canary::search_described(&namespace);
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

/// With `Revoke`, the tokens are taken back at the issuer before the vault goes, and so does its key.
#[tokio::test]
async fn a_vault_that_is_deleted_takes_its_tokens_back_first() {
    let namespace = Namespace::new("vaultrevoke").await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::new(&namespace, Provider::Globus).await;
    serve(
        &namespace,
        &scene,
        &format!("{}  deletionPolicy: Revoke\n", vault(&namespace)),
    )
    .await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    browser.await_text(ASKS).await;
    browser.press("Allow").await;
    browser.await_text("x-token-transfer").await;
    browser.close().await;
    let revocations = async || {
        let url = format!("{}/_emulator/requests", scene.provider.url());
        let requests = send(Method::GET, &url, &[], String::new()).await;
        let requests: RequestLog = serde_json::from_str(&requests.body).unwrap();
        requests.count("revoke")
    };
    assert_eq!(revocations().await, 0);
    namespace.kubectl(&["delete", "tokenvault", "tokens", "--timeout=120s"]);
    assert_eq!(
        revocations().await,
        3,
        "the refresh token and the access token, and the refresh token of the login itself"
    );
    eventually("the key to be gone", PATIENCE, async || {
        let keyring = namespace.try_kubectl(&["get", "secret/tokens-tokenvault-keyring"]);
        let is_gone = !keyring.status.success();
        is_gone
            .then_some(())
            .ok_or_else(|| "it is there".to_owned())
    })
    .await;
}

/// No operator, for as long as this lives.
struct OperatorDown;

impl OperatorDown {
    fn new() -> Self {
        operator::scale(0);
        let gone = ["wait", "pods", "--for=delete", "--timeout=60s", "--all"];
        let gone = [&["--namespace", SYSTEM][..], &gone].concat();
        expect_success(&run(kubectl(&gone), ""), "the operator's pods are gone");
        Self
    }
}

impl Drop for OperatorDown {
    fn drop(&mut self) {
        operator::scale(2);
        operator::await_operator();
    }
}

/// Scenario 40: sidecars go on serving, and the vault refreshing, also one that starts anew meanwhile.
#[tokio::test]
async fn tokens_stay_fresh_while_the_operator_is_down() {
    let namespace = Namespace::alone("vaultalone").await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::with_lifetime(&namespace, 10).await;
    serve(&namespace, &scene, &vault(&namespace)).await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    browser.await_text(ASKS).await;
    browser.press("Allow").await;
    browser.await_text("x-token-transfer").await;

    let down = OperatorDown::new();
    let mut seen = BTreeSet::new();
    for wanted in [2, 4] {
        while seen.len() < wanted {
            let token = eventually("another token", PATIENCE, async || {
                browser.open(&scene.app.url()).await;
                let page = browser.text().await;
                let token = page.contains("x-token-transfer").then(|| token_in(&page));
                token.filter(|token| !seen.contains(token)).ok_or(page)
            })
            .await;
            seen.insert(token);
        }
        namespace.kubectl(&["delete", "pod", "tokens-tokenvault-0", "--wait=true"]);
    }
    drop(down);
    browser.close().await;
}

/// Two users, two workloads, three services: the workload gets what its users consented to there, and nothing
/// else.
#[tokio::test]
async fn each_workload_gets_exactly_the_tokens_of_its_users_for_its_services() {
    let namespace = Namespace::new("vaulttwo").await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let consumer = |account: &str, servers: [&str; 2]| {
        let servers = servers.join(", ");
        format!(
            "{{namespace: {}, serviceAccount: {account}, resourceServers: [{servers}]}}",
            namespace.name
        )
    };
    let consumers = [
        consumer("app", [SERVER, FLOWS]),
        consumer("other", [FLOWS, COMPUTE]),
    ];
    namespace.apply(&vault_for(&namespace, &consumers.join(", ")));
    eventually("the vault to be ready", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    let token = |name: &str, server: &str, scope: &str| {
        format!(
            "{{name: {name}, resourceServer: {server}, scopes: ['{scope}'], header: X-Token-{name}}}"
        )
    };
    let flows = token("flows", FLOWS, FLOWS_SCOPE);
    for (name, url, own) in [
        ("app", scene.app.url(), token("transfer", SERVER, SCOPE)),
        (
            "other",
            scene.other.url(),
            token("compute", COMPUTE, COMPUTE_SCOPE),
        ),
    ] {
        let more = format!("  vaultRef: {{name: tokens}}\n  tokens: [{flows}, {own}]");
        let access = format!("{{emails: [{ALICE}, {MALLORY}]}}");
        let issuer = Scene::issuer(&namespace);
        namespace.apply(&proxy_of(name, &url, "Globus", &issuer, &access, &more));
        namespace.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}"
        ));
        let pod = format!("serviceAccountName: {name}\n{}", echo_pod("127.0.0.1"));
        let labels = format!("{{app: {name}, globus-auth.dev/inject: enabled}}");
        namespace.apply(&deployment(name, &labels, &pod));
        namespace.await_available(name);
    }
    let mut given = BTreeSet::new();
    for user in [ALICE, MALLORY] {
        let browser = Browser::start().await;
        for (workload, url, expected) in [
            (
                "app",
                scene.app.url(),
                [("flows", FLOWS), ("transfer", SERVER)],
            ),
            (
                "other",
                scene.other.url(),
                [("compute", COMPUTE), ("flows", FLOWS)],
            ),
        ] {
            browser.open(&url).await;
            // Whoever is logged in at the provider is asked for what this workload wants beside.
            let is_known = browser.text().await.contains("You are logged in");
            browser.press(if is_known { "Allow" } else { user }).await;
            browser.await_text(ASKS).await;
            browser.press("Allow").await;
            let page = browser.await_text("x-token-flows").await;
            let issued = issued(&scene).await;
            let got = tokens_in(&page);
            let names: Vec<&str> = got.keys().map(String::as_str).collect();
            assert_eq!(
                names,
                expected.map(|(name, _)| name),
                "{user} at {workload}"
            );
            for (name, server) in expected {
                let of = issued
                    .iter()
                    .find(|issued| issued.token == got[name])
                    .unwrap();
                assert_eq!(
                    (
                        of.username.as_deref(),
                        &*of.resource_server,
                        of.is_refresh_token
                    ),
                    (Some(user), server, false)
                );
            }
            given.extend(got.into_values());
        }
        browser.close().await;
    }
    assert_eq!(given.len(), 8, "two workloads or two users share a token");
    // Two users, two workloads, two services each.
    let status = namespace.get("tokenvault/tokens")["status"].take();
    assert_eq!(status["conditions"][0]["status"], "True", "{status}");
    assert_strangers_hear_the_same(&namespace);
}

/// Asks the vault with the identity of a pod of `app`, for a user that there is not and for a service that is
/// another's, and with identities that are no consumer's.
fn assert_strangers_hear_the_same(namespace: &Namespace) {
    let pods = namespace.kubectl(&[
        "get",
        "pods",
        "--selector=app=app",
        "--output=jsonpath={.items[0].metadata.name}",
    ]);
    let audience = format!("--audience=tokenvault.tokens.{}", namespace.name);
    let bound = format!("--bound-object-name={}", pods.trim());
    let identity = namespace.kubectl(&[
        "create",
        "token",
        "app",
        &audience,
        "--bound-object-kind=Pod",
        &bound,
    ]);
    let unbound = namespace.kubectl(&["create", "token", "app", &audience]);
    let foreign = namespace.kubectl(&["create", "token", "app", "--bound-object-kind=Pod", &bound]);
    let status = namespace.get("tokenvault/tokens")["status"].take();
    let program = r#"
import json, os, ssl, urllib.error, urllib.request
trust = ssl.create_default_context(cadata=os.environ["AUTHORITY"])
def ask(identity, path, body):
    request = urllib.request.Request(os.environ["VAULT"] + path, json.dumps(body).encode(), {
        "content-type": "application/json", "authorization": "Bearer " + os.environ[identity]})
    try:
        with urllib.request.urlopen(request, context=trust) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
def token(identity, server):
    return ask(identity, "/v1/tokens", {"handle": "A" * 43, "resourceServer": server})
print(json.dumps([
    token("IDENTITY", "transfer.api.globus.org"),
    token("IDENTITY", "funcx_service"),
    ask("IDENTITY", "/v1/sessions", {"session": "A" * 22}),
    token("UNBOUND", "transfer.api.globus.org"),
    token("FOREIGN", "transfer.api.globus.org"),
]))
"#;
    let printed = python(
        namespace,
        "stranger",
        program,
        &[
            ("IDENTITY", identity.trim()),
            ("UNBOUND", unbound.trim()),
            ("FOREIGN", foreign.trim()),
            ("VAULT", status["url"].as_str().unwrap()),
            (
                "AUTHORITY",
                status["certificateAuthorities"].as_str().unwrap(),
            ),
        ],
    );
    let answers: Value = serde_json::from_str(printed.trim()).unwrap();
    let forbidden = json!([403, r#"{"error":"forbidden"}"#]);
    let unauthenticated = json!([401, r#"{"error":"unauthenticated"}"#]);
    assert_eq!(
        answers,
        json!([
            forbidden,
            forbidden,
            forbidden,
            unauthenticated,
            unauthenticated
        ])
    );
    // Its tokens are of use to nobody, but they are tokens.
    namespace.kubectl(&["delete", "pod", "stranger"]);
}

/// The tokens that the workload got, by name.
fn tokens_in(page: &str) -> BTreeMap<String, String> {
    let reflection: Value = serde_json::from_str(page).unwrap_or_else(|_| panic!("{page}"));
    let headers = reflection["headers"].as_array().unwrap().iter();
    headers
        .filter_map(|pair| {
            let name = pair[0].as_str()?.strip_prefix("x-token-")?;
            Some((name.to_owned(), pair[1].as_str()?.to_owned()))
        })
        .collect()
}

/// The programs of the demo: with the client of OpenAI, and no token in them.
#[tokio::test]
async fn the_notebook_asks_as_its_user_and_the_job_as_the_client() {
    let namespace = Namespace::new("notebook").await;
    let _volume = Volume::new(&namespace);
    // The job asks twelve times, a second apart.
    let scene = Scene::begin(&namespace, Provider::Globus, "app=notebook", 4).await;
    let consumers = [
        format!(
            "{{namespace: {}, serviceAccount: notebook, resourceServers: [{INFERENCE}]}}",
            namespace.name
        ),
        format!(
            "{{namespace: {}, serviceAccount: nightly, clientCredentials: [{INFERENCE}]}}",
            namespace.name
        ),
    ];
    namespace.apply(&vault_for(&namespace, &consumers.join(", ")));
    eventually("the vault to be ready", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    let issuer = Scene::issuer(&namespace);
    for (name, url, port, access, grant) in [
        (
            "notebook",
            scene.app.url(),
            "http",
            format!("{{emails: [{ALICE}]}}"),
            "AuthorizationCode",
        ),
        (
            "nightly",
            "http://127.0.0.1:9000".to_owned(),
            "9000",
            "{}".to_owned(),
            "ClientCredentials",
        ),
    ] {
        let more = format!(
            "  vaultRef: {{name: tokens}}\n  tokens: [{{name: inference, grantType: {grant}, resourceServer: {INFERENCE}, \
             scopes: ['{INFERENCE_SCOPE}'], route: {{prefix: /inference, upstream: 'http://inference.{}.svc.cluster.local'}}}}]",
            namespace.name
        );
        let proxy = proxy_of(name, &url, "Globus", &issuer, &access, &more);
        namespace.apply(&proxy.replace("{port: http}", &format!("{{port: {port}}}")));
    }
    let programs = include_str!("../../demo/notebook.yaml")
        .replace("namespace: ml", &format!("namespace: {}", namespace.name))
        .replace(
            "http://globus-emulator.globus-emulator.svc.cluster.local:8080",
            &issuer,
        )
        .replace("${CLIENT_SECRET}", CLIENT_SECRET)
        .replace("${IMAGE_REPOSITORY}", &image_repository())
        .replace("${IMAGE_TAG}", &image_tag())
        .replace("time.sleep(10)", "time.sleep(1)");
    namespace.apply(&programs);
    namespace.await_available("inference");
    namespace.await_available("notebook");
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    browser.await_text(ASKS).await;
    browser.press("Allow").await;
    browser
        .await_text(&format!("You are {ALICE}, by the token"))
        .await;
    browser.close().await;
    namespace.kubectl(&[
        "wait",
        "job/nightly",
        "--for=condition=Complete",
        "--timeout=120s",
    ]);
    let log = namespace.kubectl(&["logs", "job/nightly", "--container=nightly"]);
    let as_client = format!("You are {CLIENT_ID}");
    assert_eq!(log.matches(&as_client).count(), 12, "{log}");
    let issued = issued(&scene).await;
    let of_client = issued
        .iter()
        .filter(|one| one.resource_server == INFERENCE && one.username.is_none());
    let lifetimes = of_client.count();
    assert!(lifetimes >= 3, "{lifetimes} tokens");
}

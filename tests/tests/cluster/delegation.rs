//! A job in the cluster that acts for a user who is away.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::cluster::{Namespace, eventually, image_repository, image_tag};
use crate::vault::{ASKS, PATIENCE, SCOPE, SERVER, Volume, issued, ready, vault_for};
use crate::workload::{ALICE, Provider, Scene, echo, proxy_of};

/// Says what the file is like, and what is in it so that nobody can use it.
const PROGRAM: &str = r#"
import hashlib, json, os, stat
path = os.environ["BEARER_TOKEN_FILE"]
about = os.stat(path)
try:
    open(path, "a")
    is_writable = True
except OSError:
    is_writable = False
print(json.dumps({
    "path": path, "mode": oct(stat.S_IMODE(about.st_mode)), "is_mine": about.st_uid == os.getuid(),
    "is_writable": is_writable, "files": os.listdir(os.path.dirname(path)),
    "digest": hashlib.sha256(open(path, "rb").read()).hexdigest(),
}))
"#;

fn job(name: &str, subject: &str) -> Value {
    let restricted = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true});
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {
                "labels": {"app": "jobs", "globus-auth.dev/inject": "enabled"},
                "annotations": {"globus-auth.dev/on-behalf-of": subject},
            },
            "spec": {
                "serviceAccountName": "jobs", "restartPolicy": "Never",
                "automountServiceAccountToken": false, "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "job", "image": format!("{}/mlflow:{}", image_repository(), image_tag()),
                    "command": ["/opt/mlflow/bin/python", "-c", PROGRAM], "securityContext": restricted,
                }],
            },
        }},
    })
}

/// A vault, a page on which users delegate, and a proxy for jobs.
async fn start(namespace: &Namespace) -> Scene {
    let scene = Scene::new(namespace, Provider::Globus).await;
    let consumer = |account: &str, more: &str| {
        format!(
            "{{namespace: {}, serviceAccount: {account}, resourceServers: [{SERVER}]{more}}}",
            namespace.name
        )
    };
    let consumers = [
        consumer("default", ""),
        consumer("jobs", ", delegationDays: 7"),
    ];
    namespace.apply(&vault_for(namespace, &consumers.join(", ")));
    eventually("the vault to be ready", PATIENCE, async || ready(namespace)).await;
    let token = |way: &str| {
        format!(
            "  vaultRef: {{name: tokens}}\n  tokens: [{{name: transfer, resourceServer: {SERVER}, scopes: ['{SCOPE}'], {way}}}]"
        )
    };
    let page = token("delegation: {serviceAccount: jobs}");
    namespace.apply(&scene.proxy(namespace, &format!("{{emails: [{ALICE}]}}"), &page));
    namespace.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: jobs}}");
    let issuer = Scene::issuer(namespace);
    let file = token("file: {name: transfer}");
    let proxy = proxy_of(
        "jobs",
        "http://127.0.0.1:9000",
        "Globus",
        &issuer,
        "{}",
        &file,
    );
    namespace.apply(&proxy.replace("{port: http}", "{port: 9000}"));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    for proxy in ["app", "jobs"] {
        namespace
            .await_condition(proxy, "VaultConnected", "True", "Found")
            .await;
    }
    scene
}

#[tokio::test]
async fn a_job_waits_for_its_users_consent_and_has_their_token_in_a_file() {
    let namespace = Namespace::new("delegation").await;
    let _volume = Volume::new(&namespace);
    let scene = start(&namespace).await;

    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    browser.await_text(ASKS).await;
    browser.press("Allow").await;
    browser.await_text("x-forwarded-user").await;
    browser
        .open(&format!("{}/oauth2/connections", scene.app.url()))
        .await;
    let page = browser.await_text("globus-auth.dev/on-behalf-of: ").await;
    let (_, rest) = page.split_once("globus-auth.dev/on-behalf-of: ").unwrap();
    let subject = rest.split_whitespace().next().unwrap();

    namespace.apply(&job("transfer", subject).to_string());
    eventually("the job to say what it waits for", PATIENCE, async || {
        let events = namespace.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]);
        let is_told = events.contains("has not let its ServiceAccount act for them");
        is_told.then_some(()).ok_or(events)
    })
    .await;
    browser.press("Let jobs use transfer").await;
    browser.await_text("Stop jobs").await;
    browser.screenshot("delegation").await;
    namespace.kubectl(&[
        "wait",
        "job/transfer",
        "--for=condition=Complete",
        "--timeout=120s",
    ]);
    let log = namespace.kubectl(&["logs", "job/transfer", "--container=job"]);
    let said: Value = serde_json::from_str(log.trim()).unwrap_or_else(|_| panic!("{log}"));
    let digests: Vec<String> = issued(&scene)
        .await
        .iter()
        .filter(|one| one.username.as_deref() == Some(ALICE) && one.resource_server == SERVER)
        .map(|one| sha256(&one.token))
        .collect();
    assert!(
        digests.iter().any(|digest| said["digest"] == **digest),
        "{said}"
    );
    let expected = json!({
        "path": "/var/run/globus-auth/tokens/transfer", "mode": "0o400", "is_mine": true,
        "is_writable": false, "files": ["transfer"], "digest": said["digest"],
    });
    assert_eq!(said, expected);

    // Who names nobody is told so, and does not wait for ever.
    let mut unnamed = job("unnamed", subject);
    unnamed["spec"]["template"]["metadata"]["annotations"] = json!({});
    namespace.apply(&unnamed.to_string());
    eventually(
        "the refusal of a pod that names nobody",
        Duration::from_mins(1),
        async || {
            let events =
                namespace.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]);
            let is_told = events.contains("name the user by their subject");
            is_told.then_some(()).ok_or(events)
        },
    )
    .await;
    browser.close().await;
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut hexadecimal = String::new();
    for byte in digest.as_ref() {
        write!(hexadecimal, "{byte:02x}").unwrap();
    }
    hexadecimal
}

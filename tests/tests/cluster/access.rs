//! Who may enter changes while pods run.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::cluster::{Namespace, eventually};
use crate::workload::{ALICE, MALLORY, Provider, Scene, echo};

/// What the issue promises.
const PROMISED: Duration = Duration::from_secs(5);

async fn await_status(scene: &Scene, token: &str, status: StatusCode) -> Duration {
    let started = Instant::now();
    let bearer = format!("Bearer {token}");
    eventually(&format!("{status}"), Duration::from_secs(20), async || {
        let seen = scene.get("/", &[("authorization", &bearer)]).await.status;
        if seen == status { Ok(()) } else { Err(seen) }
    })
    .await;
    started.elapsed()
}

#[tokio::test]
async fn an_edit_of_the_inline_list_acts_within_seconds_both_ways_without_a_restart() {
    let namespace = Namespace::new("inline").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let token = scene.token(MALLORY).await;
    await_status(&scene, &token, StatusCode::FORBIDDEN).await;
    let before = namespace.get("pods")["items"].clone();

    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}, {MALLORY}]}}"), ""));
    let admitted = await_status(&scene, &token, StatusCode::OK).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    let removed = await_status(&scene, &token, StatusCode::FORBIDDEN).await;
    println!("inline allowlist: admitted after {admitted:?}, removed after {removed:?}");
    assert!(
        admitted < PROMISED && removed < PROMISED,
        "{admitted:?} {removed:?}"
    );

    let after = namespace.get("pods")["items"].clone();
    let started = |pods: &serde_json::Value| {
        pods[0]["status"]["initContainerStatuses"][0]["containerID"].clone()
    };
    assert_eq!(
        started(&before),
        started(&after),
        "a container was restarted"
    );
}

#[tokio::test]
async fn an_edit_of_the_config_map_acts_within_seconds_both_ways() {
    let namespace = Namespace::new("configmap").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let list = |emails: &str| {
        namespace.apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: users}}, data: {{emails: \"# the team\\n{emails}\\n\"}}}}"
        ));
    };
    list(ALICE);
    let from = "{emailsFrom: {configMapKeyRef: {name: users, key: emails}}}";
    namespace.apply(&scene.proxy(&namespace, from, ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let token = scene.token(MALLORY).await;
    await_status(&scene, &token, StatusCode::FORBIDDEN).await;

    list(&format!("{ALICE}, {MALLORY}"));
    let admitted = await_status(&scene, &token, StatusCode::OK).await;
    list(ALICE);
    let removed = await_status(&scene, &token, StatusCode::FORBIDDEN).await;
    println!("allowlist in a ConfigMap: admitted after {admitted:?}, removed after {removed:?}");
    assert!(
        admitted < PROMISED && removed < PROMISED,
        "{admitted:?} {removed:?}"
    );

    // A list with a mistake changes nothing, and says where the mistake is.
    list(&format!("{ALICE}\\nbob"));
    let message = namespace
        .await_condition("app", "ConfigValid", "False", "AllowlistUnusable")
        .await;
    assert!(
        message.contains("line 3") && message.contains("\"bob\""),
        "{message}"
    );
    let bearer = format!("Bearer {}", scene.token(ALICE).await);
    assert_eq!(
        scene.get("/", &[("authorization", &bearer)]).await.status,
        StatusCode::OK
    );
    list(ALICE);
    namespace
        .await_condition("app", "ConfigValid", "True", "Valid")
        .await;
}

#[tokio::test]
async fn a_pod_comes_as_its_service_account_with_a_token_for_the_proxy() {
    let namespace = Namespace::new("accounts").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let access = format!(
        "{{serviceAccounts: [{{namespace: {}, name: trainer}}]}}",
        namespace.name
    );
    namespace.apply(&scene.proxy(&namespace, &access, ""));
    namespace.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: trainer}}");
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let token = |account: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        let token = namespace.kubectl(&["create", "token", account, &audience]);
        token.trim().to_owned()
    };
    let url = scene.app.url();
    for (token, status) in [
        (token("trainer", &url), StatusCode::OK),
        (token("default", &url), StatusCode::FORBIDDEN),
        (
            token("trainer", "https://other.test"),
            StatusCode::UNAUTHORIZED,
        ),
        (scene.token(ALICE).await, StatusCode::FORBIDDEN),
    ] {
        await_status(&scene, &token, status).await;
    }
    let bearer = format!("Bearer {}", token("trainer", &url));
    let seen = scene.get("/", &[("authorization", &bearer)]).await.body;
    let name = format!("system:serviceaccount:{}:trainer", namespace.name);
    assert!(seen.contains(&name), "{seen}");
}

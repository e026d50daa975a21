//! What only the operator can see becomes a condition and an Event, and nobody gets through meanwhile.

use http::StatusCode;
use serde_json::json;

use crate::cluster::{Namespace, SHORT, eventually};
use crate::workload::{ALICE, Provider, Scene, client_secret, echo, proxy};

const URL: &str = "https://app.example.org";

fn some_proxy(access: &str) -> String {
    proxy(URL, "Globus", "https://auth.globus.org", access, "")
}

#[tokio::test]
async fn a_missing_secret_is_said_and_nobody_gets_through_until_it_is_there() {
    let namespace = Namespace::new("nosecret").await;
    namespace.apply(&some_proxy("{emails: [alice@example.org]}"));
    namespace.apply(&echo("127.0.0.1"));
    let message = namespace
        .await_condition("app", "CredentialsResolved", "False", "SecretNotFound")
        .await;
    assert!(
        message.contains("there is no Secret \"client\"") && message.contains("client-id"),
        "{message}"
    );
    namespace
        .await_condition("app", "Ready", "False", "SecretNotFound")
        .await;
    let events = namespace.events("GlobusAuthProxy", "app");
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("SecretNotFound")),
        "{events:?}"
    );
    // The pod waits for its configuration: it runs, and serves, not at all.
    let pods = namespace.get("pods")["items"].clone();
    assert_eq!(
        pods[0]["status"]["phase"], "Pending",
        "{}",
        pods[0]["status"]
    );

    namespace.apply("{apiVersion: v1, kind: Secret, metadata: {name: client}, stringData: {client-id: the-client}}");
    let message = namespace
        .await_condition("app", "CredentialsResolved", "False", "SecretMalformed")
        .await;
    assert!(message.contains("needs the key client-secret"), "{message}");

    namespace.apply(&client_secret());
    namespace
        .await_condition("app", "Ready", "True", "Ready")
        .await;
    namespace.await_available("app");
}

#[tokio::test]
async fn an_empty_list_admits_nobody() {
    let namespace = Namespace::new("nobody").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, "{}", ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let bearer = format!("Bearer {}", scene.token(ALICE).await);
    assert_eq!(
        scene.get("/", &[("authorization", &bearer)]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn of_two_proxies_that_select_one_pod_the_older_wins() {
    let namespace = Namespace::new("conflict").await;
    namespace.apply(&client_secret());
    namespace.apply(&some_proxy("{emails: [alice@example.org]}"));
    // Kubernetes keeps whole seconds of a creation.
    let created = namespace.get("gap/app")["metadata"]["creationTimestamp"].clone();
    let second = some_proxy("{}").replace("metadata: {name: app}", "metadata: {name: zz-later}");
    namespace.apply(&second);
    let later = namespace.get("gap/zz-later")["metadata"]["creationTimestamp"].clone();
    assert!(created.as_str() <= later.as_str());
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let message = namespace
        .await_condition("zz-later", "Injected", "False", "Conflict")
        .await;
    assert!(message.contains("GlobusAuthProxy \"app\""), "{message}");
    let events = namespace.events("GlobusAuthProxy", "zz-later");
    assert!(
        events.iter().any(|event| event.starts_with("Conflict")),
        "{events:?}"
    );
    namespace
        .await_condition("app", "Injected", "True", "Injected")
        .await;

    namespace.kubectl(&["delete", "gap", "app", "--wait"]);
    namespace
        .await_condition("zz-later", "Injected", "False", "PodsNotInjected")
        .await;
}

#[tokio::test]
async fn what_somebody_changed_comes_back_and_what_is_unwanted_goes() {
    let namespace = Namespace::new("drift").await;
    namespace.apply(&client_secret());
    namespace.apply(&some_proxy("{emails: [alice@example.org]}"));
    namespace
        .await_condition("app", "ConfigValid", "True", "Valid")
        .await;
    let policy = "networkpolicy/app-globus-auth";
    eventually("the policy", SHORT, async || {
        match namespace.try_kubectl(&["get", policy]).status.success() {
            true => Ok(()),
            false => Err("not there"),
        }
    })
    .await;
    namespace.kubectl(&[
        "patch",
        policy,
        "--type=json",
        "--patch",
        r#"[{"op":"remove","path":"/spec/ingress/0/ports"}]"#,
    ]);
    eventually("the ports of the policy", SHORT, async || {
        let ports = namespace.get(policy)["spec"]["ingress"][0]["ports"].clone();
        if ports == json!([{"port": 4180, "protocol": "TCP"}]) {
            Ok(())
        } else {
            Err(ports)
        }
    })
    .await;
    namespace.kubectl(&["delete", policy]);
    eventually("the policy again", SHORT, async || {
        match namespace.try_kubectl(&["get", policy]).status.success() {
            true => Ok(()),
            false => Err("not there"),
        }
    })
    .await;
    namespace.kubectl(&[
        "patch",
        "gap",
        "app",
        "--type=merge",
        "--patch",
        r#"{"spec":{"networkPolicy":"Disabled"}}"#,
    ]);
    eventually("no policy", SHORT, async || {
        match namespace.try_kubectl(&["get", policy]).status.success() {
            true => Err("still there"),
            false => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_overwritten() {
    let namespace = Namespace::new("taken").await;
    namespace.apply(&client_secret());
    namespace.apply("{apiVersion: v1, kind: Secret, metadata: {name: app-globus-auth}, stringData: {precious: data}}");
    namespace.apply(&some_proxy("{emails: [alice@example.org]}"));
    let message = namespace
        .await_condition("app", "ConfigValid", "False", "Invalid")
        .await;
    assert!(
        message.contains("\"app-globus-auth\"") && message.contains("delete it"),
        "{message}"
    );
    assert_eq!(
        namespace.get("secret/app-globus-auth")["data"],
        json!({"precious": "ZGF0YQ=="})
    );
}

#[tokio::test]
async fn session_keys_outlive_every_change() {
    let namespace = Namespace::new("keys").await;
    namespace.apply(&client_secret());
    namespace.apply(&some_proxy("{emails: [alice@example.org]}"));
    namespace
        .await_condition("app", "ConfigValid", "True", "Valid")
        .await;
    let keys = |namespace: &Namespace| {
        use base64::Engine;
        let data = namespace.get("secret/app-globus-auth")["data"]["config.json"].clone();
        let json = base64::engine::general_purpose::STANDARD
            .decode(data.as_str().unwrap())
            .unwrap();
        let config: serde_json::Value = serde_json::from_slice(&json).unwrap();
        (
            config["sessionKeys"].clone(),
            config["access"]["emails"].clone(),
        )
    };
    let (before, _) = keys(&namespace);
    namespace.apply(&some_proxy("{emails: [bob@example.org]}"));
    eventually("the new list", SHORT, async || {
        let (_, emails) = keys(&namespace);
        if emails == json!(["bob@example.org"]) {
            Ok(())
        } else {
            Err(emails)
        }
    })
    .await;
    assert_eq!(keys(&namespace).0, before);
}

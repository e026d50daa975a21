//! A proxy with pods of its own, in front of a workload that has no sidecar.

use std::time::Duration;

use globus_auth_tests::forward::{Forward, Target};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::browser::Browser;
use crate::cluster::{Namespace, SHORT, eventually};
use crate::workload::{ALICE, MALLORY, Provider, Scene, deployment, echo_pod, send};

/// The name of what the operator makes.
const MADE: &str = "app-globus-auth";

/// The labels of its pods.
const PODS: &str = "globus-auth.dev/standalone=app";

/// A workload as somebody has it who does not know us.
fn workload() -> String {
    deployment("workload", "{app: workload}", &echo_pod("0.0.0.0"))
}

fn proxy(namespace: &Namespace, url: &str, emails: &str) -> String {
    format!(
        r#"
apiVersion: globus-auth.dev/v1alpha1
kind: GlobusAuthProxy
metadata: {{name: app}}
spec:
  mode: Standalone
  standalone: {{replicas: 2}}
  upstream: {{url: "http://workload.{}.svc"}}
  externalUrl: "{url}"
  provider: {{type: Globus, issuer: "{}", clientSecretRef: {{name: client}}}}
  access: {{emails: [{emails}]}}
"#,
        namespace.name,
        Scene::issuer(namespace)
    )
}

fn pods(namespace: &Namespace) -> Vec<String> {
    let list = namespace.kubectl(&[
        "get",
        "pods",
        "--selector",
        PODS,
        "--output=jsonpath={.items[*].metadata.name}",
    ]);
    list.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn users_log_in_at_any_replica_and_edits_act_without_a_restart() {
    let namespace = Namespace::new("standalone").await;
    let scene = Scene::reached_by(&namespace, Provider::Globus, PODS).await;
    namespace.apply(&workload());
    namespace.apply(&proxy(&namespace, &scene.app.url(), ALICE));
    namespace
        .await_condition("app", "Available", "True", "MinimumReplicasAvailable")
        .await;
    namespace.await_available("workload");
    let names = pods(&namespace);
    assert_eq!(names.len(), 2, "{names:?}");

    // The two requests of a login may meet different pods.
    let browser = Browser::start().await;
    browser.open(&format!("{}/deep", scene.app.url())).await;
    browser.press(ALICE).await;
    let page = browser.await_text("x-forwarded-email").await;
    assert!(page.contains(ALICE) && page.contains("/deep"), "{page}");
    let value = browser.cookie("__Host-globus-auth").await;
    browser.close().await;
    let cookie = format!("__Host-globus-auth={value}");
    let mut each = Vec::new();
    for name in &names {
        let label = format!("test-pod={name}");
        namespace.kubectl(&["label", "pod", name, &label]);
        let target = Target {
            namespace: namespace.name.clone(),
            labels: label,
            port: 4180,
        };
        let client = namespace.client.clone();
        each.push(Forward::start(client, target).await.unwrap());
    }
    let everywhere = async |expected: StatusCode| {
        let started = Instant::now();
        for one in &each {
            eventually(&format!("{expected}"), SHORT, async || {
                let headers = [("cookie", cookie.as_str())];
                let seen = send(Method::GET, &one.url(), &headers, String::new()).await;
                if seen.status == expected {
                    Ok(())
                } else {
                    Err(seen.status)
                }
            })
            .await;
        }
        started.elapsed()
    };
    everywhere(StatusCode::OK).await;
    namespace.apply(&proxy(&namespace, &scene.app.url(), MALLORY));
    let removed = everywhere(StatusCode::FORBIDDEN).await;
    namespace.apply(&proxy(&namespace, &scene.app.url(), ALICE));
    let admitted = everywhere(StatusCode::OK).await;
    println!("standalone: removed after {removed:?}, admitted after {admitted:?}");
    assert!(removed.max(admitted) < Duration::from_secs(5));
    assert_eq!(pods(&namespace), names, "a pod was restarted");
}

#[tokio::test]
async fn what_runs_a_proxy_is_kept_as_it_must_be_and_goes_with_it() {
    let namespace = Namespace::new("standalone-life").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&workload());
    namespace.apply(&proxy(&namespace, &scene.app.url(), ALICE));
    namespace
        .await_condition("app", "Available", "True", "MinimumReplicasAvailable")
        .await;
    let objects = [
        format!("deployment/{MADE}"),
        format!("service/{MADE}"),
        format!("poddisruptionbudget/{MADE}"),
        format!("serviceaccount/{MADE}"),
        format!("configmap/{MADE}-nginx"),
    ];
    for object in &objects {
        let found = namespace.get(object);
        assert_eq!(found["metadata"]["ownerReferences"][0]["name"], "app");
    }

    // Drift is undone, and an autoscaler may set what is left out.
    namespace.kubectl(&["scale", &objects[0], "--replicas=1"]);
    let replicas = async |expected: u64| {
        eventually(&format!("{expected} replicas"), SHORT, async || {
            let seen = namespace.get(&objects[0])["spec"]["replicas"].clone();
            if seen == expected { Ok(()) } else { Err(seen) }
        })
        .await;
    };
    replicas(2).await;
    let patch = r#"[{"op": "remove", "path": "/spec/standalone/replicas"}]"#;
    namespace.kubectl(&["patch", "gap/app", "--type=json", "--patch", patch]);
    let observed = async || {
        let gap = namespace.get("gap/app");
        let newest: Value = gap["metadata"]["generation"].clone();
        let condition = &gap["status"]["conditions"][0]["observedGeneration"];
        if *condition == newest {
            Ok(())
        } else {
            Err(format!("{condition} of {newest}"))
        }
    };
    eventually("the edit to be observed", SHORT, observed).await;
    namespace.kubectl(&["scale", &objects[0], "--replicas=3"]);
    namespace.await_available(MADE);
    replicas(3).await;

    namespace.kubectl(&["delete", "gap/app", "--wait"]);
    for object in &objects {
        eventually(&format!("{object} to go"), SHORT, async || {
            let found = namespace.try_kubectl(&["get", object]);
            match found.status.success() {
                true => Err("it is there"),
                false => Ok(()),
            }
        })
        .await;
    }
}

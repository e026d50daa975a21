//! Pods with the sidecar behave like pods without, and pods that cannot have it are not created.

use serde_json::{Value, json};

use crate::cluster::{Namespace, SHORT, eventually};
use crate::workload::{ALICE, Provider, Scene, client_secret, echo, echo_pod, indent, proxy};

const URL: &str = "https://app.example.org";

/// A proxy whose provider is never asked.
fn some_proxy(namespace: &Namespace) {
    namespace.apply(&client_secret());
    namespace.apply(&proxy(
        URL,
        "Globus",
        "https://auth.globus.org",
        &format!("{{emails: [{ALICE}]}}"),
        "",
    ));
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\nspec:\n{}",
        indent(&echo_pod("127.0.0.1"), 2)
    )
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_labelled_pod_without_a_proxy_is_refused_with_a_sentence() {
    let namespace = Namespace::new("noproxy").await;
    let refused = namespace.try_apply(&pod("lonely", "{globus-auth.dev/inject: enabled}"));
    assert!(!refused.status.success());
    let sentence = stderr(&refused);
    assert!(
        sentence.contains(&format!(
            "no GlobusAuthProxy in namespace \"{}\" selects this pod",
            namespace.name
        )),
        "{sentence}"
    );
    // An unlabelled one is nobody's business.
    namespace.apply(&pod("plain", "{app: plain}"));
    let plain = namespace.get("pod/plain");
    assert!(plain["spec"]["initContainers"].is_null(), "{plain}");
}

#[tokio::test]
async fn an_unknown_port_is_refused_and_said_on_the_proxy() {
    let namespace = Namespace::new("badport").await;
    some_proxy(&namespace);
    namespace.kubectl(&[
        "patch",
        "gap",
        "app",
        "--type=merge",
        "--patch",
        r#"{"spec":{"upstream":{"port":"web"}}}"#,
    ]);
    let refused = eventually("a refusal", SHORT, async || {
        let refused =
            namespace.try_apply(&pod("app", "{app: app, globus-auth.dev/inject: enabled}"));
        let sentence = stderr(&refused);
        // The webhook learns of the change a moment later.
        if sentence.contains("named \"web\"") {
            Ok(sentence)
        } else {
            namespace.try_kubectl(&["delete", "pod", "app"]);
            Err(sentence)
        }
    })
    .await;
    assert!(refused.contains("declared: http (5000)"), "{refused}");
    let message = namespace
        .await_condition("app", "Injected", "False", "InjectionRefused")
        .await;
    assert!(
        message.contains("no container has a port named \"web\""),
        "{message}"
    );
    let events = namespace.events("GlobusAuthProxy", "app");
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("InjectionRefused")),
        "{events:?}"
    );

    namespace.kubectl(&[
        "patch",
        "gap",
        "app",
        "--type=merge",
        "--patch",
        r#"{"spec":{"upstream":{"port":"http"}}}"#,
    ]);
    eventually("an admission", SHORT, async || {
        let output =
            namespace.try_apply(&pod("app", "{app: app, globus-auth.dev/inject: enabled}"));
        if output.status.success() {
            Ok(())
        } else {
            Err(stderr(&output))
        }
    })
    .await;
    namespace
        .await_condition("app", "Injected", "True", "Injected")
        .await;
}

#[tokio::test]
async fn the_label_cannot_be_added_to_a_pod_that_runs() {
    let namespace = Namespace::new("late").await;
    some_proxy(&namespace);
    namespace.apply(&pod("late", "{app: app}"));
    let refused =
        namespace.try_kubectl(&["label", "pod", "late", "globus-auth.dev/inject=enabled"]);
    let sentence = stderr(&refused);
    assert!(sentence.contains("but not the sidecar"), "{sentence}");
    let message = namespace
        .await_condition("app", "Injected", "False", "PodsNotInjected")
        .await;
    assert!(
        message.contains("\"late\"") && message.contains("restart the workload"),
        "{message}"
    );
    assert_eq!(
        namespace.get("gap/app")["status"]["pods"],
        json!({"injected": 0, "stale": 0, "uninjected": 1})
    );
}

#[tokio::test]
async fn a_stored_pod_needs_no_further_patch() {
    let namespace = Namespace::new("stable").await;
    some_proxy(&namespace);
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let pods = namespace.get("pods");
    let stored = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["metadata"]["labels"]["app"] == "app")
        .unwrap();
    // The same pod, as the API server has filled it in, goes through the webhook again.
    let mut again = stored.clone();
    again["metadata"] = json!({"name": "again", "labels": stored["metadata"]["labels"], "annotations": stored["metadata"]["annotations"]});
    again.as_object_mut().unwrap().remove("status");
    again["spec"].as_object_mut().unwrap().remove("nodeName");
    let mut command = crate::cluster::kubectl(&[
        "--namespace",
        &namespace.name,
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename",
        "-",
    ]);
    command.arg("--validate=strict");
    let output = crate::cluster::run(command, &again.to_string());
    assert!(output.status.success(), "{}", stderr(&output));
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    for part in ["containers", "initContainers", "volumes"] {
        assert_eq!(created["spec"][part], again["spec"][part], "{part}");
    }
}

#[tokio::test]
async fn a_job_with_the_sidecar_completes() {
    let namespace = Namespace::new("job").await;
    some_proxy(&namespace);
    let pod = echo_pod("127.0.0.1")
        .replace(
            "command: [/usr/bin/echo-upstream, --listen, '127.0.0.1:5000']",
            "command: [/usr/bin/echo-upstream, --help]",
        )
        .replace(
            "  readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}\n",
            "",
        );
    namespace.apply(&format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  backoffLimit: 0\n  template:\n    metadata: {{labels: {{app: app, globus-auth.dev/inject: enabled}}}}\n    spec:\n      restartPolicy: Never\n{}",
        indent(&pod, 6)
    ));
    namespace.kubectl(&[
        "wait",
        "job/job",
        "--for=condition=Complete",
        "--timeout=60s",
    ]);
}

#[tokio::test]
async fn restart_scale_exec_and_logs_work_as_without_us() {
    let namespace = Namespace::new("daily").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    namespace.kubectl(&["rollout", "restart", "deployment/app"]);
    namespace.await_available("app");
    namespace.kubectl(&["scale", "deployment/app", "--replicas=3"]);
    namespace.await_available("app");
    eventually("3 pods", SHORT, async || {
        let pods = namespace.get("gap/app")["status"]["pods"].clone();
        if pods == json!({"injected": 3, "stale": 0, "uninjected": 0}) {
            Ok(())
        } else {
            Err(pods)
        }
    })
    .await;
    // Neither names a container, and neither is told that there are several.
    let logs = namespace.try_kubectl(&["logs", "deployment/app"]);
    assert!(
        logs.status.success() && !stderr(&logs).contains("Defaulted"),
        "{}",
        stderr(&logs)
    );
    let exec = namespace.try_kubectl(&[
        "exec",
        "deployment/app",
        "--",
        "/usr/bin/echo-upstream",
        "--help",
    ]);
    assert!(
        exec.status.success() && !stderr(&exec).contains("Defaulted"),
        "{}",
        stderr(&exec)
    );
    assert!(String::from_utf8_lossy(&exec.stdout).contains("--listen"));
}

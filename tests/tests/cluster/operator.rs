//! The operator itself: down, upgraded, uninstalled, and with certificates that change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::StatusCode;

use crate::cluster::{
    LONG, Namespace, SHORT, SYSTEM, eventually, expect_success, helm, install, kubectl, run,
};
use crate::workload::{ALICE, Provider, Scene, client_secret, echo, echo_pod, indent, proxy};

pub(crate) fn scale(replicas: u32) {
    let output = run(
        kubectl(&[
            "--namespace",
            SYSTEM,
            "scale",
            "deployment/globus-auth",
            &format!("--replicas={replicas}"),
        ]),
        "",
    );
    expect_success(&output, "scale");
}

pub(crate) fn await_operator() {
    let status = [
        "--namespace",
        SYSTEM,
        "rollout",
        "status",
        "deployment/globus-auth",
        "--timeout=120s",
    ];
    expect_success(&run(kubectl(&status), ""), "rollout status");
}

/// Whether the API server would take `pod`; nothing is stored.
fn admit(namespace: &str, pod: &str) -> Result<(), String> {
    let create = [
        "--namespace",
        namespace,
        "create",
        "--dry-run=server",
        "--filename",
        "-",
    ];
    let output = run(kubectl(&create), pod);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Waits until the webhook's Service leads to the operator: a pod that is ready is not at once
/// behind the Service's address, since every node writes its own rules.
async fn await_admission(namespace: &Namespace, pod: &str) {
    eventually("an admission", SHORT, async || admit(&namespace.name, pod)).await;
}

fn pod(name: &str, labels: &str, listen: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\nspec:\n{}",
        indent(&echo_pod(listen), 2)
    )
}

#[tokio::test]
async fn while_the_operator_is_down_pods_serve_plain_pods_start_and_labelled_ones_are_refused() {
    let namespace = Namespace::alone("down").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let bearer = format!("Bearer {}", scene.token(ALICE).await);

    scale(0);
    let gone = [
        "--namespace",
        SYSTEM,
        "wait",
        "pod",
        "--selector=app.kubernetes.io/component=operator",
        "--for=delete",
        "--timeout=60s",
    ];
    expect_success(&run(kubectl(&gone), ""), "wait for the operator to go");
    assert_eq!(
        scene.get("/", &[("authorization", &bearer)]).await.status,
        StatusCode::OK
    );
    // Without a sidecar, the kubelet's probe comes to the workload itself.
    namespace.apply(&pod("plain", "{app: plain}", "0.0.0.0"));
    namespace.kubectl(&[
        "wait",
        "pod/plain",
        "--for=condition=Ready",
        "--timeout=60s",
    ]);
    let refused = namespace.try_apply(&pod(
        "labelled",
        "{app: app, globus-auth.dev/inject: enabled}",
        "127.0.0.1",
    ));
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && sentence.contains("inject.globus-auth.dev"),
        "{sentence}"
    );

    scale(2);
    await_operator();
    let labelled = pod(
        "labelled",
        "{app: app, globus-auth.dev/inject: enabled}",
        "127.0.0.1",
    );
    await_admission(&namespace, &labelled).await;
}

#[tokio::test]
async fn an_upgrade_counts_old_sidecars_as_stale_and_restarts_nothing() {
    let namespace = Namespace::alone("upgrade").await;
    namespace.apply(&client_secret());
    namespace.apply(&proxy(
        "https://app.example.org",
        "Globus",
        "https://auth.globus.org",
        "{}",
        "",
    ));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let uid = |namespace: &Namespace| namespace.get("pods")["items"][0]["metadata"]["uid"].clone();
    let before = uid(&namespace);
    install(&["sidecar.tag=next"]);
    eventually("a stale pod", LONG, async || {
        let pods = namespace.get("gap/app")["status"]["pods"].clone();
        if pods["stale"] == 1 {
            Ok(())
        } else {
            Err(pods)
        }
    })
    .await;
    assert_eq!(uid(&namespace), before, "the pod was restarted");
    install(&[]);
    eventually("no stale pod", LONG, async || {
        let pods = namespace.get("gap/app")["status"]["pods"].clone();
        if pods["stale"] == 0 {
            Ok(())
        } else {
            Err(pods)
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_change_under_load_without_one_failed_admission() {
    let namespace = Namespace::alone("rotation").await;
    namespace.apply(&client_secret());
    namespace.apply(&proxy(
        "https://app.example.org",
        "Globus",
        "https://auth.globus.org",
        "{}",
        "",
    ));
    // An authority lasts 30 seconds: a new one is announced after 20, and signs 4 seconds later.
    let short = [
        "certificates.authorityLifetimeSeconds=30",
        "certificates.leafLifetimeSeconds=10",
        "certificates.announcementSeconds=4",
    ];
    // The authority of the normal lifetimes must go first.
    let delete = [
        "--namespace",
        SYSTEM,
        "delete",
        "secret",
        "globus-auth-certificates",
    ];
    scale(0);
    expect_success(&run(kubectl(&delete), ""), "delete the authorities");
    install(&short);
    await_operator();
    let labelled = pod(
        "load",
        "{app: app, globus-auth.dev/inject: enabled}",
        "127.0.0.1",
    );
    await_admission(&namespace, &labelled).await;
    let authority = || {
        let get = [
            "get",
            "mutatingwebhookconfiguration",
            "globus-auth",
            "--output=jsonpath={.webhooks[0].clientConfig.caBundle}",
        ];
        let output = run(kubectl(&get), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (stop, admitted) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let load = {
        let (stop, admitted, name) = (
            Arc::clone(&stop),
            Arc::clone(&admitted),
            namespace.name.clone(),
        );
        std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match admit(&name, &labelled) {
                    Ok(()) => {
                        admitted.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(sentence) => {
                        failures.push((admitted.load(Ordering::SeqCst), sentence));
                    }
                }
            }
            failures
        })
    };
    let seen = parking_lot::Mutex::new(std::collections::BTreeSet::new());
    eventually("two new authorities", LONG, async || {
        let mut seen = seen.lock();
        seen.insert(authority());
        // Each change shows as: announced, promoted, forgotten.
        if seen.len() > 6 {
            Ok(())
        } else {
            Err(format!("{} bundles", seen.len()))
        }
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let failures = load.join().unwrap();
    println!(
        "{} admissions while the authorities changed",
        admitted.load(Ordering::SeqCst)
    );
    assert!(failures.is_empty(), "{failures:?}");
    assert!(admitted.load(Ordering::SeqCst) > 50);
    scale(0);
    expect_success(&run(kubectl(&delete), ""), "delete the authorities");
    install(&[]);
    await_operator();
}

#[tokio::test]
async fn uninstalling_keeps_the_definitions_and_what_was_defined() {
    let namespace = Namespace::alone("uninstall").await;
    namespace.apply(&client_secret());
    namespace.apply(&proxy(
        "https://app.example.org",
        "Globus",
        "https://auth.globus.org",
        "{}",
        "",
    ));
    expect_success(
        &helm(&["uninstall", "globus-auth", "--namespace", SYSTEM, "--wait"]),
        "helm uninstall",
    );
    assert_eq!(namespace.get("gap/app")["metadata"]["name"], "app");
    // Without webhook and policy, a labelled pod is a pod like any other.
    namespace.apply(&pod(
        "labelled",
        "{app: app, globus-auth.dev/inject: enabled}",
        "127.0.0.1",
    ));
    install(&[]);
    namespace
        .await_condition("app", "Injected", "False", "PodsNotInjected")
        .await;
}

#[tokio::test]
async fn the_chart_renders_for_minimal_and_full_values_and_refuses_nonsense() {
    let chart = "../charts/globus-auth";
    expect_success(&helm(&["lint", chart, "--strict"]), "helm lint");
    let template = |values: &[&str]| {
        let mut arguments = vec![
            "template",
            "x",
            chart,
            "--namespace",
            "ns",
            "--kube-version",
            "1.33.0",
        ];
        for value in values {
            arguments.extend(["--set", value]);
        }
        helm(&arguments)
    };
    expect_success(&template(&[]), "minimal");
    let full = [
        "replicas=3",
        "image.tag=v1",
        "image.pullSecrets[0].name=pull",
        "sidecar.tag=v2",
        "sidecar.runAsUser=null",
        "crds.enabled=false",
        "logLevel=debug",
        "webhook.excludedNamespaces={a,b}",
        "podAnnotations.a=b",
        "podLabels.c=d",
        "nodeSelector.disk=ssd",
        "tolerations[0].key=k",
        "priorityClassName=high",
        "serviceAccount.annotations.e=f",
        "networkPolicy.enabled=false",
        "podDisruptionBudget.enabled=false",
        "monitoring.podMonitor=true",
    ];
    let rendered = template(&full);
    expect_success(&rendered, "full");
    let rendered = String::from_utf8_lossy(&rendered.stdout).into_owned();
    assert!(
        rendered.contains("globus-auth-sidecar:v2") && !rendered.contains("--sidecar-run-as-user"),
        "{rendered}"
    );
    assert!(!rendered.contains("kind: CustomResourceDefinition"));
    let refused = template(&["replica=3"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("replica"),
        "an unknown value was accepted"
    );
    let old = helm(&["template", "x", chart, "--kube-version", "1.32.9"]);
    assert!(
        String::from_utf8_lossy(&old.stderr).contains("1.33"),
        "an old cluster was accepted"
    );
}

//! Nobody walks around the proxy, and nobody claims to be somebody.

use http::StatusCode;

use crate::cluster::Namespace;
use crate::workload::{ALICE, Provider, Scene, echo, python};

/// Asks addresses of the pod from another pod, and says what each answered.
const PROBE: &str = r"
import os, urllib.request, urllib.error
for url in os.environ['URLS'].split():
    try:
        status = urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as error:
        status = error.code
    except Exception as error:
        status = type(error).__name__
    print(url, status)
";

fn pod_ip(namespace: &Namespace) -> String {
    let pods = namespace.get("pods");
    let pods = pods["items"].as_array().unwrap().clone();
    let app = pods
        .iter()
        .find(|pod| pod["metadata"]["labels"]["app"] == "app")
        .unwrap();
    app["status"]["podIP"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pod_address_and_service_reach_only_the_proxy() {
    let namespace = Namespace::new("reach").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let ip = pod_ip(&namespace);
    let urls = format!(
        "http://app.{}.svc http://{ip}:4180 http://{ip}:5000",
        namespace.name
    );
    let said = python(&namespace, "probe", PROBE, &[("URLS", &urls)]);
    let answers: Vec<&str> = said
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(answers, ["401", "401", "URLError"], "{said}");
    namespace
        .await_condition("app", "UpstreamProtected", "True", "ListeningOnLoopback")
        .await;
}

#[tokio::test]
async fn a_workload_on_every_address_is_named_and_the_policy_admits_only_the_proxy() {
    let namespace = Namespace::new("exposed").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("0.0.0.0"));
    namespace.await_available("app");
    let message = namespace
        .await_condition(
            "app",
            "UpstreamProtected",
            "False",
            "ListeningOnAllInterfaces",
        )
        .await;
    assert!(message.contains("0.0.0.0:5000"), "{message}");
    let events = namespace.events("GlobusAuthProxy", "app");
    assert!(
        events
            .iter()
            .any(|event| event.contains("ListeningOnAllInterfaces")),
        "{events:?}"
    );

    let policy = namespace.get("networkpolicy/app-globus-auth")["spec"].clone();
    assert_eq!(
        policy["podSelector"]["matchLabels"],
        serde_json::json!({"app": "app"})
    );
    assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress"]));
    assert_eq!(
        policy["ingress"],
        serde_json::json!([{"ports": [{"port": 4180, "protocol": "TCP"}]}])
    );
}

#[tokio::test]
async fn exposure_refuse_keeps_the_pod_unready_until_the_workload_moves() {
    let namespace = Namespace::new("refuse").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let proxy = scene
        .proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), "")
        .replace("{port: http}", "{port: http, exposure: Refuse}");
    namespace.apply(&proxy);
    namespace.apply(&echo("0.0.0.0"));
    namespace
        .await_condition(
            "app",
            "UpstreamProtected",
            "False",
            "ListeningOnAllInterfaces",
        )
        .await;
    namespace
        .await_condition("app", "Ready", "False", "ListeningOnAllInterfaces")
        .await;
    let available = namespace.get("deployment/app")["status"]["availableReplicas"].clone();
    assert!(available.is_null(), "{available}");
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    namespace
        .await_condition("app", "Ready", "True", "Ready")
        .await;
}

#[tokio::test]
async fn a_forged_identity_never_reaches_the_workload() {
    let namespace = Namespace::new("forged").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), ""));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    let bearer = format!("Bearer {}", scene.token(ALICE).await);
    let answer = scene
        .get(
            "/",
            &[
                ("authorization", &bearer),
                ("X-Forwarded-Email", "boss@example.org"),
                ("x-forwarded-EMAIL", "boss@example.org"),
                ("x_forwarded_email", "boss@example.org"),
                ("connection", "X-Forwarded-Email, keep-alive"),
            ],
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.body.contains("boss@example.org"), "{}", answer.body);
    assert!(answer.body.contains(ALICE), "{}", answer.body);
    assert!(
        !answer.body.contains(&bearer),
        "the token reached the workload"
    );
}

#[tokio::test]
async fn a_numeric_port_is_taken_over_on_the_address_of_the_pod() {
    let namespace = Namespace::new("numeric").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let proxy = scene
        .proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), "")
        .replace("{port: http}", "{port: 5000}");
    namespace.apply(&proxy);
    namespace.apply(&echo("127.0.0.1").replace("targetPort: http", "targetPort: 5000"));
    namespace.await_available("app");
    let ip = pod_ip(&namespace);
    let urls = format!("http://app.{}.svc http://{ip}:5000", namespace.name);
    let said = python(&namespace, "probe", PROBE, &[("URLS", &urls)]);
    let answers: Vec<&str> = said
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(answers, ["401", "401"], "{said}");
    let policy = namespace.get("networkpolicy/app-globus-auth")["spec"].clone();
    assert_eq!(policy["ingress"][0]["ports"][0]["port"], 5000);
}

//! What Kubernetes can do, as far as globus-auth needs it.

use serde_json::json;

use crate::cluster::Cluster;

/// One cluster for all: it takes longer to start than everything else.
#[test]
#[ignore = "needs root and Kubernetes"]
fn a_whole_kubernetes() {
    let cluster = Cluster::up("whole");
    a_service_leads_to_a_pod(&cluster);
    a_job_ends(&cluster);
    tokens_are_for_their_audience(&cluster);
    pod_security_and_policies_are_enforced(&cluster);
    images_outlive_the_cluster(&cluster);
}

fn a_service_leads_to_a_pod(cluster: &Cluster) {
    // The first is a native sidecar.
    cluster.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "initContainers": [{"name": "sidecar", "image": PAUSE, "restartPolicy": "Always"}],
            "containers": [{"name": "web", "image": PAUSE, "ports": [{"name": "http", "containerPort": 8080}]}],
        },
    }));
    cluster.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=http"]);
    cluster.kubectl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]);
    cluster.kubectl(&[
        "wait",
        "endpointslice",
        "--selector=kubernetes.io/service-name=web",
        "--for=jsonpath={.endpoints[0].conditions.ready}=true",
        "--timeout=10s",
    ]);
    let address = cluster.kubectl(&[
        "get",
        "service",
        "web",
        "--output=jsonpath={.spec.clusterIP}",
    ]);
    let resolved = cluster.succeeds(&["exec", "getent", "hosts", "web.default.svc.cluster.local"]);
    assert!(resolved.starts_with(&address), "{resolved}");
    // Through the API server to the kubelet and containerd, and back.
    let said = cluster.kubectl(&["exec", "web", "--container=web", "--", "/pause", "-v"]);
    assert!(said.starts_with("pause"), "{said}");
    cluster.kubectl(&["logs", "web", "--container=web"]);
    // The same kubeconfig is good inside.
    cluster.succeeds(&["exec", "kubectl", "get", "pod", "web"]);
}

fn a_job_ends(cluster: &Cluster) {
    cluster.kubectl(&[
        "create", "job", "done", "--image", PAUSE, "--", "/pause", "-v",
    ]);
    cluster.kubectl(&[
        "wait",
        "job/done",
        "--for=condition=Complete",
        "--timeout=60s",
    ]);
}

fn tokens_are_for_their_audience(cluster: &Cluster) {
    let token = cluster.kubectl(&["create", "token", "default", "--audience=globus-auth"]);
    let review = |audience: &str| {
        let review = cluster.create(&json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token.trim(), "audiences": [audience]},
        }));
        review["status"].clone()
    };
    let status = review("globus-auth");
    assert_eq!(status["authenticated"], true);
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    assert_eq!(
        review("somebody-else")["authenticated"],
        serde_json::Value::Null
    );
}

fn pod_security_and_policies_are_enforced(cluster: &Cluster) {
    cluster.create(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }));
    let words = ["--namespace=strict", "run", "loose", "--image", PAUSE];
    let refused = cluster.try_kubectl(&words);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("violates PodSecurity"), "{stderr}");

    cluster.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-secrets"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"],
            }]},
            "validations": [{"expression": "false", "message": "there shall be no secrets"}],
        },
    }));
    cluster.create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-secrets"},
        "spec": {"policyName": "no-secrets", "validationActions": ["Deny"]},
    }));
    // The API server learns of a policy a moment later.
    let is_refused = || {
        let refused =
            cluster.try_kubectl(&["create", "secret", "generic", "secret", "--dry-run=server"]);
        String::from_utf8_lossy(&refused.stderr).contains("there shall be no secrets")
    };
    assert!((0..100).any(|_attempt| is_refused()));
}

fn images_outlive_the_cluster(cluster: &Cluster) {
    let content = cluster
        .state
        .join("containerd/io.containerd.content.v1.content/blobs/sha256");
    let before = std::fs::read_dir(&content).unwrap().count();
    cluster.succeeds(&["down"]);
    cluster.succeeds(&["up"]);
    assert_eq!(std::fs::read_dir(&content).unwrap().count(), before);
    // Pods do not.
    assert_eq!(
        cluster.kubectl(&["get", "pods", "--all-namespaces", "--output=name"]),
        ""
    );
    cluster.kubectl(&["run", "again", "--image", PAUSE]);
    cluster.kubectl(&[
        "wait",
        "pod/again",
        "--for=condition=Ready",
        "--timeout=60s",
    ]);
}

const PAUSE: &str = "localhost/pause:1";

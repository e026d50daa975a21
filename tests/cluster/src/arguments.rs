//! The command lines of the parts. Pure: words from values.

use crate::config::{
    API_ADDRESS, API_PORT, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_ACCOUNT_ISSUER,
    SERVICE_RANGE,
};
use crate::files::Files;
use crate::mounts::STATE;

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";

/// etcd keeps its data in memory: a cluster that ended is not started again from it.
pub(crate) fn etcd() -> Vec<String> {
    vec![
        "--data-dir=/run/etcd".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={ETCD_PEERS}"),
        format!("--initial-advertise-peer-urls={ETCD_PEERS}"),
        format!("--initial-cluster=default={ETCD_PEERS}"),
        "--log-level=error".to_owned(),
    ]
}

pub(crate) fn api_server(files: &Files) -> Vec<String> {
    let file = |option: &str, name: &str| format!("--{option}={}", files.path(name));
    vec![
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={API_ADDRESS}"),
        format!("--bind-address={API_ADDRESS}"),
        format!("--secure-port={API_PORT}"),
        file("tls-cert-file", "api.crt"),
        file("tls-private-key-file", "api.key"),
        file("client-ca-file", "ca.crt"),
        // Without it, no extension-apiserver-authentication is written, and others wait for that.
        file("requestheader-client-ca-file", "ca.crt"),
        file("kubelet-client-certificate", "kubelet-client.crt"),
        file("kubelet-client-key", "kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--service-account-issuer={SERVICE_ACCOUNT_ISSUER}"),
        file("service-account-key-file", "tokens.pub"),
        file("service-account-signing-key-file", "tokens.key"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

pub(crate) fn containerd(files: &Files) -> Vec<String> {
    vec!["--config".to_owned(), files.path("containerd.toml")]
}

pub(crate) fn controller_manager(files: &Files) -> Vec<String> {
    let mut arguments = delegating(&files.path("controller-manager.conf"));
    arguments.extend([
        format!(
            "--service-account-private-key-file={}",
            files.path("tokens.key")
        ),
        format!("--root-ca-file={}", files.path("ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        // Each controller asks for a token of its own: with the usual limit, that takes three seconds.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        format!("--cluster-cidr={POD_RANGE}"),
    ]);
    arguments
}

pub(crate) fn scheduler(files: &Files) -> Vec<String> {
    delegating(&files.path("scheduler.conf"))
}

/// There is one of each, and it asks the API server who its own clients are.
fn delegating(kubeconfig: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
    ]
}

pub(crate) fn kubelet(files: &Files) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.path("kubelet.conf")),
        format!("--config={}", files.path("kubelet.json")),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
        format!("--root-dir={STATE}/kubelet"),
        format!("--cert-dir={STATE}/kubelet/pki"),
    ]
}

pub(crate) fn kube_proxy(files: &Files) -> Vec<String> {
    vec![format!("--config={}", files.path("kube-proxy.json"))]
}

pub(crate) fn coredns(files: &Files) -> Vec<String> {
    vec!["-conf".to_owned(), files.path("Corefile")]
}

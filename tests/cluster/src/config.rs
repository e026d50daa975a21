//! What the parts of the cluster are told. Pure: text from values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::Identity;

/// The node's own address.
pub(crate) const NODE_ADDRESS: &str = "10.89.0.1";
/// Where the API server listens.
pub(crate) const API_ADDRESS: &str = NODE_ADDRESS;
/// The Service `kubernetes.default`.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";
/// The Service `kube-dns.kube-system`.
pub(crate) const DNS_ADDRESS: &str = "10.96.0.10";
pub(crate) const NODE_NAME: &str = "node0";
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
pub(crate) const POD_RANGE: &str = "10.244.0.0/16";
const NODE_POD_RANGE: &str = "10.244.0.0/24";
pub(crate) const API_PORT: u16 = 6443;
/// Who signs the token of a ServiceAccount.
pub(crate) const SERVICE_ACCOUNT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The image of every pod's first process.
pub(crate) const PAUSE_IMAGE: &str = "localhost/pause:1";
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// How `identity` reaches the API server at `address`.
pub(crate) fn kubeconfig(address: &str, authority: &str, identity: &Identity) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": address, "certificate-authority-data": data(authority)}}],
        "users": [{"name": "user", "user": {
            "client-certificate-data": data(&identity.certificate),
            "client-key-data": data(&identity.key),
        }}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
        "current-context": "local",
    })
    .to_string()
}

/// The kubelet's configuration. Its cgroups stay below `cgroup`, its client authority is in `authority`.
pub(crate) fn kubelet(cgroup: &str, authority: &str, resolv_conf: &str) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        // The disk is shared with everything else on the machine: its fill level is not ours to act on.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "failCgroupV1": false,
        "failSwapOn": false,
        "maxPods": 200,
        // Without CAP_SYS_RESOURCE a lower score cannot be set.
        "oomScoreAdj": 0,
        "podLogsDir": "/var/log/pods",
        "resolvConf": resolv_conf,
        "nodeStatusUpdateFrequency": "5s",
    })
    .to_string()
}

/// kube-proxy's configuration.
pub(crate) fn kube_proxy(kubeconfig: &str) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        "mode": "nftables",
        // The table of connections belongs to the host.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    })
    .to_string()
}

/// containerd's configuration. Images are in `root`, network plugins in `cni`.
pub(crate) fn containerd(root: &str, cni: &str, cni_configuration: &str) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a lower score cannot be set.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{cni_configuration}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// The pods' network: a link to the node for each pod. Unlike on a bridge, answers of a Service's pod to
/// another pod come back through the node and kube-proxy's rules, without the module `br_netfilter`.
pub(crate) fn cni() -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp", "ipMasq": false,
                "ipam": {
                    "type": "host-local", "dataDir": "/run/cni",
                    "ranges": [[{"subnet": NODE_POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// CoreDNS's configuration. It runs beside the cluster, as a process of the node.
pub(crate) fn corefile(kubeconfig: &str) -> String {
    format!(
        ".:53 {{
  bind {NODE_ADDRESS}
  errors
  ready {NODE_ADDRESS}:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5
}}
"
    )
}

/// Name resolution of the node, and of commands run inside the cluster.
pub(crate) fn resolv_conf() -> String {
    format!("nameserver {NODE_ADDRESS}\nsearch svc.cluster.local cluster.local\n")
}

/// Where the programs of commands inside look names up: in files, and in the cluster's DNS. Other sources,
/// such as a resolver of the host that is asked through a socket, do not know the cluster.
pub(crate) fn nsswitch_conf(of_the_host: &str) -> String {
    let others = of_the_host
        .lines()
        .filter(|line| !line.trim_start().starts_with("hosts:"));
    let lines: Vec<&str> = others.chain(["hosts: files dns"]).collect();
    lines.join("\n") + "\n"
}

/// The Service that leads pods to CoreDNS.
pub(crate) fn dns_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                "spec": {"clusterIP": DNS_ADDRESS, "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "kube-dns-node", "namespace": "kube-system",
                    "labels": {
                        "kubernetes.io/service-name": "kube-dns",
                        "endpointslice.kubernetes.io/managed-by": "globus-auth-cluster",
                    },
                },
                "addressType": "IPv4",
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
                "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": true}}],
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_stays_below_its_own_cgroup() {
        let config: Value =
            serde_json::from_str(&kubelet("globus-auth-1", "/ca", "/resolv")).unwrap();
        assert_eq!(config["cgroupRoot"], "/globus-auth-1");
    }

    #[test]
    fn names_are_looked_up_in_the_clusters_dns_only() {
        assert_eq!(
            nsswitch_conf("passwd: files ldap\nhosts: mymachines resolve [!UNAVAIL=return] dns\n"),
            "passwd: files ldap\nhosts: files dns\n"
        );
        assert_eq!(nsswitch_conf(""), "hosts: files dns\n");
    }

    #[test]
    fn generated_configuration_is_json() {
        for json in [
            cni(),
            kube_proxy("/proxy.conf"),
            kubelet("id", "/ca", "/resolv"),
        ] {
            assert!(serde_json::from_str::<Value>(&json).unwrap().is_object());
        }
    }

    #[test]
    fn a_kubeconfig_carries_everything_that_it_needs() {
        let identity = Identity {
            certificate: "cert".to_owned(),
            key: "key".to_owned(),
        };
        let config: Value =
            serde_json::from_str(&kubeconfig("https://127.0.0.1:1", "ca", &identity)).unwrap();
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://127.0.0.1:1"
        );
        assert_eq!(config["users"][0]["user"]["client-key-data"], "a2V5");
    }
}

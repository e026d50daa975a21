//! The cluster from the inside: the first process of its own process, mount and network namespaces.
//!
//! When this process ends, for whatever reason, the kernel ends every other process of the namespace, and
//! with the last of them its mounts, interfaces and sockets go. Nothing has to be cleaned up by hand but
//! the cgroups.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::arguments;
use crate::command::{run, run_with_input};
use crate::config::{self, API_ADDRESS, API_PORT, DNS_ADDRESS, NODE_NAME};
use crate::files::Files;
use crate::forward;
use crate::images;
use crate::mounts::{self, HOME, STATE};
use crate::network;
use crate::parts::Parts;
use crate::paths::READY;
use crate::progress::step;

/// What the supervisor is told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The folder of this cluster.
    pub(crate) state: PathBuf,
    /// The folder of the programs of one version.
    pub(crate) programs: PathBuf,
    /// The folder of the network plugins.
    pub(crate) cni: PathBuf,
    /// Below which cgroup everything stays.
    pub(crate) id: String,
}

/// Runs the cluster until it is asked to stop.
///
/// # Errors
/// A part of it ended, or did not come up. The reason is also left in the state folder.
pub(crate) fn run_cluster(plan: &Plan) -> anyhow::Result<()> {
    // Opened first: later, the folder is elsewhere.
    let ended = fs::File::create(plan.state.join("ended")).context("failed to open a file")?;
    let result = start(plan).and_then(|mut cluster| {
        cluster.parts.watch()?;
        // Everything else is thrown away; images are kept, and with them what containerd knows of them.
        cluster.parts.stop("containerd")
    });
    let reason = match &result {
        Ok(()) => "it was asked to stop".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    std::io::Write::write_all(&mut &ended, reason.as_bytes()).unwrap_or_default();
    result
}

/// A cluster that is up.
struct Cluster {
    parts: Parts,
}

fn start(plan: &Plan) -> anyhow::Result<Cluster> {
    let outside = host_listener()?;
    let port = outside.local_addr().context("no listener")?.port();
    let cache = plan
        .programs
        .parent()
        .context("the programs have no folder")?;
    let bin = plan
        .programs
        .file_name()
        .context("the programs have no name")?;
    let mut parts = Parts::new(Path::new(bin))?;
    let files = step("namespaces, keys", || {
        mounts::lay_out(&plan.state, cache)?;
        network::lay_out()?;
        Files::write(&plan.cni, &plan.id, port)
    })?;
    // The same port leads to the API server inside, so that one kubeconfig is good for both sides.
    let inside =
        TcpListener::bind(("127.0.0.1", port)).context("failed to listen inside the cluster")?;
    let api = SocketAddr::new(API_ADDRESS.parse()?, API_PORT);
    forward::start(outside, api);
    forward::start(inside, api);

    let kubectl = Kubectl {
        program: parts.program("kubectl"),
        kubeconfig: files.path("admin.conf"),
    };
    step("containerd, etcd, API server", || {
        parts.start("etcd", &arguments::etcd())?;
        parts.start("kube-apiserver", &arguments::api_server(&files))?;
        parts.start("containerd", &arguments::containerd(&files))?;
        images::prepare(&mut parts, &files)?;
        // The others end if they are not allowed to do what they must, which is decided just before this.
        parts.wait_for("the API server", |_| {
            kubectl.succeeds(&["get", "--raw", "/readyz"])
        })
    })?;
    step("node", || {
        parts.start("kubelet", &arguments::kubelet(&files))?;
        parts.start(
            "kube-controller-manager",
            &arguments::controller_manager(&files),
        )?;
        parts.start("kube-scheduler", &arguments::scheduler(&files))?;
        parts.start("kube-proxy", &arguments::kube_proxy(&files))?;
        parts.start("coredns", &arguments::coredns(&files))?;
        parts.wait_for("the node", |_| kubectl.node_is_ready())
    })?;
    step("cluster DNS, namespaces", || usable(&mut parts, &kubectl))?;
    fs::write(Path::new(STATE).join(READY), "").context("failed to say that it is ready")?;
    Ok(Cluster { parts })
}

/// Waits for what pods need beside a node.
fn usable(parts: &mut Parts, kubectl: &Kubectl) -> anyhow::Result<()> {
    parts.wait_for("the namespace kube-system", |_| {
        kubectl.succeeds(&["get", "namespace", "kube-system"])
    })?;
    kubectl.apply(&config::dns_service().to_string())?;
    // Asked through its Service, which proves kube-proxy as well.
    let dns = DNS_ADDRESS
        .parse()
        .context("the address of the DNS is none")?;
    parts.wait_for("the cluster's DNS", |_| {
        crate::dns::resolves("kubernetes.default.svc.cluster.local", dns)
    })?;
    // No pod is admitted before its ServiceAccount is there.
    parts.wait_for("the ServiceAccount of the namespace default", |_| {
        kubectl.succeeds(&["--namespace=default", "get", "serviceaccount", "default"])
    })
}

/// The listener in the host's network, handed over as the standard input.
fn host_listener() -> anyhow::Result<TcpListener> {
    let inherited = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no listener was handed over")?;
    Ok(TcpListener::from(inherited))
}

/// kubectl, as the administrator.
struct Kubectl {
    program: PathBuf,
    kubeconfig: String,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("HOME", HOME)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        command
    }

    fn succeeds(&self, arguments: &[&str]) -> bool {
        run(&mut self.command(arguments)).is_ok()
    }

    fn node_is_ready(&self) -> bool {
        let condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        run(&mut self.command(&["get", "node", NODE_NAME, "--output", condition]))
            .is_ok_and(|status| status == "True")
    }

    fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        run_with_input(&mut self.command(&["apply", "--filename", "-"]), manifest).map(drop)
    }
}

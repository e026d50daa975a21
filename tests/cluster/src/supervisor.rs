//! The cluster from the inside: the first process of its own process, mount and network namespaces.
//!
//! When this process ends, for whatever reason, the kernel ends every other process of the namespace, and
//! with the last of them its mounts, interfaces and sockets go. Nothing has to be cleaned up by hand but
//! the cgroups.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, WaitOptions, wait};

use crate::command::{command, run, tail};
use crate::config::{
    self, API_ADDRESS, API_PORT, CONTAINERD_SOCKET, NODE_ADDRESS, NODE_NAME, POD_RANGE,
    SERVICE_RANGE,
};
use crate::forward;
use crate::images;
use crate::pki::{self, Authority, write_secret};

/// What the supervisor is told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) state: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) cni: PathBuf,
    pub(crate) id: String,
}

/// Runs the cluster until a part of it ends.
///
/// # Errors
/// What ended, or could not be started. There is no good end: a cluster is stopped by ending this process.
pub(crate) fn run_cluster(plan: &Plan) -> anyhow::Result<()> {
    let listener = host_listener()?;
    mounts(&plan.state).context("failed to make the mounts")?;
    network().context("failed to make the network")?;
    let files = Files::write(plan, listener.local_addr()?.port())?;
    let mut parts = Parts {
        plan: plan.clone(),
        running: HashMap::new(),
    };

    parts.start("etcd", &etcd())?;
    parts.start("kube-apiserver", &api_server(&files))?;
    parts.start(
        "containerd",
        &["--config", &files.path("containerd.toml")].map(str::to_owned),
    )?;
    images::prepare(&parts.program("pause"), &plan.state, || {
        parts.restart_containerd(&files)
    })?;
    let api = SocketAddr::new(API_ADDRESS.parse()?, API_PORT);
    forward::start(listener, api);
    // The others end if they are not allowed to do what they must, which is decided shortly before this.
    let (kubectl, kubeconfig) = (parts.program("kubectl"), files.path("admin.conf"));
    wait_for("the API server", || {
        let ready = ["--kubeconfig", &kubeconfig, "get", "--raw", "/readyz"];
        run(Command::new(&kubectl).args(ready)).is_ok()
    })?;
    parts.start("kube-controller-manager", &controller_manager(&files))?;
    parts.start("kube-scheduler", &scheduler(&files))?;
    parts.start("kubelet", &kubelet(&files))?;
    parts.start(
        "kube-proxy",
        &[format!("--config={}", files.path("kube-proxy.json"))],
    )?;
    parts.start(
        "coredns",
        &["-conf", &files.path("Corefile")].map(str::to_owned),
    )?;
    fs::write(plan.state.join("started"), "")
        .context("failed to say that everything was started")?;
    parts.watch()
}

/// The listener in the host's network, handed over as the standard input.
fn host_listener() -> anyhow::Result<TcpListener> {
    let inherited = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no listener was handed over")?;
    Ok(TcpListener::from(inherited))
}

/// Folders of our own where programs expect the machine's. Nobody outside sees these mounts.
fn mounts(state: &Path) -> anyhow::Result<()> {
    run(&mut command(&["mount", "--make-rshared", "/"]))?;
    for folder in ["/run", "/var/log", "/var/lib/cni", "/tmp"] {
        if Path::new(folder).exists() {
            run(&mut command(&["mount", "-t", "tmpfs", "tmpfs", folder]))?;
        }
    }
    for folder in [
        "/run/containerd",
        "/run/netns",
        STATE,
        "/var/log/pods",
        "/var/log/containers",
    ] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {folder}"))?;
    }
    // A short path: the address of a socket has 108 bytes at most.
    run(command(&["mount", "--rbind"]).arg(state).arg(STATE))?;
    let resolv_conf = "/run/resolv.conf";
    fs::write(resolv_conf, config::resolv_conf()).context("failed to write resolv.conf")?;
    run(&mut command(&[
        "mount",
        "--bind",
        resolv_conf,
        "/etc/resolv.conf",
    ]))
    .map(drop)
}

/// One bridge that has the node's address. Not every kernel has dummy interfaces.
fn network() -> anyhow::Result<()> {
    let address = format!("{NODE_ADDRESS}/24");
    for words in [
        ["ip", "link", "set", "lo", "up", "", ""],
        ["ip", "link", "add", "node0", "type", "bridge", ""],
        ["ip", "address", "add", &address, "dev", "node0", ""],
        ["ip", "link", "set", "node0", "up", "", ""],
        ["ip", "route", "add", "default", "dev", "node0", ""],
    ] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        run(&mut command(&words))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("failed to switch forwarding on")?;
    // Only where the module is loaded does traffic between pods need to pass kube-proxy's rules.
    fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap_or_default();
    Ok(())
}

/// The files that the parts read, in a folder of their own.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn write(plan: &Plan, host_port: u16) -> anyhow::Result<Self> {
        let files = Self {
            folder: Path::new(STATE).join("config"),
        };
        fs::create_dir_all(files.folder.join("cni")).context("failed to make a folder")?;
        let authority = Authority::new()?;
        files.secrets(&authority)?;
        files.kubeconfigs(&authority, plan, host_port)?;
        let cni = plan.cni.to_string_lossy();
        let containerd =
            config::containerd(&format!("{STATE}/containerd"), &cni, &files.path("cni"));
        for (name, text) in [
            (
                "kubelet.json",
                config::kubelet(&plan.id, &files.path("ca.crt"), "/run/resolv.conf"),
            ),
            (
                "kube-proxy.json",
                config::kube_proxy(&files.path("kube-proxy.conf")),
            ),
            ("containerd.toml", containerd),
            ("cni/10-pods.conflist", config::cni()),
            ("Corefile", config::corefile(&files.path("admin.conf"))),
        ] {
            fs::write(files.folder.join(name), text)
                .with_context(|| format!("failed to write {name}"))?;
        }
        Ok(files)
    }

    fn secrets(&self, authority: &Authority) -> anyhow::Result<()> {
        let server = authority.api_server()?;
        let kubelet_client = authority.client("kube-apiserver-kubelet", Some("system:masters"))?;
        let (token_key, token_public) = pki::token_key()?;
        for (name, text) in [
            ("ca.crt", &authority.certificate),
            ("api.crt", &server.certificate),
            ("api.key", &server.key),
            ("kubelet-client.crt", &kubelet_client.certificate),
            ("kubelet-client.key", &kubelet_client.key),
            ("tokens.key", &token_key),
            ("tokens.pub", &token_public),
        ] {
            write_secret(&self.folder.join(name), text)?;
        }
        Ok(())
    }

    fn kubeconfigs(
        &self,
        authority: &Authority,
        plan: &Plan,
        host_port: u16,
    ) -> anyhow::Result<()> {
        let inside = format!("https://{API_ADDRESS}:{API_PORT}");
        let node = format!("system:node:{NODE_NAME}");
        for (name, user, group) in [
            ("admin.conf", "admin", Some("system:masters")),
            ("kubelet.conf", node.as_str(), Some("system:nodes")),
            (
                "controller-manager.conf",
                "system:kube-controller-manager",
                None,
            ),
            ("scheduler.conf", "system:kube-scheduler", None),
            ("kube-proxy.conf", "system:kube-proxy", None),
        ] {
            let identity = authority.client(user, group)?;
            let text = config::kubeconfig(&inside, &authority.certificate, &identity);
            write_secret(&self.folder.join(name), &text)?;
        }
        let admin = authority.client("admin", Some("system:masters"))?;
        let outside = format!("https://127.0.0.1:{host_port}");
        let text = config::kubeconfig(&outside, &authority.certificate, &admin);
        write_secret(&plan.state.join("kubeconfig"), &text)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}

fn etcd() -> Vec<String> {
    [
        "--data-dir=/run/etcd",
        // A cluster that ends is not started again from its data.
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--log-level=error",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server(files: &Files) -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={API_ADDRESS}"),
        format!("--bind-address={API_ADDRESS}"),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", files.path("api.crt")),
        format!("--tls-private-key-file={}", files.path("api.key")),
        format!("--client-ca-file={}", files.path("ca.crt")),
        // Without it, no extension-apiserver-authentication is written, and others wait for that.
        format!("--requestheader-client-ca-file={}", files.path("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            files.path("kubelet-client.crt")
        ),
        format!("--kubelet-client-key={}", files.path("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", files.path("tokens.pub")),
        format!(
            "--service-account-signing-key-file={}",
            files.path("tokens.key")
        ),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn controller_manager(files: &Files) -> Vec<String> {
    let kubeconfig = files.path("controller-manager.conf");
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!(
            "--service-account-private-key-file={}",
            files.path("tokens.key")
        ),
        format!("--root-ca-file={}", files.path("ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--cluster-cidr={POD_RANGE}"),
        "--leader-elect=false".to_owned(),
    ]
}

fn scheduler(files: &Files) -> Vec<String> {
    let kubeconfig = files.path("scheduler.conf");
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
    ]
}

fn kubelet(files: &Files) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.path("kubelet.conf")),
        format!("--config={}", files.path("kubelet.json")),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
        format!("--root-dir={STATE}/kubelet"),
        format!("--cert-dir={STATE}/kubelet/pki"),
    ]
}

/// The processes of the cluster. Each writes a log of its own.
struct Parts {
    plan: Plan,
    running: HashMap<i32, String>,
}

impl Parts {
    fn program(&self, name: &str) -> PathBuf {
        let ours = self.plan.programs.join(name);
        if ours.exists() {
            ours
        } else {
            PathBuf::from(name)
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.plan.state.join("log").join(format!("{name}.log"))
    }

    fn start(&mut self, name: &str, arguments: &[String]) -> anyhow::Result<()> {
        let log = File::create(self.log(name)).with_context(|| format!("failed to log {name}"))?;
        let child = Command::new(self.program(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to log")?)
            .stderr(log)
            .current_dir("/")
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let id = i32::try_from(child.id()).context("a process has no number")?;
        self.running.insert(id, name.to_owned());
        Ok(())
    }

    /// Starts containerd anew, so that it forgets what it kept in memory.
    fn restart_containerd(&mut self, files: &Files) -> anyhow::Result<()> {
        let running = self.running.iter().find(|(_, name)| *name == "containerd");
        let Some(id) = running.map(|(id, _)| *id) else {
            bail!("containerd does not run")
        };
        let process = Pid::from_raw(id).context("a process has no number")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)
            .context("failed to stop containerd")?;
        rustix::process::waitpid(Some(process), WaitOptions::empty())
            .context("failed to wait for containerd")?;
        self.running.remove(&id);
        self.start(
            "containerd",
            &["--config", &files.path("containerd.toml")].map(str::to_owned),
        )
    }

    /// Buries orphans, as the first process of a namespace must, until one of ours is among the dead.
    fn watch(&self) -> anyhow::Result<()> {
        loop {
            let (process, status) = match wait(WaitOptions::empty()) {
                Ok(Some(dead)) => dead,
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(error) => bail!("there is no process left to wait for: {error}"),
            };
            if let Some(name) = self.running.get(&process.as_raw_nonzero().get()) {
                let log = fs::read_to_string(self.log(name)).unwrap_or_default();
                bail!(
                    "{name} ended ({status:?}); the end of its log:\n{}",
                    tail(&log, 15)
                );
            }
        }
    }
}

/// Waits for `is_there`.
///
/// # Errors
/// It did not come within a minute.
#[expect(
    clippy::disallowed_methods,
    reason = "a condition of another program is polled, in real time"
)]
pub(crate) fn wait_for(what: &str, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    while !is_there() {
        if started.elapsed() > Duration::from_mins(1) {
            bail!("{what} did not come up within a minute");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whether containerd answers.
pub(crate) fn containerd_answers() -> bool {
    run(&mut command(&[
        "ctr",
        "--address",
        CONTAINERD_SOCKET,
        "version",
    ]))
    .is_ok()
}

/// Where the state is mounted inside.
const STATE: &str = "/run/globus-auth";

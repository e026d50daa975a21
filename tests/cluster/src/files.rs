//! The files that the parts read, in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, API_ADDRESS, API_PORT, NODE_NAME};
use crate::mounts::STATE;
use crate::paths::{KUBECONFIG, NSSWITCH_CONF, RESOLV_CONF};
use crate::pki::{self, Authority, write_secret};

/// The folder, filled.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Writes all of them. The network plugins are in `cni`; the node's cgroups stay below `cgroup`; the
    /// port of the loopback device that leads to the API server is `port`.
    ///
    /// # Errors
    /// A key cannot be made, or a file cannot be written.
    pub(crate) fn write(cni: &Path, cgroup: &str, port: u16) -> anyhow::Result<Self> {
        let files = Self {
            folder: Path::new(STATE).join("config"),
        };
        fs::create_dir_all(files.folder.join("cni")).context("failed to make a folder")?;
        let authority = Authority::new()?;
        files.secrets(&authority)?;
        files.kubeconfigs(&authority, port)?;
        files.configuration(cni, cgroup)?;
        Ok(files)
    }

    /// Where the file `name` is, as the parts see it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
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

    fn kubeconfigs(&self, authority: &Authority, port: u16) -> anyhow::Result<()> {
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
        let person = authority.client("admin", Some("system:masters"))?;
        let loopback = format!("https://127.0.0.1:{port}");
        let text = config::kubeconfig(&loopback, &authority.certificate, &person);
        write_secret(&Path::new(STATE).join(KUBECONFIG), &text)
    }

    fn configuration(&self, cni: &Path, cgroup: &str) -> anyhow::Result<()> {
        let cni = cni.to_string_lossy();
        let images = format!("{STATE}/containerd");
        let resolv_conf = self.path(RESOLV_CONF);
        let nsswitch_conf = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
        for (name, text) in [
            (
                "kubelet.json",
                config::kubelet(cgroup, &self.path("ca.crt"), &resolv_conf),
            ),
            (
                "kube-proxy.json",
                config::kube_proxy(&self.path("kube-proxy.conf")),
            ),
            (
                "containerd.toml",
                config::containerd(&images, &cni, &self.path("cni")),
            ),
            ("cni/10-pods.conflist", config::cni()),
            ("Corefile", config::corefile(&self.path("admin.conf"))),
            (RESOLV_CONF, config::resolv_conf()),
            (NSSWITCH_CONF, config::nsswitch_conf(&nsswitch_conf)),
        ] {
            fs::write(self.folder.join(name), text)
                .with_context(|| format!("failed to write {name}"))?;
        }
        Ok(())
    }
}

//! What must be there before anything is started. Every complaint is one line that says what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A program that the cluster runs, and the Debian package that has it.
const TOOLS: [(&str, &str); 13] = [
    ("cc", "gcc libc6-dev"),
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];
/// Where distributions put the network plugins; Debian is first.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];
/// Images, etcd and logs.
const NEEDED_BYTES: u64 = 3 * 1024 * 1024 * 1024;

/// What was found out about the machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cni: PathBuf,
}

/// Checks the machine.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn check(state: &Path, search_path: &str) -> anyhow::Result<Machine> {
    if !cfg!(target_os = "linux") {
        bail!(
            "the local cluster needs Linux: elsewhere, set KUBECONFIG to a cluster such as kind or k3d"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the local cluster needs root, for namespaces and mounts: run it with sudo, or set KUBECONFIG to a cluster that you have"
        );
    }
    if let Some((tool, package)) = TOOLS.iter().find(|(tool, _)| !is_found(tool, search_path)) {
        bail!("{tool} is missing: run .ci/setup cluster, or apt-get install {package}");
    }
    let Some(cni) = CNI_FOLDERS
        .iter()
        .map(Path::new)
        .find(|path| path.join("bridge").exists())
    else {
        bail!(
            "the network plugins are missing: run .ci/setup cluster, or apt-get install containernetworking-plugins"
        );
    };
    if !Path::new("/sys/fs/cgroup").exists() || crate::cgroups::hierarchies()?.is_empty() {
        bail!(
            "no cgroups are mounted below /sys/fs/cgroup: the kubelet cannot work without; mount them, or use another machine"
        );
    }
    let disk = rustix::fs::statvfs(state).context("failed to ask for free space")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < NEEDED_BYTES {
        bail!(
            "{} has {} MiB free, the cluster needs {}: make room",
            state.display(),
            free >> 20,
            NEEDED_BYTES >> 20
        );
    }
    Ok(Machine {
        cni: cni.to_owned(),
    })
}

fn is_found(tool: &str, search_path: &str) -> bool {
    search_path
        .split(':')
        .any(|folder| Path::new(folder).join(tool).exists())
}

/// A version of Kubernetes that is known to work here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KubernetesVersion {
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl std::str::FromStr for KubernetesVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parse = || {
            let mut parts = text
                .strip_prefix("1.")?
                .split('.')
                .map(|part| part.parse().ok());
            let version = Self {
                minor: parts.next()??,
                patch: parts.next()??,
            };
            parts.next().is_none().then_some(version)
        };
        match parse() {
            Some(version) if version.minor < 33 => {
                bail!("Kubernetes {text} is too old: globus-auth needs 1.33 or newer")
            }
            Some(version) if version.minor > 34 => {
                bail!(
                    "Kubernetes {text} is not built here: it wants cgroup v2 and a newer containerd; choose 1.33.x or 1.34.x"
                )
            }
            Some(version) => Ok(version),
            None => bail!("KUBERNETES_VERSION {text:?} is no version: write it like {DEFAULT}"),
        }
    }
}

impl std::fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

/// The version that is built if none is asked for.
pub(crate) const DEFAULT: &str = "1.34.4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_work_are_taken() {
        assert_eq!(
            "1.34.4".parse::<KubernetesVersion>().unwrap().to_string(),
            "1.34.4"
        );
        assert_eq!("1.33.13".parse::<KubernetesVersion>().unwrap().minor, 33);
        assert!(DEFAULT.parse::<KubernetesVersion>().is_ok());
    }

    #[test]
    fn others_are_refused_with_what_to_do() {
        for (text, advice) in [
            ("1.32.1", "1.33 or newer"),
            ("1.35.4", "choose 1.33"),
            ("v1.34.4", "like 1.34.4"),
            ("1.34", "like"),
            ("1.34.4.1", "like"),
        ] {
            let error = text.parse::<KubernetesVersion>().unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
        }
    }
}

//! What must be there before anything is started. Every complaint is one line that says what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A program that the cluster runs, and the Debian package that has it.
const TOOLS: [(&str, &str); 15] = [
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
    ("setsid", "util-linux"),
    ("sh", "dash"),
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

/// Checks whether we may do what we must.
///
/// # Errors
/// We may not.
pub(crate) fn check_person() -> anyhow::Result<()> {
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
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !may_administrate(&status) {
        bail!(
            "root lacks CAP_SYS_ADMIN here, as in a container: give the container `--privileged`, or set KUBECONFIG to a cluster that you have"
        );
    }
    Ok(())
}

/// Checks the machine.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn check(state: &Path, search_path: &str) -> anyhow::Result<Machine> {
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

/// Whether the set of capabilities in a `/proc/PID/status` has the one for mounts and namespaces.
fn may_administrate(status: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_none_or(|set| set & CAP_SYS_ADMIN != 0)
}

/// The 22nd capability (capabilities(7)).
const CAP_SYS_ADMIN: u64 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_set() {
        for (status, may) in [
            (
                "CapInh:\t0000000000000000\nCapEff:\t000001fffeffffff\n",
                true,
            ),
            // What a container has without being privileged.
            ("CapEff:\t00000000a80425fb\n", false),
            ("CapEff:\t0000000000200000\n", true),
            // Where it is not told, the kernel has the last word.
            ("Name:\tcluster\n", true),
        ] {
            assert_eq!(may_administrate(status), may, "{status}");
        }
    }

    #[test]
    fn programs_are_found_in_the_folders_of_the_path() {
        assert!(is_found("sh", "/nowhere:/bin"));
        assert!(!is_found("sh", "/nowhere"));
        assert!(!is_found("sh", ""));
    }
}

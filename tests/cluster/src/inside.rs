//! Commands that reach into a cluster: running a program in its network, and loading images.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::command::{command, run_with};
use crate::config::CONTAINERD_SOCKET;
use crate::launch::first_process;
use crate::lock;
use crate::paths::Paths;
use crate::progress::step;

/// Becomes `words`, run inside the cluster's network with its name resolution. Files and processes are the
/// host's.
///
/// # Errors
/// The cluster is down, or there is no such program.
pub(crate) fn exec(paths: &Paths, words: &[OsString], search_path: &str) -> anyhow::Result<()> {
    must_be_usable(paths)?;
    let first = first_process(paths)?.to_string();
    let mut nsenter = command(&["nsenter", "--target", &first, "--net", "--"]);
    // Name resolution is a file, so a file is laid over it in a mount namespace of the command's own.
    nsenter
        .args(["unshare", "--mount", "--propagation", "slave", "--"])
        .args(["sh", "-euc", RESOLVE_NAMES, "sh"])
        .arg(paths.resolv_conf())
        .arg(paths.nsswitch_conf())
        .args(words)
        .env("KUBECONFIG", paths.kubeconfig())
        .env("PATH", format!("{}:{search_path}", paths.bin().display()));
    Err(nsenter.exec()).context("failed to run nsenter")
}

/// Loads image archives that are not loaded yet.
///
/// # Errors
/// The cluster is down, or an archive cannot be loaded.
pub(crate) fn load(paths: &Paths, archives: &[PathBuf]) -> anyhow::Result<()> {
    let _turn = lock::take_turn(paths)?;
    must_be_usable(paths)?;
    let record = paths.containerd().join("loaded.json");
    let mut loaded = Loaded::read(&record);
    // containerd's socket is below a mount that only the cluster sees.
    let root = format!("/proc/{}/root", first_process(paths)?);
    let socket = format!("{root}{CONTAINERD_SOCKET}");
    for archive in archives {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("there is no image archive {}", archive.display()))?;
        let version = version(&archive)?;
        let name = archive.to_string_lossy().into_owned();
        if loaded.0.get(&name) == Some(&version) {
            continue;
        }
        let shown = archive.file_name().unwrap_or_default().to_string_lossy();
        step(&format!("load {shown}"), || import(&socket, &archive))?;
        loaded.0.insert(name, version);
        loaded.write(&record)?;
    }
    Ok(())
}

fn must_be_usable(paths: &Paths) -> anyhow::Result<()> {
    if !lock::is_alive(paths)? {
        bail!("the cluster is down: start it with `make cluster`");
    }
    if !paths.ready().exists() {
        bail!("the cluster is not ready yet: wait for it with `make cluster`");
    }
    Ok(())
}

/// The archive goes in by the standard input, because the cluster need not see the file.
fn import(socket: &str, archive: &Path) -> anyhow::Result<()> {
    let file =
        File::open(archive).with_context(|| format!("failed to open {}", archive.display()))?;
    let mut ctr = command(&["ctr", "--address", socket, "--namespace", "k8s.io"]);
    run_with(ctr.args(["images", "import", "-"]), file.into()).map(drop)
}

/// What was loaded: archives, each with the version of its content.
struct Loaded(BTreeMap<String, String>);

impl Loaded {
    /// A record that cannot be read is none: everything is loaded again, and the next one is good.
    fn read(record: &Path) -> Self {
        let json = fs::read(record).unwrap_or_default();
        Self(serde_json::from_slice(&json).unwrap_or_default())
    }

    fn write(&self, record: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec(&self.0).context("failed to write JSON")?;
        let unfinished = record.with_extension("new");
        fs::write(&unfinished, json).context("failed to note what is loaded")?;
        fs::rename(&unfinished, record).context("failed to note what is loaded")
    }
}

/// Names the content of an archive without reading it.
fn version(archive: &Path) -> anyhow::Result<String> {
    let metadata = fs::metadata(archive)
        .with_context(|| format!("there is no image archive {}", archive.display()))?;
    if metadata.len() == 0 {
        bail!("the image archive {} is empty", archive.display());
    }
    Ok(format!(
        "{}-{}-{}",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    ))
}

const RESOLVE_NAMES: &str = r#"
mount --bind "$1" /etc/resolv.conf
if [ -e /etc/nsswitch.conf ]; then mount --bind "$2" /etc/nsswitch.conf; fi
shift 2
exec "$@"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_a_broken_one_is_none() {
        let record =
            std::env::temp_dir().join(format!("cluster-loaded-{}.json", std::process::id()));
        let loaded = Loaded(BTreeMap::from([("/a.tar".to_owned(), "1-2-3".to_owned())]));
        loaded.write(&record).unwrap();
        assert_eq!(Loaded::read(&record).0, loaded.0);
        fs::write(&record, "{").unwrap();
        assert_eq!(Loaded::read(&record).0, BTreeMap::new());
        fs::remove_file(&record).unwrap();
    }

    #[test]
    fn an_archive_that_changed_has_another_version() {
        let archive = std::env::temp_dir().join(format!("cluster-archive-{}", std::process::id()));
        fs::write(&archive, "one").unwrap();
        let one = version(&archive).unwrap();
        assert_eq!(version(&archive).unwrap(), one);
        fs::write(&archive, "three").unwrap();
        assert_ne!(version(&archive).unwrap(), one);
        fs::write(&archive, "").unwrap();
        assert!(version(&archive).is_err());
        fs::remove_file(&archive).unwrap();
    }
}

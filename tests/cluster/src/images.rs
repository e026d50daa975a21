//! What containerd has before the first pod. Its images outlive the cluster, so that the next one need not
//! load them again.

use std::path::Path;

use crate::arguments;
use crate::command::{command, run};
use crate::config::{CONTAINERD_SOCKET, PAUSE_IMAGE};
use crate::files::Files;
use crate::mounts::TEMPORARY;
use crate::oci;
use crate::parts::Parts;

/// Removes what pods of an earlier cluster have left in containerd, and loads the image of every pod's
/// first process.
///
/// # Errors
/// containerd does not do its part.
pub(crate) fn prepare(parts: &mut Parts, files: &Files) -> anyhow::Result<()> {
    parts.wait_for("containerd", |_| containerd_answers())?;
    let left = ctr(&["containers", "list", "--quiet"])?;
    let left: Vec<&str> = left.split_whitespace().collect();
    if !left.is_empty() {
        let mut remove = vec!["containers", "delete"];
        remove.extend(&left);
        ctr(&remove)?;
        // It remembers them as pods until it starts anew.
        parts.stop("containerd")?;
        parts.start("containerd", &arguments::containerd(files))?;
        parts.wait_for("containerd", |_| containerd_answers())?;
    }
    // Made anew each time: it is small, and may be another one than last time.
    let archive = Path::new(TEMPORARY).join("pause.tar");
    oci::pack(&parts.program("pause"), PAUSE_IMAGE, &archive)?;
    ctr(&["images", "import", &archive.to_string_lossy()]).map(drop)
}

fn containerd_answers() -> bool {
    ctr(&["version"]).is_ok()
}

fn ctr(arguments: &[&str]) -> anyhow::Result<String> {
    run(command(&[
        "ctr",
        "--address",
        CONTAINERD_SOCKET,
        "--namespace",
        "k8s.io",
    ])
    .args(arguments))
}

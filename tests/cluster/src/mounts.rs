//! The file system that the cluster sees: the machine's, but what is written to it is gone when the
//! cluster is.
//!
//! All of this happens in a mount namespace of our own, so that nobody outside sees it and the kernel
//! undoes it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::Context;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};

/// Lays the file system out. From here on, `state` is at [`STATE`] and `programs` is at [`PROGRAMS`].
///
/// # Errors
/// The kernel refuses a mount.
pub(crate) fn lay_out(state: &Path, programs: &Path) -> anyhow::Result<()> {
    // Kept open, because either may be below something that is covered in a moment.
    let state = open(state)?;
    let programs = open(programs)?;
    // The kubelet wants what it mounts to be seen by containerd and by containers.
    let shared = MountPropagationFlags::REC | MountPropagationFlags::SHARED;
    mount_change("/", shared).context("failed to share mounts within the cluster")?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID, None)
        .context("failed to mount a /run of our own")?;
    for folder in [TEMPORARY, HOME, "/run/netns"] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {folder}"))?;
    }
    bind(&state, STATE)?;
    bind(&programs, PROGRAMS)?;
    for folder in COVERED
        .into_iter()
        .filter(|folder| Path::new(folder).is_dir())
    {
        cover(folder).with_context(|| format!("failed to cover {folder} with an overlay"))?;
    }
    Ok(())
}

fn open(folder: &Path) -> anyhow::Result<File> {
    File::open(folder).with_context(|| format!("failed to open {}", folder.display()))
}

/// Shows the open folder at `place` as well. `place` is short: the address of a socket has 108 bytes at most.
fn bind(folder: &File, place: &str) -> anyhow::Result<()> {
    fs::create_dir_all(place).with_context(|| format!("failed to make {place}"))?;
    mount_bind_recursive(format!("/proc/self/fd/{}", folder.as_raw_fd()), place)
        .with_context(|| format!("failed to mount {place}"))
}

/// Lets writes to `folder` end in memory.
fn cover(folder: &str) -> io::Result<()> {
    let layers = format!("/run/covers{folder}");
    fs::create_dir_all(format!("{layers}/upper"))?;
    fs::create_dir_all(format!("{layers}/work"))?;
    let options = format!("lowerdir={folder},upperdir={layers}/upper,workdir={layers}/work");
    let options = std::ffi::CString::new(options)?;
    mount(
        "overlay",
        folder,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    Ok(())
}

/// Where the state folder is inside.
pub(crate) const STATE: &str = "/run/globus-auth/state";
/// Where the folder of all programs is inside.
pub(crate) const PROGRAMS: &str = "/run/globus-auth/programs";
/// For what the parts write as they go.
pub(crate) const TEMPORARY: &str = "/run/tmp";
/// For what kubectl remembers.
pub(crate) const HOME: &str = "/run/home";

/// Where the kubelet, containerd and the network plugins leave files under fixed names.
const COVERED: [&str; 4] = ["/etc", "/opt", "/usr", "/var"];

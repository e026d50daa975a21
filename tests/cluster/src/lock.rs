//! Who may do what at the same time.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::paths::Paths;
use crate::pause::pause;
use crate::progress::say;

/// Waits until no other command changes this cluster; as long as the file lives, none does.
///
/// # Errors
/// The file of the lock cannot be made.
pub(crate) fn take_turn(paths: &Paths) -> anyhow::Result<File> {
    fs::create_dir_all(&paths.state)
        .with_context(|| format!("failed to make {}", paths.state.display()))?;
    let turn = open(paths, "turn")?;
    if flock(&turn, FlockOperation::NonBlockingLockExclusive).is_err() {
        say("another command is at work on this cluster: waiting for it");
        flock(&turn, FlockOperation::LockExclusive).context("failed to wait for a turn")?;
    }
    Ok(turn)
}

/// Whether anything of the cluster is alive: every process of it holds the lock.
///
/// # Errors
/// The lock cannot be asked.
pub(crate) fn is_alive(paths: &Paths) -> anyhow::Result<bool> {
    let lock = match File::open(paths.lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context("failed to open the lock"),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).context("failed to ask the lock"),
    }
}

/// The lock of a cluster that is about to start, to be inherited by all its processes.
///
/// # Errors
/// The cluster is alive.
pub(crate) fn for_cluster(paths: &Paths) -> anyhow::Result<File> {
    let lock = open(paths, "lock")?;
    // Whoever asks whether the cluster is alive holds the lock for an instant.
    for _attempt in 0..ATTEMPTS {
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fcntl_setfd(&lock, FdFlags::empty()).context("failed to hand the lock over")?;
            return Ok(lock);
        }
        pause();
    }
    bail!("the cluster is alive already")
}

fn open(paths: &Paths, name: &str) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(paths.state.join(name))
        .with_context(|| format!("failed to open the file {name}"))
}

const ATTEMPTS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(name: &str) -> Paths {
        let state = std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()));
        Paths::new(&state, Some(state.clone())).unwrap()
    }

    #[test]
    fn a_cluster_is_alive_as_long_as_its_lock_is_held() {
        let paths = paths("lock");
        assert!(!is_alive(&paths).unwrap());
        let _turn = take_turn(&paths).unwrap();
        let lock = for_cluster(&paths).unwrap();
        assert!(is_alive(&paths).unwrap());
        drop(lock);
        assert!(!is_alive(&paths).unwrap());
        fs::remove_dir_all(&paths.state).unwrap();
    }
}

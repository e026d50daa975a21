//! Where the cluster keeps what.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The folders of one cluster. Each checkout has one of its own.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Everything of this cluster: logs, keys, images.
    pub(crate) state: PathBuf,
    /// What several checkouts share: programs that took minutes to build.
    pub(crate) cache: PathBuf,
    /// Names what is visible outside the cluster's namespaces: its cgroups.
    pub(crate) id: String,
}

impl Paths {
    /// The folders of the cluster whose state is in `state`.
    ///
    /// # Errors
    /// There is no home to keep the cache in.
    pub(crate) fn new(state: &Path, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let state = std::path::absolute(state).context("failed to find the state folder")?;
        let state = resolve(&state);
        let Some(cache) = cache else {
            bail!("neither XDG_CACHE_HOME nor HOME is set: set one, to keep what is built");
        };
        let id = identifier(&state);
        Ok(Self { state, cache, id })
    }

    /// Held by every process of the cluster.
    pub(crate) fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The process that everything else is below of.
    pub(crate) fn process_id(&self) -> PathBuf {
        self.state.join("pid")
    }

    /// There once the cluster can be used.
    pub(crate) fn ready(&self) -> PathBuf {
        self.state.join(READY)
    }

    /// Why it ended, if it could still say so.
    pub(crate) fn ended(&self) -> PathBuf {
        self.state.join("ended")
    }

    /// For people and tests, on the host and inside.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join(KUBECONFIG)
    }

    /// The name resolution of commands inside.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.state.join("config").join(RESOLV_CONF)
    }

    /// How commands inside find out where names are resolved.
    pub(crate) fn nsswitch_conf(&self) -> PathBuf {
        self.state.join("config").join(NSSWITCH_CONF)
    }

    /// The version that runs.
    pub(crate) fn version(&self) -> PathBuf {
        self.state.join("version")
    }

    /// The programs that people need.
    pub(crate) fn bin(&self) -> PathBuf {
        self.state.join("bin")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join(LOGS)
    }

    /// What the supervisor says.
    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisor.log")
    }

    /// Images stay here when the cluster goes.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.state.join("containerd")
    }
}

/// Follows links, so that one folder has one name, whether it exists yet or not.
fn resolve(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|ancestor| {
        let missing = path.strip_prefix(ancestor).ok()?;
        let mut resolved = ancestor.canonicalize().ok()?;
        // Not `join`, which adds a slash if nothing is missing, and another name with it.
        resolved.extend(missing);
        Some(resolved)
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// A short name for a folder: the same for the same, another for another.
fn identifier(state: &Path) -> String {
    let digest = digest(state.as_os_str().as_encoded_bytes());
    let (short, _) = digest.split_at(10);
    format!("globus-auth-{short}")
}

/// SHA-256, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

/// The names that the supervisor uses as well, which sees the state folder elsewhere.
pub(crate) const KUBECONFIG: &str = "kubeconfig";
pub(crate) const LOGS: &str = "log";
pub(crate) const NSSWITCH_CONF: &str = "nsswitch.conf";
pub(crate) const READY: &str = "ready";
pub(crate) const RESOLV_CONF: &str = "resolv.conf";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn two_checkouts_never_share_a_name() {
        let one = identifier(Path::new("/home/a/globus-auth/target/kubernetes"));
        assert_eq!(
            one,
            identifier(Path::new("/home/a/globus-auth/target/kubernetes"))
        );
        assert_ne!(
            one,
            identifier(Path::new("/home/b/globus-auth/target/kubernetes"))
        );
    }

    #[test]
    fn a_folder_has_one_name_before_and_after_it_is_made() {
        let place = std::env::temp_dir().join(format!("cluster-paths-{}", std::process::id()));
        fs::create_dir_all(place.join("real")).unwrap();
        std::os::unix::fs::symlink("real", place.join("link")).unwrap();
        let through_link = place.join("link/state");
        let before = resolve(&through_link);
        fs::create_dir(&through_link).unwrap();
        // Paths that differ by a slash are equal, names made of them are not.
        assert_eq!(resolve(&through_link).as_os_str(), before.as_os_str());
        assert!(before.ends_with("real/state"));
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn asking_makes_no_folder() {
        let state = std::env::temp_dir().join("globus-auth-no-such-cluster/state");
        let paths = Paths::new(&state, Some(PathBuf::from("/cache"))).unwrap();
        assert_eq!(paths.state, state);
        assert!(!state.exists());
    }
}

//! Where the cluster keeps what.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The folders of one cluster. Each checkout has one of its own.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Everything of this cluster: logs, keys, data.
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
        std::fs::create_dir_all(state)
            .with_context(|| format!("failed to make the folder {}", state.display()))?;
        let state = state
            .canonicalize()
            .context("failed to resolve the state folder")?;
        let Some(cache) = cache else {
            bail!("neither XDG_CACHE_HOME nor HOME is set: set one, to keep what is built");
        };
        let id = identifier(&state);
        Ok(Self { state, cache, id })
    }

    /// Held by everything of the cluster while it runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The process that everything else is below of.
    pub(crate) fn process_id(&self) -> PathBuf {
        self.state.join("pid")
    }

    /// For people and tests on the host.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// The programs that people need.
    pub(crate) fn bin(&self) -> PathBuf {
        self.state.join("bin")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Images stay here when the cluster goes.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.state.join("containerd")
    }
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

#[cfg(test)]
mod tests {
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
}

//! A mounted Secret, as the kubelet makes it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use globus_auth_core::sidecar_config::FILE_NAME;

/// A folder that is removed with all its content.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("globus-auth-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).expect("a folder for temporary files");
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the configuration in one step: the file is a link into `..data`, which is a link that is
    /// renamed over the old one. A reader sees the old text or the new one, and nothing in between.
    pub(crate) fn write(&self, text: &[u8]) {
        let (data, fresh_data) = (self.path.join("..data"), self.path.join("..data_tmp"));
        let version = format!("..{}", uuid::Uuid::new_v4());
        let previous = fs::read_link(&data).ok();
        fs::create_dir(self.path.join(&version)).expect("a version can be added");
        fs::write(self.path.join(&version).join(FILE_NAME), text).expect("a file can be written");
        symlink(&version, &fresh_data).expect("a link can be made");
        fs::rename(&fresh_data, &data).expect("a link can be replaced");
        if let Some(previous) = previous {
            fs::remove_dir_all(self.path.join(previous)).expect("an old version can be removed");
        } else {
            symlink(
                Path::new("..data").join(FILE_NAME),
                self.path.join(FILE_NAME),
            )
            .expect("a link can be made");
        }
    }

    /// Takes the configuration away, as nothing should but a broken volume does.
    pub(crate) fn remove_data(&self) {
        fs::remove_file(self.path.join("..data")).expect("a link can be removed");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "failed to remove a folder");
        }
    }
}

//! A mounted Secret, as the kubelet makes it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use globus_auth_core::{ended, sidecar_config};

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

    /// Replaces the configuration.
    pub(crate) fn write(&self, text: &[u8]) {
        self.replace(sidecar_config::FILE_NAME, text);
    }

    /// Replaces the list of ended sessions.
    pub(crate) fn write_ended(&self, text: &[u8]) {
        self.replace(ended::FILE_NAME, text);
    }

    /// Replaces one file, in one step: each is a link into `..data`, which is a link that is renamed over
    /// the old one. A reader sees the old text or the new one, and nothing in between.
    fn replace(&self, name: &str, text: &[u8]) {
        let (data, fresh_data) = (self.path.join("..data"), self.path.join("..data_tmp"));
        let version = format!("..{}", uuid::Uuid::new_v4());
        let previous = fs::read_link(&data).ok();
        fs::create_dir(self.path.join(&version)).expect("a version can be added");
        for other in [sidecar_config::FILE_NAME, ended::FILE_NAME] {
            if let Ok(kept) = fs::read(data.join(other)) {
                fs::write(self.path.join(&version).join(other), kept).expect("a file is written");
            }
        }
        fs::write(self.path.join(&version).join(name), text).expect("a file can be written");
        symlink(&version, &fresh_data).expect("a link can be made");
        fs::rename(&fresh_data, &data).expect("a link can be replaced");
        if let Some(previous) = previous {
            fs::remove_dir_all(self.path.join(previous)).expect("an old version can be removed");
        }
        let link = self.path.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link).expect("a link can be made");
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

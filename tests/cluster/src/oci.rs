//! An image of a single program, as the OCI image layout has it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::{command, run};
use crate::paths::digest;

/// Writes an archive with the image `name` of `program`, which is static and gets no arguments. The same
/// program makes the same image.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn pack(program: &Path, name: &str, archive: &Path) -> anyhow::Result<()> {
    let layout = Layout::new(archive.with_extension("layout"))?;
    let file_name = program.file_name().context("a program has no name")?;
    let layer = layout.layer(program)?;
    let configuration = configuration(&file_name.to_string_lossy(), &digest(&layer));
    let configuration = layout.put(configuration.to_string().as_bytes(), CONFIGURATION)?;
    let layer = layout.put(&layer, LAYER)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": configuration, "layers": [layer],
    });
    let manifest = layout.put(manifest.to_string().as_bytes(), MANIFEST)?;
    layout.index(&index(manifest, name))?;
    layout.into_archive(archive)
}

/// What runs in a container of the image.
fn configuration(program: &str, layer_digest: &str) -> Value {
    json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": [format!("/{program}")], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    })
}

/// The one image that is in the archive, and how containerd shall call it.
fn index(mut manifest: Value, name: &str) -> Value {
    if let Some(members) = manifest.as_object_mut() {
        let annotations = json!({"io.containerd.image.name": name});
        members.insert("annotations".to_owned(), annotations);
    }
    json!({"schemaVersion": 2, "manifests": [manifest]})
}

/// The name that OCI has for the machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// The folder that the archive is made of.
struct Layout {
    folder: PathBuf,
}

impl Layout {
    fn new(folder: PathBuf) -> anyhow::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).context("failed to clear a folder")?;
        }
        fs::create_dir_all(folder.join(BLOBS)).context("failed to make a folder")?;
        Ok(Self { folder })
    }

    /// The bytes of a layer with nothing but `program`, owned by root and of no particular time.
    fn layer(&self, program: &Path) -> anyhow::Result<Vec<u8>> {
        let root = self.folder.join("root");
        let file_name = program.file_name().context("a program has no name")?;
        fs::create_dir_all(&root).context("failed to make a folder")?;
        fs::copy(program, root.join(file_name)).context("failed to copy a program")?;
        let layer = self.folder.join("layer.tar");
        run(command(&["tar", "--create", "--format=ustar"])
            .args(["--owner=0", "--group=0", "--mtime=@0", "--directory"])
            .arg(&root)
            .arg("--file")
            .arg(&layer)
            .arg(file_name))?;
        fs::read(&layer).context("failed to read a layer")
    }

    /// Keeps `bytes` under their digest, and describes them.
    fn put(&self, bytes: &[u8], media_type: &str) -> anyhow::Result<Value> {
        let digest = digest(bytes);
        fs::write(self.folder.join(BLOBS).join(&digest), bytes)
            .context("failed to write a blob")?;
        Ok(json!({
            "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len(),
        }))
    }

    fn index(&self, index: &Value) -> anyhow::Result<()> {
        let version = json!({"imageLayoutVersion": "1.0.0"});
        for (name, json) in [("index.json", index), ("oci-layout", &version)] {
            fs::write(self.folder.join(name), json.to_string())
                .with_context(|| format!("failed to write {name}"))?;
        }
        Ok(())
    }

    fn into_archive(self, archive: &Path) -> anyhow::Result<()> {
        run(command(&["tar", "--create", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(&self.folder)
            .args(["oci-layout", "index.json", "blobs"]))?;
        fs::remove_dir_all(&self.folder).context("failed to clear a folder")
    }
}

const BLOBS: &str = "blobs/sha256";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_makes_the_same_image() {
        let place = std::env::temp_dir().join(format!("cluster-oci-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let program = place.join("program");
        fs::write(&program, "code").unwrap();
        let index_of = |archive: PathBuf| {
            pack(&program, "localhost/program:1", &archive).unwrap();
            let tar = ["tar", "--extract", "--to-stdout", "--file"];
            run(command(&tar).arg(archive).arg("index.json")).unwrap()
        };
        let first = index_of(place.join("first.tar"));
        assert!(first.contains(r#""io.containerd.image.name":"localhost/program:1""#));
        assert_eq!(index_of(place.join("second.tar")), first);
        fs::write(&program, "other code").unwrap();
        assert_ne!(index_of(place.join("third.tar")), first);
        fs::remove_dir_all(&place).unwrap();
    }
}

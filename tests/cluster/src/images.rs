//! What containerd has before the first pod. Its images outlive the cluster, so that the next one need not
//! load them again.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::arguments;
use crate::command::{command, run};
use crate::config::{CONTAINERD_SOCKET, PAUSE_IMAGE};
use crate::files::Files;
use crate::mounts::TEMPORARY;
use crate::parts::Parts;
use crate::paths::digest;

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
    pack_pause(&parts.program("pause"), &archive)?;
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

/// Makes an image of the one program, as the OCI image layout has it.
fn pack_pause(pause: &Path, archive: &Path) -> anyhow::Result<()> {
    let folder = archive.with_extension("layout");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("failed to clear a folder")?;
    }
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).context("failed to make a folder")?;
    let root = folder.join("root");
    fs::create_dir_all(&root).context("failed to make a folder")?;
    fs::copy(pause, root.join("pause")).context("failed to copy pause")?;
    let layer_file = folder.join("layer.tar");
    run(
        command(&["tar", "--create", "--owner=0", "--group=0", "--file"])
            .arg(&layer_file)
            .arg("--directory")
            .arg(&root)
            .arg("pause"),
    )?;
    let layer = fs::read(&layer_file).context("failed to read the layer")?;
    let put = |bytes: &[u8], media_type: &str| -> anyhow::Result<serde_json::Value> {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest), bytes).context("failed to write a blob")?;
        Ok(
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}),
        )
    };
    let layer_digest = format!("sha256:{}", digest(&layer));
    let layer = put(&layer, "application/vnd.oci.image.layer.v1.tar")?;
    let configuration = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    });
    let configuration = put(
        configuration.to_string().as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    )?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": configuration, "layers": [layer]});
    let mut manifest = put(manifest.to_string().as_bytes(), manifest_type)?;
    if let Some(members) = manifest.as_object_mut() {
        members.insert(
            "annotations".to_owned(),
            json!({"io.containerd.image.name": PAUSE_IMAGE}),
        );
    }
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).context("failed to write the index")?;
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .context("failed to write the layout")?;
    run(command(&["tar", "--create", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(&folder)
        .args(["oci-layout", "index.json", "blobs"]))?;
    fs::remove_dir_all(&folder).context("failed to clear a folder")
}

/// The name that OCI has for the machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

//! Writes the `CustomResourceDefinitions` into the chart, or checks that they are there unchanged.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use globus_auth_crds::manifest;

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// Change nothing; fail if a file is not what would be written.
    #[arg(long)]
    check: bool,
    /// The root of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let definitions = [
        ("globusauthproxies", manifest::globus_auth_proxy()),
        ("tokenvaults", manifest::token_vault()),
    ];
    for (plural, definition) in definitions {
        let definition = definition.context("failed to derive the definition")?;
        let yaml = serde_yaml_ng::to_string(&definition).context("failed to write YAML")?;
        let name = format!("{plural}.globus-auth.dev.yaml");
        write(&args, &Path::new("crds").join(&name), &yaml)?;
        let chart = Path::new("charts/globus-auth/templates/crds");
        write(&args, &chart.join(&name), &templated(&yaml))?;
    }
    Ok(())
}

/// The same for the chart: installed unless the user says otherwise, and kept when the chart goes.
fn templated(yaml: &str) -> String {
    let keep = "metadata:\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    format!(
        "{{{{- if .Values.crds.enabled }}}}\n{}{{{{- end }}}}\n",
        yaml.replacen("metadata:\n", keep, 1)
    )
}

fn write(args: &Args, path: &Path, text: &str) -> anyhow::Result<()> {
    let path = args.root.join(path);
    let text = format!(
        "# Written by `cargo run --bin crdgen`; change the types in crds/src instead.\n{text}"
    );
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    if present == text {
        return Ok(());
    }
    if args.check {
        bail!(
            "{} is not what the types say; run `cargo run --bin crdgen`",
            path.display()
        );
    }
    std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new(".")))?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

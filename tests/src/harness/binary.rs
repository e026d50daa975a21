//! Where our programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program, built from the sources as they are now.
///
/// Cargo tells a test only of the programs of its own package (`CARGO_BIN_EXE_…`), and dependencies on
/// the programs of others (`artifact`) are not stable. So this asks Cargo itself, once per process, to
/// bring the program up to date in the profile and the target directory of the running test. With
/// nothing to do that takes a fraction of a second. The sidecar gets its own features that way, not the
/// union with those of this package: it is the program that is shipped.
///
/// `GLOBUS_AUTH_SIDECAR` names another program instead, which is then not built.
pub(crate) fn sidecar() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let named = std::env::var_os("GLOBUS_AUTH_SIDECAR");
        named.map_or_else(|| build("globus-auth-sidecar", &[]), PathBuf::from)
    })
}

/// The vault, built so that it can be made to die between the steps of a refresh. `GLOBUS_AUTH_VAULT` names
/// another program instead.
pub(crate) fn vault() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let named = std::env::var_os("GLOBUS_AUTH_VAULT");
        let build = || build("globus-auth-vault", &["--features", "failpoints"]);
        named.map_or_else(build, PathBuf::from)
    })
}

fn build(name: &str, options: &[&str]) -> PathBuf {
    let test = std::env::current_exe().expect("a process has a program");
    // target/<profile>/deps/<test>
    let folder = test
        .ancestors()
        .find(|folder| folder.ends_with("deps"))
        .and_then(Path::parent)
        .expect("a test lies in target/<profile>/deps");
    let target = folder.parent().expect("a profile lies in target/");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", name, "--bin", name])
        .args(options)
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // The compiler beside this Cargo: one that rustup chooses by folder could be another for a
        // dependency that brings a toolchain file.
        .env("RUSTC", Path::new(env!("CARGO")).with_file_name("rustc"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "cargo failed to build {name}");
    folder.join(name)
}

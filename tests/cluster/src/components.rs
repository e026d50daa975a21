//! The programs of the cluster, built once for each version and kept outside the checkout.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use crate::command::{command, run};
use crate::paths::digest;
use crate::progress::{say, step};
use crate::version::KubernetesVersion;

const KUBERNETES_MAIN: &str = include_str!("../go/kubernetes/main.go");
const ETCD_MAIN: &str = include_str!("../go/etcd/main.go");
const PAUSE_SOURCE: &str = include_str!("../pause/pause.c");

const ETCD_VERSION: &str = "3.6.16";
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.19.5";
const COREDNS: &str = "github.com/coredns/coredns@v1.14.6";

/// The names that the one Kubernetes program goes by.
const KUBERNETES_PARTS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// The folder with all programs for `version`; those that are not there are built.
///
/// # Errors
/// A program could not be built.
pub(crate) fn ensure(cache: &Path, version: &KubernetesVersion) -> anyhow::Result<PathBuf> {
    let bin = cache.join(format!("bin-{version}"));
    fs::create_dir_all(&bin).with_context(|| format!("failed to make {}", bin.display()))?;

    let name = format!("kubernetes-{version}");
    let kubernetes = build(cache, &name, KUBERNETES_MAIN, |target| {
        say("  compiling Kubernetes; on two cores this takes about ten minutes, once");
        kubernetes(target, version)
    })?;
    for part in KUBERNETES_PARTS {
        link(&kubernetes, &bin.join(part))?;
    }
    let etcd = build(cache, &format!("etcd-{ETCD_VERSION}"), ETCD_MAIN, etcd)?;
    link(&etcd, &bin.join("etcd"))?;
    for (name, module) in [("helm", HELM), ("coredns", COREDNS)] {
        let version = module.rsplit('@').next().unwrap_or_default();
        let built = build(cache, &format!("{name}-{version}"), module, |target| {
            install(target, module)
        })?;
        link(&built, &bin.join(name))?;
    }
    let pause = build(cache, "pause", PAUSE_SOURCE, pause)?;
    link(&pause, &bin.join("pause"))?;
    Ok(bin)
}

/// The program `name` made of `source`. What is there was finished: it is moved there in one step.
fn build(
    cache: &Path,
    name: &str,
    source: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let digest = digest(source.as_bytes());
    let (short, _) = digest.split_at(8);
    let finished = cache.join(format!("{name}-{short}"));
    if finished.exists() {
        return Ok(finished);
    }
    // Two checkouts may want the same at the same time: one builds, the other waits and finds it.
    let lock = File::create(cache.join(format!("{name}.lock"))).context("failed to make a lock")?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        say(&format!("  waiting for somebody else's build of {name}"));
        flock(&lock, FlockOperation::LockExclusive).context("failed to wait for a build")?;
    }
    if finished.exists() {
        return Ok(finished);
    }
    let unfinished = cache.join(format!("{name}-{short}.building"));
    step(&format!("build {name}"), || make(&unfinished))?;
    fs::rename(&unfinished, &finished).with_context(|| format!("failed to keep {name}"))?;
    Ok(finished)
}

/// Links relative to the cache, which the cluster sees at another place; in one step, because others may be
/// starting the program.
fn link(target: &Path, link: &Path) -> anyhow::Result<()> {
    let name = target.file_name().context("a program has no name")?;
    let target = Path::new("..").join(name);
    if fs::read_link(link).is_ok_and(|present| present == target) {
        return Ok(());
    }
    let unfinished = link.with_extension("new");
    fs::remove_file(&unfinished).unwrap_or_default();
    symlink(target, &unfinished).with_context(|| format!("failed to link {}", link.display()))?;
    fs::rename(&unfinished, link).with_context(|| format!("failed to link {}", link.display()))
}

fn kubernetes(target: &Path, version: &KubernetesVersion) -> anyhow::Result<()> {
    need_go()?;
    let folder = Folder::new(target, KUBERNETES_MAIN)?;
    let module = format!("k8s.io/kubernetes@v{version}");
    let downloaded =
        run(command(&["go", "mod", "download", "-json", &module]).current_dir(&folder.path))
            .with_context(|| {
                format!("there is no Kubernetes {version} to be had as a Go module")
            })?;
    let downloaded: serde_json::Value =
        serde_json::from_str(&downloaded).context("go did not answer in JSON")?;
    let source = downloaded
        .get("Dir")
        .and_then(|folder| folder.as_str())
        .unwrap_or_default();
    let manifest = fs::read_to_string(Path::new(source).join("go.mod"))
        .context("the Kubernetes module has no go.mod")?;
    let replaced = staging_replacements(&manifest, version);
    let go_mod = format!(
        "module kubernetes\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v{version}\n\n{replaced}"
    );
    let stamp = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={}",
        version.minor
    );
    folder.build(&go_mod, &flags, target)
}

/// Kubernetes replaces its own modules by folders beside it; as somebody's dependency they have to be
/// named by version.
fn staging_replacements(manifest: &str, version: &KubernetesVersion) -> String {
    let KubernetesVersion { minor, patch } = version;
    let staging = manifest
        .lines()
        .filter_map(|line| line.trim().split_once(" => ./staging/"));
    let replacements: Vec<String> = staging
        .map(|(module, _folder)| module.trim_start_matches("replace ").trim())
        .map(|module| format!("replace {module} => {module} v0.{minor}.{patch}\n"))
        .collect();
    replacements.concat()
}

fn etcd(target: &Path) -> anyhow::Result<()> {
    need_go()?;
    let go_mod =
        format!("module etcd\n\ngo 1.24.0\n\nrequire go.etcd.io/etcd/server/v3 v{ETCD_VERSION}\n");
    Folder::new(target, ETCD_MAIN)?.build(&go_mod, "-s -w", target)
}

fn install(target: &Path, module: &str) -> anyhow::Result<()> {
    need_go()?;
    let folder = Folder::new(target, "")?;
    run(command(&["go", "install", "-ldflags=-s -w", module])
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod")
        .env("GOBIN", &folder.path))?;
    let name = module
        .split('@')
        .next()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    fs::rename(folder.path.join(name), target).with_context(|| format!("failed to keep {name}"))
}

/// Static, because a pod's first process has no libraries.
fn pause(target: &Path) -> anyhow::Result<()> {
    let folder = Folder::new(target, "")?;
    let source = folder.path.join("pause.c");
    fs::write(&source, PAUSE_SOURCE).context("failed to write pause.c")?;
    run(command(&["cc", "-Os", "-static", "-s", "-o"])
        .arg(target)
        .arg(&source))
    .map(drop)
}

fn need_go() -> anyhow::Result<()> {
    match run(&mut command(&["go", "version"])) {
        Ok(_) => Ok(()),
        Err(_missing) => bail!(
            "go is missing: install Go 1.24 or newer; the local cluster is compiled from Go modules"
        ),
    }
}

/// A folder to build in, gone when the build is done.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(target: &Path, main: &str) -> anyhow::Result<Self> {
        let path = target.with_extension("sources");
        if path.exists() {
            fs::remove_dir_all(&path).context("failed to clear the build folder")?;
        }
        fs::create_dir_all(&path).context("failed to make the build folder")?;
        if !main.is_empty() {
            fs::write(path.join("main.go"), main).context("failed to write main.go")?;
        }
        fs::write(path.join("go.mod"), "module build\n").context("failed to write go.mod")?;
        Ok(Self { path })
    }

    fn build(&self, go_mod: &str, flags: &str, target: &Path) -> anyhow::Result<()> {
        fs::write(self.path.join("go.mod"), go_mod).context("failed to write go.mod")?;
        run(command(&["go", "mod", "tidy"])
            .env("GOFLAGS", "-mod=mod")
            .current_dir(&self.path))?;
        run(command(&["go", "build", "-ldflags", flags, "-o"])
            .arg(target)
            .arg(".")
            .env("CGO_ENABLED", "0")
            .current_dir(&self.path))
        .map(drop)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is found and removed by the next build.
        fs::remove_dir_all(&self.path).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_built_once_and_kept_only_when_it_is_finished() {
        let cache = std::env::temp_dir().join(format!("cluster-cache-{}", std::process::id()));
        fs::create_dir_all(&cache).unwrap();
        let interrupted = build(&cache, "thing", "source", |target| {
            fs::write(target, "half").unwrap();
            bail!("interrupted")
        });
        assert!(interrupted.is_err());
        let write = |target: &Path| Ok(fs::write(target, "whole")?);
        let built = build(&cache, "thing", "source", write).unwrap();
        assert_eq!(fs::read_to_string(&built).unwrap(), "whole");
        let again = build(&cache, "thing", "source", |_| bail!("not needed")).unwrap();
        assert_eq!(again, built);
        let changed = build(&cache, "thing", "another source", write).unwrap();
        assert_ne!(changed, built);
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn staging_modules_are_named_by_version() {
        let manifest = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/client-go => ./staging/src/k8s.io/client-go\n)\nreplace x => y v1\n";
        let version = "1.34.4".parse().unwrap();
        assert_eq!(
            staging_replacements(manifest, &version),
            "replace k8s.io/api => k8s.io/api v0.34.4\nreplace k8s.io/client-go => k8s.io/client-go v0.34.4\n"
        );
    }
}

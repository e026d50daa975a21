//! A cluster of a test's own, gone when the test is.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A state folder, and the program that works on it.
pub struct Cluster {
    pub state: PathBuf,
}

impl Cluster {
    /// A cluster that was never started.
    pub fn new(name: &str) -> Self {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let cluster = Self { state };
        // What an earlier run left, if it was interrupted.
        cluster.succeeds(&["down"]);
        cluster
    }

    /// A cluster that runs.
    pub fn up(name: &str) -> Self {
        let cluster = Self::new(name);
        cluster.succeeds(&["up"]);
        cluster
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        command.arg("--state").arg(&self.state).args(words);
        command
    }

    pub fn succeeds(&self, words: &[&str]) -> String {
        text(self.command(words))
    }

    /// What it complains about.
    pub fn fails(&self, words: &[&str]) -> String {
        complaint(self.command(words))
    }

    pub fn kubectl(&self, words: &[&str]) -> String {
        text(self.kubectl_command(words))
    }

    pub fn try_kubectl(&self, words: &[&str]) -> Output {
        self.kubectl_command(words).output().unwrap()
    }

    /// Creates what the manifest describes, and answers in JSON.
    pub fn create(&self, manifest: &serde_json::Value) -> serde_json::Value {
        let words = ["create", "--filename", "-", "--output", "json"];
        let mut kubectl = self.kubectl_command(&words);
        kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut kubectl = kubectl.spawn().unwrap();
        let mut stdin = kubectl.stdin.take().unwrap();
        stdin.write_all(manifest.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = kubectl.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{manifest}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.state.join("bin/kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.state.join("kubeconfig"))
            .args(words);
        command
    }

    /// The first process inside, by its number outside.
    pub fn first_process(&self) -> String {
        let outer = fs::read_to_string(self.state.join("pid")).unwrap();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
        children.trim().to_owned()
    }

    /// The number outside of the part `name`.
    pub fn part(&self, name: &str) -> String {
        let first = self.first_process();
        let parts = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let is_part = |process: &&str| {
            fs::read_to_string(format!("/proc/{process}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        };
        parts.split_whitespace().find(is_part).unwrap().to_owned()
    }

    /// The name that its cgroups have.
    pub fn cgroup(&self) -> String {
        let json = fs::read(self.state.join("config/kubelet.json")).unwrap();
        let kubelet: serde_json::Value = serde_json::from_slice(&json).unwrap();
        kubelet["cgroupRoot"]
            .as_str()
            .unwrap()
            .trim_start_matches('/')
            .to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that fails on the way says so itself.
        self.command(&["down"]).output().ok();
        fs::remove_dir_all(&self.state).ok();
    }
}

/// The namespaces of a process.
pub fn namespaces(process: &str) -> BTreeSet<String> {
    ["mnt", "net", "pid"]
        .into_iter()
        .filter_map(|kind| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok())
        .map(|namespace| namespace.to_string_lossy().into_owned())
        .collect()
}

/// All processes that are in one of `namespaces`.
pub fn processes_in(namespaces: &BTreeSet<String>) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|process| !self::namespaces(process).is_disjoint(namespaces))
        .collect()
}

/// The folders of the cgroup `name`, in all hierarchies.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap();
    let mut places: Vec<PathBuf> = hierarchies.map(|entry| entry.unwrap().path()).collect();
    places.push(PathBuf::from("/sys/fs/cgroup"));
    places
        .into_iter()
        .map(|place| place.join(name))
        .filter(|place| place.exists())
        .collect()
}

/// How many processes are in the cgroup `name` and those below it, counted once for each hierarchy.
pub fn processes_of(name: &str) -> usize {
    cgroups(name)
        .iter()
        .map(|group| processes_below(group))
        .sum()
}

fn processes_below(group: &Path) -> usize {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let groups = fs::read_dir(group).into_iter().flatten().flatten();
    let below = groups
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    processes.lines().count() + below.map(|group| processes_below(&group)).sum::<usize>()
}

pub fn complaint(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}

pub fn text_of(program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(words);
    text(command)
}

fn text(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

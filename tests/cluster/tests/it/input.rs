//! Bad input: one line, that says what to do.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::{Cluster, complaint};

fn cluster(name: &str) -> (Cluster, Command) {
    let cluster = Cluster {
        state: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name),
    };
    let command = cluster.command(&["up"]);
    (cluster, command)
}

fn assert_one_line(complaint: &str, advice: &str) {
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains(advice), "{complaint}");
}

#[test]
fn a_version_that_cannot_be_built_is_refused() {
    for (version, advice) in [
        ("1.35.4", "choose 1.33.x or 1.34.x"),
        ("1.32.0", "1.33 or newer"),
        ("latest", "write it like 1.34.4"),
    ] {
        let (_cluster, mut up) = cluster("version");
        up.env("KUBERNETES_VERSION", version);
        assert_one_line(&complaint(up), advice);
    }
}

#[test]
fn a_cluster_that_was_never_started_is_down() {
    let (cluster, _) = cluster("never");
    assert_one_line(&cluster.fails(&["status"]), "make cluster");
    assert!(!cluster.state.exists(), "asking made a folder");
}

#[test]
#[ignore = "needs root"]
fn what_is_missing_is_named_with_its_package() {
    let (_cluster, mut up) = cluster("missing");
    up.env("PATH", "/nowhere");
    assert_one_line(&complaint(up), "apt-get install gcc libc6-dev");
}

#[test]
#[ignore = "needs root"]
fn a_person_without_root_is_told() {
    let state = std::env::temp_dir().join("cluster-without-root");
    let program = env!("CARGO_BIN_EXE_cluster");
    let mut up = Command::new("setpriv");
    up.args(["--reuid=65534", "--clear-groups", program, "--state"])
        .arg(state)
        .arg("up");
    assert_one_line(&complaint(up), "sudo");
}

#[test]
#[ignore = "needs root"]
fn root_without_the_capability_is_told() {
    let state = std::env::temp_dir().join("cluster-without-capability");
    let program = env!("CARGO_BIN_EXE_cluster");
    let mut up = Command::new("setpriv");
    up.args(["--bounding-set=-sys_admin", program, "--state"])
        .arg(state)
        .arg("up");
    assert_one_line(&complaint(up), "--privileged");
}

#[test]
#[ignore = "needs root"]
fn commands_inside_need_a_cluster() {
    let (cluster, _) = cluster("nothing-inside");
    assert_one_line(&cluster.fails(&["exec", "true"]), "make cluster");
    assert_one_line(&cluster.fails(&["load", "/no/such.tar"]), "make cluster");
}

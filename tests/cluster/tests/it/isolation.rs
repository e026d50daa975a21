//! What a cluster leaves behind, and what it sees of others.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, cgroups, namespaces, processes_in, processes_of, text_of};

#[test]
#[ignore = "needs root and Kubernetes"]
fn nothing_is_left_of_a_cluster_that_was_killed_but_cgroups_which_down_removes() {
    let cluster = Cluster::up("killed");
    cluster.kubectl(&["create", "deployment", "pod", "--image=localhost/pause:1"]);
    cluster.kubectl(&[
        "wait",
        "deployment/pod",
        "--for=condition=Available",
        "--timeout=60s",
    ]);
    let first = cluster.first_process();
    let inside = namespaces(&first);
    assert!(
        inside.is_disjoint(&namespaces("self")),
        "it shares a namespace with us"
    );
    // The supervisor, its eight parts and the shim of a pod; in the pod, its container and what holds it.
    assert!(processes_in(&inside).len() >= 10);
    let cgroup = cluster.cgroup();
    assert!(processes_of(&cgroup) >= 2);

    text_of("kill", &["-KILL", &first]);

    eventually("all processes are gone", || {
        processes_in(&inside).is_empty() && processes_of(&cgroup) == 0
    });
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let state = cluster.state.to_string_lossy();
    assert!(!mounts.contains(&*state), "a mount is left: {mounts}");
    assert!(complaint_of_ended(&cluster).contains("it was killed"));
    cluster.succeeds(&["down"]);
    assert_eq!(cgroups(&cgroup), Vec::<std::path::PathBuf>::new());
    assert!(cluster.fails(&["status"]).contains("the cluster is down"));
    // Nothing to take down is no mistake.
    cluster.succeeds(&["down"]);
}

#[test]
#[ignore = "needs root and Kubernetes"]
fn two_clusters_know_nothing_of_each_other() {
    let (one, other) = (Cluster::up("one"), Cluster::up("other"));
    one.kubectl(&["create", "namespace", "only-here"]);
    let answer = other.try_kubectl(&["get", "namespace", "only-here"]);
    assert!(!answer.status.success());
    one.succeeds(&["down"]);
    other.kubectl(&["get", "--raw", "/readyz"]);
    other.succeeds(&["exec", "getent", "hosts", "kubernetes.default"]);
}

#[test]
#[ignore = "needs root and Kubernetes"]
fn what_is_written_to_the_machines_folders_is_not_on_the_machine() {
    let cluster = Cluster::up("folders");
    let first = cluster.first_process();
    for folder in ["/etc", "/run", "/usr", "/var"] {
        let file = format!("{folder}/globus-auth-was-here");
        text_of("nsenter", &["--target", &first, "--mount", "touch", &file]);
        assert!(!Path::new(&file).exists(), "{file}");
    }
    // Commands inside, in contrast, work on the machine's files, and as its processes.
    let file = cluster.state.join("was-here");
    let script = format!("[ -e /proc/self ] && touch {}", file.display());
    cluster.succeeds(&["exec", "sh", "-c", &script]);
    assert!(file.exists());
}

#[test]
#[ignore = "needs root and Kubernetes"]
fn a_start_that_was_interrupted_is_finished_by_the_next() {
    let cluster = Cluster::new("interrupted");
    let mut up = cluster
        .command(&["up"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the supervisor is there", || {
        cluster.state.join("pid").exists()
    });
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(cluster.fails(&["status"]).contains("is starting"));
    cluster.succeeds(&["up"]);
    cluster.kubectl(&["get", "service", "--namespace=kube-system", "kube-dns"]);
}

#[test]
#[ignore = "needs root and Kubernetes"]
fn a_part_that_ends_takes_the_cluster_with_it_and_is_named() {
    let cluster = Cluster::up("ended");
    let inside = namespaces(&cluster.first_process());
    text_of("kill", &["-KILL", &cluster.part("kube-scheduler")]);
    eventually("all processes are gone", || {
        processes_in(&inside).is_empty()
    });
    let complaint = complaint_of_ended(&cluster);
    assert!(
        complaint.contains("kube-scheduler ended (signal: 9 (SIGKILL))"),
        "{complaint}"
    );
    // The next one starts where nothing was cleaned up.
    let said = cluster.succeeds(&["up"]);
    assert!(
        said.contains("the last cluster ended: kube-scheduler"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root and Kubernetes"]
fn a_cluster_that_is_asked_to_stop_does_so_at_once() {
    let cluster = Cluster::up("asked");
    let inside = namespaces(&cluster.first_process());
    text_of("kill", &["-TERM", &cluster.first_process()]);
    within(Duration::from_secs(5), "all processes are gone", || {
        processes_in(&inside).is_empty()
    });
    assert!(complaint_of_ended(&cluster).contains("it was asked to stop"));
}

/// What `status` says once the process that waits for the first one has ended as well.
fn complaint_of_ended(cluster: &Cluster) -> String {
    let runs = || {
        cluster
            .command(&["status"])
            .output()
            .unwrap()
            .status
            .success()
    };
    eventually("the cluster has ended", || !runs());
    cluster.fails(&["status"])
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    within(Duration::from_secs(20), what, is_so);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel and other processes take real time"
)]
fn within(patience: Duration, what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < patience, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

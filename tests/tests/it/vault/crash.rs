//! What is left of a program that crashes.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::*;

fn cores_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_core = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.is_file() && (name == "core" || name.starts_with("core."))
    };
    paths.filter(is_core).collect()
}

/// Whether this machine leaves cores where a program runs; some send them elsewhere.
fn leaves_cores(folder: &Path) -> bool {
    let crash = ["-c", "kill -ABRT $$"];
    let crashed = Command::new("sh").args(crash).current_dir(folder).status();
    assert!(!crashed.unwrap().success());
    let cores = cores_in(folder);
    for core in &cores {
        std::fs::remove_file(core).unwrap();
    }
    !cores.is_empty()
}

/// The memory has tokens, and a core is the memory in a file.
#[tokio::test]
async fn a_crash_leaves_no_memory_in_a_file() {
    // What is started from now on could leave one.
    let maximum = getrlimit(Resource::Core).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Core, all).unwrap();
    let folder = std::env::temp_dir().join(format!("globus-auth-crash-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let can_be_seen = leaves_cores(&folder);
    std::fs::remove_dir(&folder).unwrap();

    let mut stage = setup().start().await;
    got(&stage.logged_in(ALICE).await).await;
    let processes = [stage.sidecar.process(), stage.vault().process()];
    let mut crashed = Vec::new();
    for process in processes {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let limit = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let limit: Vec<_> = limit.unwrap().split_whitespace().collect();
        assert_eq!(limit[4..6], ["0", "0"], "{limits}");
        crashed.push(std::fs::read_link(format!("/proc/{process}/cwd")).unwrap());
        let id = Pid::from_raw(process.try_into().unwrap()).unwrap();
        kill_process(id, Signal::ABORT).unwrap();
    }
    let status = stage.sidecar.stopped().await;
    assert!(!status.success(), "{status}");
    stage.vault.as_mut().unwrap().died().await;
    if can_be_seen {
        for folder in crashed {
            assert_eq!(cores_in(&folder), Vec::<PathBuf>::new());
        }
    }
}

//! The cluster's own cgroups, the one thing of it that outlives its namespaces.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The mount points of all cgroup hierarchies: several with cgroup v1, one with v2.
pub(crate) fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("failed to read /proc/mounts")?;
    Ok(parse(&mounts))
}

fn parse(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind) = (fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
        })
        .collect()
}

/// Makes the group `id` in every hierarchy.
///
/// # Errors
/// A hierarchy is read-only.
pub(crate) fn create(id: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(id);
        fs::create_dir_all(&group)
            .with_context(|| format!("failed to make the cgroup {}", group.display()))?;
        // A new group of the cpuset hierarchy of v1 has no CPU and can hold no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                fs::write(group.join(file), all).unwrap_or_default();
            }
        }
        // In v2 a group's children get only the controllers that it passes on.
        if let Ok(controllers) = fs::read_to_string(hierarchy.join("cgroup.controllers")) {
            let wanted: Vec<String> = controllers
                .split_whitespace()
                .map(|name| format!("+{name}"))
                .collect();
            for group in [&hierarchy, &group] {
                fs::write(group.join("cgroup.subtree_control"), wanted.join(" "))
                    .unwrap_or_default();
            }
        }
    }
    Ok(())
}

/// Removes the group `id` and everything below it. A group is empty when its processes are gone.
///
/// # Errors
/// A group is still in use.
pub(crate) fn remove(id: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(id);
        if group.exists() {
            remove_tree(&group)
                .with_context(|| format!("failed to remove the cgroup {}", group.display()))?;
        }
    }
    Ok(())
}

/// Groups are removed from the leaves up; their files go with them.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let paths = parse(v1);
        assert_eq!(
            paths,
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from)
        );
        assert_eq!(
            parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
            [PathBuf::from("/sys/fs/cgroup")]
        );
    }
}

//! How much memory this process may use: the machine's, or less where a control group limits it (a container, a systemd unit).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes that this process may use at most: the least of the machine's memory and the limits of the control groups that it is in
/// (cgroup v2 `memory.max`, v1 `memory.limit_in_bytes`). `None` where the system does not say.
pub fn machine_memory() -> Option<u64> {
    read(Path::new("/"))
}

fn read(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| total(&text));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(group).flat_map(|(folder, group, file)| {
        let folder = root.join(folder);
        // Each of the groups around it limits it too. Inside a container its own group may be what is mounted as the root.
        let around = Path::new(group).ancestors().map(|it| it.strip_prefix("/").unwrap_or(it).to_owned());
        let files: Vec<PathBuf> = around.map(|group| folder.join(group).join(file)).collect();
        files.into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
    });
    machine.into_iter().chain(limits).min()
}

/// `MemTotal` (proc_meminfo(5)), which is in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// A line of `/proc/self/cgroup` (cgroups(7)), `number:controllers:path`: where its hierarchy is mounted, the group, and the file with
/// its limit.
fn group(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    match controllers {
        "" => Some(("sys/fs/cgroup", group, "memory.max")),
        _ if controllers.split(',').any(|it| it == "memory") => {
            Some(("sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "MemFree: 5 kB\nMemTotal:       16384 kB\n";

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        read(root.path())
    }

    #[test]
    fn the_least_limit_counts() {
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("proc/meminfo", MACHINE)]), Some(16 << 20));
        let v2 = [("proc/meminfo", MACHINE), ("proc/self/cgroup", "0::/system.slice/copal.service\n")];
        let with = |more: &[(&str, &str)]| limit(&[&v2[..], more].concat());
        let own = "sys/fs/cgroup/system.slice/copal.service/memory.max";
        assert_eq!(with(&[(own, "max\n")]), Some(16 << 20));
        assert_eq!(with(&[(own, "4194304\n")]), Some(4 << 20));
        assert_eq!(
            with(&[(own, "4194304\n"), ("sys/fs/cgroup/system.slice/memory.max", "2097152\n")]),
            Some(2 << 20)
        );
        assert_eq!(with(&[("sys/fs/cgroup/memory.max", "1048576\n")]), Some(1 << 20));
    }

    #[test]
    fn the_older_hierarchy_counts_too() {
        let v1 = [
            ("proc/meminfo", MACHINE),
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/x\n1:name=systemd:/\n"),
        ];
        let with = |more: &[(&str, &str)]| limit(&[&v1[..], more].concat());
        assert_eq!(
            with(&[("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "3145728\n")]),
            Some(3 << 20)
        );
        assert_eq!(
            with(&[("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")]),
            Some(16 << 20)
        );
    }

    #[test]
    fn nonsense_is_no_limit() {
        let odd = [("proc/meminfo", "MemTotal: x\n"), ("proc/self/cgroup", "\n:\n0:\n0::\n3:memory:\n")];
        assert_eq!(limit(&odd), None);
    }
}

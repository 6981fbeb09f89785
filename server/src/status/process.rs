//! What the system counts of this process and its machine, as Linux tells it (proc(5)). What it does not tell is 0.

use proto::status::v1::Process;
use rustix::{
    fs::statvfs,
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
};
use std::{fs, path::Path, str::FromStr};

/// How this process and the file system of its `data` folder are.
pub(super) fn measure(data: &Path) -> Process {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpu_us, threads) = cpu(&read("/proc/self/stat"), clock_ticks_per_second());
    let meminfo = read("/proc/meminfo");
    let (disk_free_bytes, disk_total_bytes) = disk(data);
    Process {
        pid: std::process::id(),
        cpu_us,
        threads,
        resident_bytes: kib(&read("/proc/self/status"), "VmRSS:"),
        open_files: open_files(),
        open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        disk_free_bytes,
        disk_total_bytes,
        memory_free_bytes: kib(&meminfo, "MemAvailable:"),
        memory_total_bytes: kib(&meminfo, "MemTotal:"),
        cores: std::thread::available_parallelism()
            .map_or(0, |it| u32::try_from(it.get()).unwrap_or(u32::MAX)),
        load_per_mille: load(&read("/proc/loadavg")),
    }
}

/// Linux tells the number as the folder's size from 6.2 on; before, the files are counted.
fn open_files() -> u64 {
    let told = fs::metadata("/proc/self/fd").map_or(0, |it| it.len());
    if told > 0 { told } else { fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64) }
}

/// CPU time in microseconds and the number of threads, of `/proc/self/stat` (proc_pid_stat(5)): the fields 14, 15 and 20. The second
/// is a name in parentheses, which may have anything in it.
fn cpu(stat: &str, ticks_a_second: u64) -> (u64, u32) {
    let Some((_, rest)) = stat.rsplit_once(')') else { return (0, 0) };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = number::<u64>(&fields, 11).saturating_add(number(&fields, 12));
    (ticks.saturating_mul(1_000_000) / ticks_a_second.max(1), number(&fields, 17))
}

fn number<T: FromStr + Default>(fields: &[&str], place: usize) -> T {
    fields.get(place).and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// A line of a file such as `/proc/meminfo`, in KiB there, in bytes here.
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: u64 = line.split_ascii_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or_default();
    kib.saturating_mul(1024)
}

/// The first number of `/proc/loadavg`, in thousandths.
fn load(loadavg: &str) -> u64 {
    let first: f64 = loadavg.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    (first * 1000.0).clamp(0.0, 1e15) as u64
}

/// Bytes that this process may still write, and all.
fn disk(folder: &Path) -> (u64, u64) {
    let Ok(it) = statvfs(folder) else { return (0, 0) };
    (it.f_bavail.saturating_mul(it.f_frsize), it.f_blocks.saturating_mul(it.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read_and_anything_else_is_0() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 100 1000 10";
        assert_eq!(cpu(stat, 100), (3_000_000, 7));
        assert_eq!(kib("VmHWM:\t 9 kB\nVmRSS:\t    1024 kB\n", "VmRSS:"), 1 << 20);
        assert_eq!(load("1.25 0.5 0.1 1/2 3\n"), 1250);
        assert_eq!((cpu("", 100), cpu("1 (x) S", 0), kib("", "VmRSS:"), load("x")), ((0, 0), (0, 0), 0, 0));
    }

    #[test]
    fn this_process_is_measured() {
        let seen = measure(Path::new("/"));
        assert!(seen.pid > 0 && seen.open_files > 0 && seen.open_files_max >= seen.open_files, "{seen:?}");
        assert!(seen.resident_bytes > 0 && seen.threads > 0 && seen.disk_total_bytes > 0, "{seen:?}");
        assert!(seen.memory_total_bytes > seen.resident_bytes && seen.cores > 0, "{seen:?}");
    }
}

//! Keeps this process's memory and environment from other processes of the same user: the cluster key, private keys of certificates,
//! passwords and sessions are in them, and the apps that it runs are such processes.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on nobody but the superuser reads `/proc/PID/environ` and `/proc/PID/mem` of this process or attaches to it, and it leaves no core
/// file (`PR_SET_DUMPABLE` in prctl(2), proc(5), ptrace(2)). A process that it starts is as usual again.
pub(crate) fn close() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::dumpable_behavior;
    use std::{fs, io::ErrorKind, process::Command};

    #[test]
    fn only_the_superuser_looks_into_this_process_and_the_next_one_is_open() {
        close().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        // Asked by a process that this one starts, as an app is.
        let script = "cat /proc/$PPID/environ >/dev/null 2>&1; echo $?; cat /proc/$$/environ | wc -c; cat /proc/$PPID/status | wc -l";
        let output = Command::new("sh").args(["-c", script]).env("A", "1").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said: Vec<u64> = said.lines().map(|line| line.trim().parse().unwrap()).collect();
        let superuser = rustix::process::geteuid().is_root();
        assert_eq!(said[0] == 0, superuser, "{said:?}");
        assert!(said[1] > 0, "its own it may read: {said:?}");
        assert!(said[2] > 0, "how the server does is no secret: {said:?}");
        if !superuser {
            assert_eq!(fs::read("/proc/self/environ").unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }
}

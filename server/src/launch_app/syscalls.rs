//! Of a user's processes, each may change the others' limits: an app could end the server with one of processor time (prlimit(2)). Landlock
//! does not know of that, a filter of system calls does (seccomp(2)).

use anyhow::Context;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// The system call's number.
const PRLIMIT64: i64 = if cfg!(target_arch = "x86_64") { 302 } else { 261 };

/// Its number for programs of the x32 ABI, which kernels for `x86_64` may have.
const PRLIMIT64_X32: i64 = PRLIMIT64 | 0x4000_0000;

/// EPERM.
const NOT_PERMITTED: u32 = 1;

/// The next program gets and sets no limits but its own. A program of another architecture, as a 32-bit one, is killed. Where seccompiler does
/// not know this architecture nothing is filtered.
pub(super) fn filter() -> anyhow::Result<()> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    let rule = SeccompRule::new(vec![other])?;
    let filter = SeccompFilter::new(
        [(PRLIMIT64, vec![rule.clone()]), (PRLIMIT64_X32, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(NOT_PERMITTED),
        architecture,
    )?;
    apply_filter(&BpfProgram::try_from(filter)?).context("seccomp")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, getpid, getrlimit, prlimit};

    #[test]
    fn limits_of_others_are_out_of_reach() {
        // Of this thread alone, which ends.
        let filtered = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let own = getrlimit(Resource::Nproc);
            filter().unwrap();
            let others = prlimit(Some(getpid()), Resource::Nproc, own);
            (others, prlimit(None, Resource::Nproc, own))
        });
        let (others, own) = filtered.join().unwrap();
        if TargetArch::try_from(std::env::consts::ARCH).is_ok() {
            assert_eq!(others.unwrap_err(), rustix::io::Errno::PERM);
        }
        own.unwrap();
    }
}

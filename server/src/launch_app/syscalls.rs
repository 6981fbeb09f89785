//! What Landlock does not know of, a filter of system calls does (seccomp(2)). Of a user's processes, each may change the others' limits: an
//! app could end the server with one of processor time (prlimit(2)). And a process makes programs of its files that run as its user for whoever
//! starts them (the set-user-id bit): of an app without a user of its own, as the server.

use anyhow::Context;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// The system calls' numbers; `None`: there is none of this name.
struct Numbers {
    prlimit64: i64,
    /// Of the next ones, with the argument that is the mode.
    chmod: Option<i64>,
    fchmod: i64,
    fchmodat: i64,
    fchmodat2: i64,
    creat: Option<i64>,
    mknod: Option<i64>,
    mknodat: i64,
    open: Option<i64>,
    openat: i64,
    /// What these do is in memory, where no filter can look.
    openat2: i64,
    io_uring_setup: i64,
}

const NUMBERS: Numbers = if cfg!(target_arch = "x86_64") {
    Numbers {
        prlimit64: 302,
        chmod: Some(90),
        fchmod: 91,
        fchmodat: 268,
        fchmodat2: 452,
        creat: Some(85),
        mknod: Some(133),
        mknodat: 259,
        open: Some(2),
        openat: 257,
        openat2: 437,
        io_uring_setup: 425,
    }
} else {
    // Those of all newer architectures.
    Numbers {
        prlimit64: 261,
        chmod: None,
        fchmod: 52,
        fchmodat: 53,
        fchmodat2: 452,
        creat: None,
        mknod: None,
        mknodat: 33,
        open: None,
        openat: 56,
        openat2: 437,
        io_uring_setup: 425,
    }
};

/// Programs of the x32 ABI, which kernels for `x86_64` may have, call with this bit.
const X32: i64 = 0x4000_0000;

/// EPERM, ENOSYS.
const NOT_PERMITTED: u32 = 1;
const NO_SUCH_CALL: u32 = 38;

/// Set-user-id and set-group-id (inode(7)).
const SET_ID: [u64; 2] = [0o4000, 0o2000];

/// Flags of open(2) with which a mode counts: `O_CREAT`, and that of `O_TMPFILE` beside `O_DIRECTORY`.
const CREATES: [u64; 2] = [0o100, 0o20_000_000];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The next program gets and sets no limits but its own, and makes no file that runs as its user or group. A program of another architecture, as a
/// 32-bit one, is killed. Where seccompiler does not know this architecture nothing is filtered.
pub(super) fn filter() -> anyhow::Result<()> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    let apply = |rules: Rules, error| {
        let rules = rules.into_iter().flat_map(|(call, rules)| [(call, rules.clone()), (call | X32, rules)]);
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(error));
        let filter = SeccompFilter::new(rules.collect(), allow, refuse, architecture)?;
        apply_filter(&BpfProgram::try_from(filter)?).context("seccomp")
    };
    apply(not_permitted()?, NOT_PERMITTED)?;
    // Who finds none falls back to what can be looked at.
    let without = [NUMBERS.openat2, NUMBERS.io_uring_setup];
    apply(without.into_iter().map(|call| (call, Vec::new())).collect(), NO_SUCH_CALL)
}

fn not_permitted() -> anyhow::Result<Rules> {
    let Numbers { chmod, fchmod, fchmodat, fchmodat2, creat, mknod, mknodat, open, openat, .. } = NUMBERS;
    let others = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    let mut rules = Rules::from([(NUMBERS.prlimit64, vec![SeccompRule::new(vec![others])?])]);
    let modes = [(chmod, 1), (Some(fchmod), 1), (Some(fchmodat), 2), (Some(fchmodat2), 2), (creat, 1)];
    for (call, mode) in modes.into_iter().chain([(mknod, 1), (Some(mknodat), 2)]) {
        let Some(call) = call else { continue };
        let of_bit = |bit| Ok(SeccompRule::new(vec![has(mode, bit)?])?);
        rules.insert(call, SET_ID.into_iter().map(of_bit).collect::<anyhow::Result<_>>()?);
    }
    for (call, flags, mode) in [(open, 1, 2), (Some(openat), 2, 3)] {
        let Some(call) = call else { continue };
        let pairs = CREATES.into_iter().flat_map(|creates| SET_ID.map(|bit| (creates, bit)));
        let of_pair = |(creates, bit)| Ok(SeccompRule::new(vec![has(flags, creates)?, has(mode, bit)?])?);
        rules.insert(call, pairs.map(of_pair).collect::<anyhow::Result<_>>()?);
    }
    Ok(rules)
}

/// An argument of a call has this bit.
fn has(argument: u8, bit: u64) -> anyhow::Result<SeccompCondition> {
    let is_set = SeccompCmpOp::MaskedEq(bit);
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is_set, bit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        fs::{self, CWD, Mode, OFlags},
        io::Errno,
        process::{Resource, getpid, getrlimit, prlimit},
    };

    /// Runs what a filtered process may do or not, on a thread that ends.
    fn filtered<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        TargetArch::try_from(std::env::consts::ARCH).ok()?;
        let thread = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            filter().unwrap();
            work()
        });
        Some(thread.join().unwrap())
    }

    #[test]
    fn limits_of_others_are_out_of_reach() {
        let own = getrlimit(Resource::Nproc);
        let tried = filtered(move || {
            (prlimit(Some(getpid()), Resource::Nproc, own), prlimit(None, Resource::Nproc, own))
        });
        let Some((others, own)) = tried else { return };
        assert_eq!(others.unwrap_err(), Errno::PERM);
        own.unwrap();
    }

    #[test]
    fn no_file_runs_as_somebody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let tried = filtered(move || {
            let file = path.join("file");
            std::fs::write(&file, "").unwrap();
            let new =
                |name: &str, flags, mode| fs::openat(CWD, path.join(name), flags, Mode::from_raw_mode(mode));
            let creates = OFlags::WRONLY | OFlags::CREATE;
            let may = [
                fs::chmod(&file, Mode::from_raw_mode(0o755)),
                new("plain", creates, 0o644).map(drop),
                // Without a flag that makes a file nobody looks at the mode.
                new("file", OFlags::RDONLY, 0o6000).map(drop),
            ];
            let opened = fs::open(&file, OFlags::RDONLY, Mode::empty()).unwrap();
            let may_not = [
                fs::chmod(&file, Mode::from_raw_mode(0o4755)),
                fs::chmod(&file, Mode::from_raw_mode(0o2755)),
                fs::fchmod(&opened, Mode::from_raw_mode(0o4755)),
                new("set-id", creates, 0o4755).map(drop),
                new(".", OFlags::WRONLY | OFlags::TMPFILE, 0o4755).map(drop),
                fs::mknodat(
                    CWD,
                    path.join("node"),
                    fs::FileType::RegularFile,
                    Mode::from_raw_mode(0o4755),
                    0,
                ),
            ];
            (may, may_not)
        });
        let Some((may, may_not)) = tried else { return };
        assert!(may.iter().all(Result::is_ok), "{may:?}");
        assert!(may_not.iter().all(|it| *it == Err(Errno::PERM)), "{may_not:?}");
    }
}

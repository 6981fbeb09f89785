//! Open files: a server takes as many as the system lets it have, since every connection is one, and keeps some of them from its
//! clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What clients leave at least, where that is no more than half: a socket for each of the 1024 requests that a server of ours may
/// have by default, or as many files, logs and cluster ports.
const RESERVE: u64 = 1024;

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // Refused, the soft limit stands: connections beyond it wait in the kernel's queue.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// How many connections clients may have at once, so that what serves them can be opened too.
pub(crate) fn clients_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(clients_of(limit)).unwrap_or(usize::MAX))
}

/// Three quarters, or what is left of `RESERVE`, but half in any case.
fn clients_of(limit: u64) -> u64 {
    limit - (limit / 4).max(RESERVE).min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_a_quarter_or_1024_and_get_half_at_least() {
        let limits = [0, 256, 1024, 2048, 4096, 65_536, 1_048_576];
        assert_eq!(limits.map(clients_of), [0, 128, 512, 1024, 3072, 49_152, 786_432]);
        assert!(clients_max() > 0);
    }
}

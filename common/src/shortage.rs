//! Errors that say what this machine is short of, and nothing of whom it wanted to reach.

use rustix::io::Errno;
use std::io;

/// Whether a connection failed for want of file descriptors (of the process or the system), buffers or memory here. (Want of ports is
/// no part of it: the system says the same, `EADDRNOTAVAIL`, of addresses that can never be reached from here.)
pub fn is_shortage(cause: &io::Error) -> bool {
    let errno = Errno::from_io_error(cause);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_did_is_none() {
        let is = |errno: Errno| is_shortage(&errno.into());
        assert!([Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].into_iter().all(is));
        let others =
            [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::ADDRNOTAVAIL];
        assert!(!others.into_iter().any(is));
        assert!(!is_shortage(&io::Error::other("no number")));
    }
}

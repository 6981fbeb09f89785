//! Whether a file is there, asked at most once a second for each path: a look at the disk blocks the worker, for microseconds
//! if the disk is this machine's own.

use super::site::Sites;
use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The most answers that are kept; clients choose the paths.
const KEPT_MAX: usize = 1024;

/// The longest path that is kept or looked for, in bytes: no file system takes a longer one.
const PATH_MAX: usize = 4096;

/// What the disk has said in the last second.
#[derive(Debug, Default)]
pub(super) struct SeenFiles {
    seen: RefCell<HashMap<Box<str>, (SystemTime, bool)>>,
}

impl SeenFiles {
    /// Whether a host's web-app of files has a file for a decoded path.
    pub(super) fn exists(&self, sites: &Sites, path: &str, now: SystemTime) -> bool {
        if path.len() > PATH_MAX {
            return false;
        }
        let mut seen = self.seen.borrow_mut();
        // A clock that went back makes an answer old.
        let good = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < GOOD_FOR);
        if let Some((at, exists)) = seen.get_mut(path) {
            if !good(at) {
                (*at, *exists) = (now, sites.has_file(path));
            }
            return *exists;
        }
        if seen.len() >= KEPT_MAX {
            seen.clear();
        }
        let exists = sites.has_file(path);
        seen.insert(path.into(), (now, exists));
        exists
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.seen.borrow().len()
    }
}

//! Symbolic links of a tree: where they lead, without a file system.

use crate::error::RepositoryError;
use crate::objects::{Mode, TreeError};
use crate::trees::{join, text};
use crate::{Kind, ObjectId, Repository};
use std::collections::BTreeMap;

/// Links by their paths, and where they point to.
pub(crate) type Links = BTreeMap<Vec<u8>, Vec<u8>>;

/// Linux follows so many links of one path (MAXSYMLINKS), and takes so long a path (PATH_MAX).
const FOLLOWED: usize = 40;
const TARGET_BYTES: usize = 4095;
/// Parts of paths that are looked at for one link, and for all of a tree.
const STEPS: usize = 4096;
const ALL_STEPS: usize = 4_000_000;

impl Repository {
    /// All links of a tree.
    pub(crate) fn links(&self, tree: ObjectId) -> Result<Links, RepositoryError> {
        let mut links = Links::new();
        let mut waiting = vec![(Vec::new(), tree, 0)];
        while let Some((folder, tree, depth)) = waiting.pop() {
            self.check_depth(depth)?;
            for child in self.children(tree)? {
                let path = join(&folder, &child.name);
                match child.mode {
                    Mode::Folder => waiting.push((path, child.id, depth + 1)),
                    Mode::Link => drop(links.insert(path, self.read(child.id, Kind::Blob)?)),
                    Mode::File | Mode::Executable => {}
                }
            }
        }
        Ok(links)
    }
}

/// Refuses links that lead out of the tree, also by way of another link, and those that lead in circles.
pub(crate) fn check(links: &Links) -> Result<(), TreeError> {
    let mut steps = 0;
    for (path, target) in links {
        let stays = stays_inside(links, path, target, &mut steps);
        if !stays || steps > ALL_STEPS {
            return Err(TreeError::Link { path: text(path), target: text(target) });
        }
    }
    Ok(())
}

/// Follows a link as Linux does (path_resolution(7)). What it leads to need not be there.
fn stays_inside(links: &Links, path: &[u8], target: &[u8], steps: &mut usize) -> bool {
    let mut place: Vec<u8> = path.to_vec();
    leave(&mut place);
    let Some(mut waiting) = parts(target) else { return false };
    let (mut followed, mut taken) = (0, 0);
    while let Some(part) = waiting.pop() {
        (taken, *steps) = (taken + 1, *steps + 1);
        if taken > STEPS {
            return false;
        }
        if part == b".." {
            if place.is_empty() {
                return false;
            }
            leave(&mut place);
            continue;
        }
        place = join(&place, part);
        if let Some(next) = links.get(&place) {
            followed += 1;
            let Some(more) = parts(next).filter(|_| followed <= FOLLOWED) else { return false };
            leave(&mut place);
            waiting.extend(more);
        }
    }
    true
}

/// The parts of a relative path, the last one first.
fn parts(target: &[u8]) -> Option<Vec<&[u8]>> {
    let fits = !target.is_empty()
        && target.len() <= TARGET_BYTES
        && !target.starts_with(b"/")
        && !target.contains(&0);
    let parts = target.split(|it| *it == b'/').rev().filter(|it| !matches!(*it, b"" | b"."));
    fits.then(|| parts.collect())
}

/// To the folder above.
fn leave(place: &mut Vec<u8>) {
    place.truncate(place.iter().rposition(|it| *it == b'/').unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(links: &[(&str, &str)]) -> bool {
        let bytes = |it: &str| it.as_bytes().to_vec();
        check(&links.iter().map(|(path, target)| (bytes(path), bytes(target))).collect()).is_ok()
    }

    #[test]
    fn links_that_stay() {
        for links in [
            &[("a", "b")][..],
            &[("a/b", "../c/d")],
            &[("a/b/c", "../../x"), ("x", "y"), ("y", ".")],
            &[("a", "not/there")],
            &[("a", "./b//c/")],
            &[("current", "v1"), ("app", "current/bin")],
        ] {
            assert!(allowed(links), "{links:?}");
        }
    }

    #[test]
    fn links_that_leave() {
        let long = "x".repeat(5000);
        let steps = "a/../".repeat(900);
        for links in [
            &[("a", "/etc/passwd")][..],
            &[("a", "..")],
            &[("a", "b/../..")],
            &[("a/b", "../../c")],
            &[("a", "")],
            &[("a", "a")],
            &[("a", "b"), ("b", "a/x")],
            // By name it stays, by way of the link it doesn't.
            &[("d/e/up", ".."), ("k", "d/e/up/../..")],
            &[("a/l", "../b"), ("b", "c/.."), ("z", "a/l/../..")],
            &[("a", &long)],
            &[("x", &steps), ("y", "x/../..")],
        ] {
            assert!(!allowed(links), "{links:?}");
        }
    }
}

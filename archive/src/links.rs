//! Where links lead, once all entries are known: as the kernel would follow them, so that no chain of links leaves the archive.

use crate::{
    entries::{Entries, Kind, ROOT},
    error::Problem,
};

/// Links on one way, as Linux follows them (path_resolution(7)).
const HOPS_MAX: usize = 40;
/// Names that are looked up for all links of an archive together.
const STEPS_MAX: u64 = 10_000_000;

/// Checks every link.
///
/// # Errors
/// The path of the first that leaves the archive or ends nowhere because it goes in a circle, and what is wrong with it.
pub(crate) fn check(entries: &Entries<'_>) -> Result<(), (String, Problem)> {
    let mut steps = STEPS_MAX;
    for (node, it) in entries.all() {
        if let Kind::Link { target } = &it.kind {
            follow(entries, it.parent, target, &mut steps)
                .map_err(|problem| (entries.path(node), problem))?;
        }
    }
    Ok(())
}

/// Follows `target` from the folder `at`. A name that is not there is taken for a folder, as one may be made there later.
fn follow(entries: &Entries<'_>, mut at: u32, target: &str, steps: &mut u64) -> Result<(), Problem> {
    let mut names: Vec<&str> = target.split('/').rev().collect();
    let mut hops = 0;
    // Folders below `at` that are not there.
    let mut missing = 0_usize;
    while let Some(name) = names.pop() {
        *steps = steps.checked_sub(1).ok_or_else(|| Problem::LinkLoop { target: target.to_owned() })?;
        match name {
            "" | "." => {}
            ".." if missing > 0 => missing -= 1,
            ".." if at == ROOT => return Err(Problem::LinkEscapes { target: target.to_owned() }),
            ".." => at = entries.node(at).parent,
            _ if missing > 0 => missing += 1,
            _ => match entries.child(at, name) {
                None => missing = 1,
                Some(node) => match &entries.node(node).kind {
                    Kind::Link { target: next } => {
                        hops += 1;
                        if hops > HOPS_MAX {
                            return Err(Problem::LinkLoop { target: target.to_owned() });
                        }
                        names.extend(next.split('/').rev());
                    }
                    Kind::Folder | Kind::File { .. } => at = node,
                },
            },
        }
    }
    Ok(())
}

//! References: names of commits, all in one file that is replaced as a whole (`packed-refs`, gitrepository-layout).

use crate::error::{At, RepositoryError};
use crate::store::lock;
use crate::{Kind, ObjectId, Repository, files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Why a reference can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not as `git check-ref-format` has it, or not below `refs/`.
    #[error("{name:?} can't be a reference's name: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Git keeps references as files and folders: `a` and `a/b` exclude each other.
    #[error("the reference {name:?} can't be beside {other:?}")]
    Clash {
        /// The new one.
        name: String,
        /// The one that is there.
        other: String,
    },
    /// The file can't be read.
    #[error("line {line} of {} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// All references, as they are on disk.
#[derive(Debug)]
pub(crate) struct References {
    path: PathBuf,
    all: BTreeMap<String, ObjectId>,
}

const HEADER: &str = "# pack-refs with: sorted \n";

impl References {
    /// Reads them; those that Git wrote to files of their own are taken into the one file.
    pub(crate) fn open(repository: &Path) -> Result<Self, RepositoryError> {
        let path = repository.join("packed-refs");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.at("read", &path)?,
        };
        let all = parse(&text).map_err(|line| ReferenceError::Unreadable { path: path.clone(), line })?;
        let mut references = Self { path, all };
        let mut loose = Vec::new();
        find_loose(&repository.join("refs"), "refs", &mut loose)?;
        if !loose.is_empty() {
            references.all.extend(loose.iter().map(|(_, name, id)| (name.clone(), *id)));
            references.write(&references.all)?;
            loose.iter().try_for_each(|(path, ..)| files::remove(path))?;
        }
        Ok(references)
    }

    fn write(&self, all: &BTreeMap<String, ObjectId>) -> Result<(), RepositoryError> {
        let mut text = HEADER.to_owned();
        for (name, id) in all {
            text += &format!("{id} {name}\n");
        }
        files::replace(&self.path, text.as_bytes())
    }

    pub(crate) fn all(&self) -> &BTreeMap<String, ObjectId> {
        &self.all
    }

    fn clash(&self, name: &str) -> Option<&String> {
        let above = name.match_indices('/').find_map(|(slash, _)| self.all.get_key_value(&name[..slash]));
        let folder = format!("{name}/");
        let below = || self.all.range(folder.clone()..).next().filter(|(it, _)| it.starts_with(&folder));
        above.or_else(below).map(|(it, _)| it)
    }
}

/// The lines of `packed-refs`; the number of the first that can't be read.
fn parse(text: &str) -> Result<BTreeMap<String, ObjectId>, usize> {
    let mut all = BTreeMap::new();
    // Lines with ^ are what tags lead to, which Git finds out by itself.
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with(['#', '^']));
    for (number, line) in lines {
        let (id, name) = line.split_once(' ').ok_or(number + 1)?;
        all.insert(name.to_owned(), id.parse().map_err(|_| number + 1)?);
    }
    Ok(all)
}

fn find_loose(
    folder: &Path,
    name: &str,
    found: &mut Vec<(PathBuf, String, ObjectId)>,
) -> Result<(), RepositoryError> {
    for file in fs::read_dir(folder).at("read", folder)? {
        let file = file.at("read", folder)?;
        let (path, kind) = (file.path(), file.file_type().at("read", folder)?);
        let name = format!("{name}/{}", file.file_name().to_string_lossy());
        if kind.is_dir() {
            find_loose(&path, &name, found)?;
        } else if kind.is_file() && check_name(&name).is_ok() {
            let text = fs::read_to_string(&path).at("read", &path)?;
            let id = text
                .trim()
                .parse()
                .map_err(|_| ReferenceError::Unreadable { path: path.clone(), line: 1 })?;
            found.push((path, name, id));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ReferenceError> {
    let refused = |why: String| ReferenceError::Name { name: name.to_owned(), why };
    if !name.starts_with("refs/") {
        return Err(refused("it does not begin with refs/".to_owned()));
    }
    gix_validate::reference::branch_name(name.into()).map(drop).map_err(|it| refused(it.to_string()))
}

impl Repository {
    /// Sets a reference, or removes it. It is durable when this returns, and is the old or the new one at every instant. A name below
    /// `refs/heads/` has to be a commit's.
    ///
    /// # Errors
    /// The name; an object that is not here; the disk.
    pub fn set_reference(&self, name: &str, to: Option<ObjectId>) -> Result<(), RepositoryError> {
        check_name(name)?;
        let mut references = lock(&self.0.references);
        if let Some(id) = to {
            let (found, _) = self.header(id)?;
            if name.starts_with("refs/heads/") && found != Kind::Commit {
                return Err(RepositoryError::Kind { id, found, expected: Kind::Commit });
            }
            if let Some(other) = references.clash(name) {
                return Err(ReferenceError::Clash { name: name.to_owned(), other: other.clone() }.into());
            }
        }
        if references.all.get(name).copied() == to {
            return Ok(());
        }
        let mut all = references.all.clone();
        match to {
            Some(id) => all.insert(name.to_owned(), id),
            None => all.remove(name),
        };
        self.step("reference-checked");
        references.write(&all)?;
        self.step("reference-set");
        references.all = all;
        Ok(())
    }

    /// All references, by name.
    ///
    /// # Errors
    /// None as of now: they are kept in memory.
    pub fn references(&self) -> Result<BTreeMap<String, ObjectId>, RepositoryError> {
        Ok(lock(&self.0.references).all.clone())
    }
}

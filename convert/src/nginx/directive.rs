//! A directive, and how those that stand above it go to it.

use crate::left::Place;

/// A directive of nginx's: its name, its arguments, and for some a block.
#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) block: Option<Vec<Self>>,
}

impl Directive {
    /// An argument; nothing where there is none.
    pub(super) fn argument(&self, at: usize) -> &str {
        self.arguments.get(at).map_or("", String::as_str)
    }

    /// Whether one of the arguments is this word.
    pub(super) fn says(&self, word: &str) -> bool {
        self.arguments.iter().any(|it| it == word)
    }

    /// What stands in the block.
    pub(super) fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// The levels above a place, the nearest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels<'a>(pub(super) &'a [&'a [Directive]]);

impl<'a> Levels<'a> {
    /// The directives of a name of the nearest level that has any.
    pub(super) fn all(self, name: &str) -> Vec<&'a Directive> {
        self.any(&[name])
    }

    /// The same of several names that belong together.
    pub(super) fn any(self, names: &[&str]) -> Vec<&'a Directive> {
        let of = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level.iter().filter(|it| names.contains(&it.name.as_str())).collect()
        };
        self.0.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The directive of a name that counts.
    pub(super) fn get(self, name: &str) -> Option<&'a Directive> {
        self.all(name).last().copied()
    }
}

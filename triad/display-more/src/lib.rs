//! How the Raft library writes options, results and lists into its log lines.
//!
//! It takes the place of the crate of the same name (`[patch.crates-io]` in the workspace's manifest), which brings all time zones of the
//! world and a compiler for them along: a twelfth of all that a fresh clone has to build. The library uses these four traits alone.

use std::{collections::BTreeSet, fmt};

/// Items that are written out before the rest is left out.
const SHOWN: usize = 5;

/// `None`, or the value as it is.
pub trait DisplayOptionExt<T: fmt::Display> {
    /// For a log line.
    fn display(&self) -> impl fmt::Display;
}

impl<T: fmt::Display> DisplayOptionExt<T> for Option<T> {
    fn display(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self {
            Some(value) => value.fmt(f),
            None => f.write_str("None"),
        })
    }
}

/// `Ok(value)` or `Err(error)`.
pub trait DisplayResultExt<T: fmt::Display, E: fmt::Display> {
    /// For a log line.
    fn display(&self) -> impl fmt::Display;
}

impl<T: fmt::Display, E: fmt::Display> DisplayResultExt<T, E> for Result<T, E> {
    fn display(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self {
            Ok(value) => write!(f, "Ok({value})"),
            Err(error) => write!(f, "Err({error})"),
        })
    }
}

/// `[a,b,c]`.
pub trait DisplaySliceExt<T: fmt::Display> {
    /// For a log line: a few of the items.
    fn display(&self) -> impl fmt::Display {
        self.display_n(SHOWN)
    }

    /// At most so many of them.
    fn display_n(&self, most: usize) -> impl fmt::Display;
}

impl<T: fmt::Display> DisplaySliceExt<T> for [T] {
    fn display_n(&self, most: usize) -> impl fmt::Display {
        fmt::from_fn(move |f| list(f, ("[", "]"), most, self.iter()))
    }
}

/// `{a,b,c}`.
pub trait DisplayBTreeSetExt<T: fmt::Display> {
    /// For a log line: a few of the items.
    fn display(&self) -> impl fmt::Display {
        self.display_n(SHOWN)
    }

    /// At most so many of them.
    fn display_n(&self, most: usize) -> impl fmt::Display;
}

impl<T: fmt::Display> DisplayBTreeSetExt<T> for BTreeSet<T> {
    fn display_n(&self, most: usize) -> impl fmt::Display {
        fmt::from_fn(move |f| list(f, ("{", "}"), most, self.iter()))
    }
}

fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    (open, close): (&str, &str),
    most: usize,
    items: impl ExactSizeIterator<Item = T>,
) -> fmt::Result {
    f.write_str(open)?;
    let more = items.len() > most;
    for (place, item) in items.take(most).enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(f, "{comma}{item}")?;
    }
    f.write_str(if more { ",.." } else { "" })?;
    f.write_str(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_a_few_items() {
        assert_eq!(DisplayOptionExt::display(&Some(3)).to_string(), "3");
        assert_eq!(DisplayOptionExt::display(&None::<u8>).to_string(), "None");
        assert_eq!(DisplayResultExt::display(&Ok::<_, u8>(3)).to_string(), "Ok(3)");
        assert_eq!([1, 2, 3].display_n(3).to_string(), "[1,2,3]");
        assert_eq!([1, 2, 3].display_n(2).to_string(), "[1,2,..]");
        assert_eq!(BTreeSet::from([2, 1]).display().to_string(), "{1,2}");
    }
}

//! The name under which an app is deployed: `stage/webapp/host/name[-version]`, as in Resin. It is the name of a Git branch, too
//! (`refs/heads/` before it), and its parts are folders' names.

use std::{cmp::Ordering, fmt};

/// The stage of servers that were not told another one.
pub const PRODUCTION: &str = "production";

/// The default host, whose id in the file is empty.
pub const DEFAULT_HOST: &str = "default";

/// The app at a host's root.
pub const ROOT: &str = "ROOT";

/// The longest name of a stage, host or app, and of a version, in bytes.
const PART_MAX: usize = 100;

/// A tag, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppTag {
    /// The stage of the servers that run it.
    pub stage: String,
    /// The host's id in the file, or [`DEFAULT_HOST`].
    pub host: String,
    /// The app's name: the path where it is served, or [`ROOT`].
    pub name: String,
    /// Of several versions side by side, this one.
    pub version: Option<String>,
}

/// What is wrong with a tag or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} is {value:?}: expected {expected}")]
pub struct TagError {
    part: &'static str,
    value: String,
    expected: &'static str,
}

/// What stands for a part.
const PART: &str =
    "1 to 100 of a–z, A–Z, 0–9, `.`, `_` and `-`, beginning and ending with a letter or digit, without `..`";

impl AppTag {
    /// The tag of these parts.
    ///
    /// # Errors
    /// A part is empty, too long, or has what has no place in it. A version begins with a digit and an app's name has no `-` before
    /// a digit: otherwise a tag could be read in two ways.
    pub fn new(stage: &str, host: &str, name: &str, version: Option<&str>) -> Result<Self, TagError> {
        part("stage", stage)?;
        part("host", host)?;
        part("name", name)?;
        let (bare, in_name) = split_version(name);
        if in_name.is_some() {
            let expected = "a name without `-` before a digit: what follows it would be the version";
            return Err(TagError { part: "name", value: name.to_owned(), expected });
        }
        if let Some(version) = version {
            part("version", version)?;
            if !version.starts_with(|it: char| it.is_ascii_digit()) {
                let expected = "a version that begins with a digit, such as 1.2.0";
                return Err(TagError { part: "version", value: version.to_owned(), expected });
            }
        }
        Ok(Self {
            stage: stage.to_owned(),
            host: host.to_owned(),
            name: bare.to_owned(),
            version: version.map(str::to_owned),
        })
    }

    /// Reads `stage/webapp/host/name[-version]`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let parts: Vec<_> = text.split('/').collect();
        let [stage, "webapp", host, name] = parts.as_slice() else {
            let expected = "stage/webapp/host/name, such as production/webapp/default/shop";
            return Err(TagError { part: "tag", value: text.chars().take(200).collect(), expected });
        };
        let (name, version) = split_version(name);
        Self::new(stage, host, name, version)
    }

    /// Where the app is served without another word in the file: `/NAME`, or the root, which is empty.
    pub fn path(&self) -> String {
        if self.name == ROOT { String::new() } else { format!("/{}", self.name) }
    }

    /// The branch of the repository.
    pub fn reference(&self) -> String {
        format!("refs/heads/{self}")
    }

    /// The same app without the version.
    #[must_use]
    pub fn app(&self) -> Self {
        Self { version: None, ..self.clone() }
    }
}

impl fmt::Display for AppTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, host, name, version } = self;
        write!(f, "{stage}/webapp/{host}/{name}")?;
        version.iter().try_for_each(|version| write!(f, "-{version}"))
    }
}

/// Whether these tags are versions of one app, and the first one the newer. Without a version is the oldest.
pub fn is_newer(tag: &str, than: &str) -> bool {
    let (Ok(a), Ok(b)) = (AppTag::parse(tag), AppTag::parse(than)) else { return false };
    let newer = match (&a.version, &b.version) {
        (Some(a), Some(b)) => compare_versions(a, b) == Ordering::Greater,
        (a, b) => a.is_some() && b.is_none(),
    };
    newer && a.app() == b.app()
}

/// Orders versions as people mean them: 1.10 is above 1.9, numbers above words (1.0 above 1.rc), and the longer above what it begins
/// with (1.2.1 above 1.2), but for a word at its end (1.2-rc1 below 1.2).
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (split(a), split(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (Some(Part::Word(_)), None) => return Ordering::Less,
            (None, Some(Part::Word(_))) => return Ordering::Greater,
            (x, y) if x == y => {}
            (x, y) => return x.cmp(&y),
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Word(&'a str),
    Number(u128),
}

fn split(version: &str) -> impl Iterator<Item = Part<'_>> {
    version.split(['.', '-', '_']).map(|part| part.parse().map_or(Part::Word(part), Part::Number))
}

/// `shop-1.2` is version 1.2 of `shop`: a version begins with a digit.
fn split_version(name: &str) -> (&str, Option<&str>) {
    let at =
        name.match_indices('-').find(|(at, _)| name[at + 1..].starts_with(|it: char| it.is_ascii_digit()));
    at.map_or((name, None), |(at, _)| (&name[..at], Some(&name[at + 1..])))
}

fn part(part: &'static str, value: &str) -> Result<(), TagError> {
    let plain = |it: char| it.is_ascii_alphanumeric();
    let fits = (1..=PART_MAX).contains(&value.len())
        && value.chars().all(|it| plain(it) || matches!(it, '.' | '_' | '-'))
        && value.starts_with(plain)
        && value.ends_with(plain)
        && !value.contains("..")
        // Git's own: a reference must not end so.
        && !value.to_ascii_lowercase().ends_with(".lock");
    if fits {
        return Ok(());
    }
    Err(TagError { part, value: value.chars().take(PART_MAX).collect(), expected: PART })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_written() {
        for text in
            ["production/webapp/default/shop", "test/webapp/www.example.com/a-b-1.2.0-rc1", "p/webapp/h/ROOT"]
        {
            assert_eq!(AppTag::parse(text).unwrap().to_string(), text);
        }
        let tag = AppTag::parse("production/webapp/default/a-b-1.2").unwrap();
        assert_eq!(
            (tag.name.as_str(), tag.version.as_deref(), tag.path().as_str()),
            ("a-b", Some("1.2"), "/a-b")
        );
        assert_eq!(AppTag::parse("p/webapp/h/ROOT").unwrap().path(), "");
    }

    #[test]
    fn versions_are_ordered_as_people_mean_them() {
        let ordered =
            ["1.rc", "1.0-rc1", "1.0-rc2", "1.0", "1.0.1", "1.2-beta", "1.2", "1.9", "1.10", "2", "10"];
        for (place, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(compare_versions(a, b), place.cmp(&other), "{a} {b}");
            }
        }
    }

    #[test]
    fn what_has_no_place_in_a_tag_is_refused_with_the_part_and_its_value() {
        for (text, part) in [
            ("", "tag is \"\""),
            ("production/webapp/default", "tag is"),
            ("production/ear/default/shop", "tag is"),
            ("a b/webapp/default/shop", "stage is \"a b\""),
            ("p/webapp/../shop", "host is \"..\""),
            ("p/webapp/h/.git", "name is \".git\""),
            ("p/webapp/h/x.lock", "name is \"x.lock\""),
            ("p/webapp/h/a..b", "name is \"a..b\""),
            ("p/webapp/h/-1", "name is \"\""),
            ("p/webapp/h/shop-1..2", "version is \"1..2\""),
        ] {
            let refused = AppTag::parse(text).unwrap_err().to_string();
            assert!(refused.starts_with(part), "{text}: {refused}");
        }
        assert!(
            AppTag::new("p", "h", "shop-2", None).unwrap_err().to_string().contains("would be the version")
        );
        assert!(
            AppTag::new("p", "h", "shop", Some("rc1"))
                .unwrap_err()
                .to_string()
                .contains("begins with a digit")
        );
    }
}

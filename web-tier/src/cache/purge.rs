//! What is to be forgotten.

use super::entry::Entry;
use http_cache::url::split_authority;
use proto::web::v1::{PurgeCache, purge_cache::What};
use regex::Regex;

/// The longest regular expression, URL or name.
const LENGTH_MAX: usize = 4096;

/// How much memory a regular expression may take.
const REGEXP_SIZE: usize = 1 << 20;

/// A purge.
#[derive(Debug, Clone)]
pub(crate) struct Purge {
    what: Meant,
    pub(crate) soft: bool,
    /// As it came.
    asked: PurgeCache,
}

/// Which answers are meant.
#[derive(Debug, Clone)]
enum Meant {
    Url { host: Option<String>, target: String },
    Prefix { host: Option<String>, target: String },
    Pattern(Regex),
    Tag(String),
    All,
}

impl Purge {
    /// What is asked for.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn of(asked: &PurgeCache) -> Result<Self, String> {
        let checked = |text: &String| match text.len() {
            0 => Err("nothing is named that is to be forgotten".to_owned()),
            1..=LENGTH_MAX => Ok(text.clone()),
            length => Err(format!("{length} bytes: expected {LENGTH_MAX} at most")),
        };
        let what = match &asked.what {
            Some(What::Url(url)) => {
                let (host, target) = parts(&checked(url)?)?;
                Meant::Url { host, target }
            }
            Some(What::Prefix(url)) => {
                let (host, target) = parts(&checked(url)?)?;
                Meant::Prefix { host, target }
            }
            Some(What::Pattern(pattern)) => {
                let regex = regex::RegexBuilder::new(&checked(pattern)?).size_limit(REGEXP_SIZE).build();
                Meant::Pattern(regex.map_err(|cause| {
                    let cause = cause.to_string();
                    format!("bad regular expression: {}", cause.lines().last().unwrap_or_default().trim())
                })?)
            }
            Some(What::Tag(tag)) => Meant::Tag(checked(tag)?),
            Some(What::All(true)) => Meant::All,
            Some(What::All(false)) | None => {
                return Err("nothing is named that is to be forgotten".to_owned());
            }
        };
        Ok(Self { what, soft: asked.soft, asked: asked.clone() })
    }

    /// Of all that is kept.
    pub(crate) fn all() -> Self {
        let asked = PurgeCache { what: Some(What::All(true)), ..PurgeCache::default() };
        Self { what: Meant::All, soft: false, asked }
    }

    /// As it came.
    pub(crate) fn asked(&self) -> &PurgeCache {
        &self.asked
    }

    /// The surrogate key that it is by.
    pub(crate) fn tag(&self) -> Option<&str> {
        if let Meant::Tag(tag) = &self.what { Some(tag) } else { None }
    }

    /// Whether it is of all that is kept.
    pub(crate) fn is_of_all(&self) -> bool {
        matches!(self.what, Meant::All)
    }

    /// Whether an answer is meant.
    pub(crate) fn is_meant(&self, entry: &Entry) -> bool {
        let (host, target) = entry.key.host_and_target();
        let on = |wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|it| without_default_port(it).eq_ignore_ascii_case(without_default_port(host)))
        };
        match &self.what {
            Meant::Url { host, target: wanted } => on(host) && target == wanted,
            Meant::Prefix { host, target: wanted } => on(host) && is_below(target, wanted),
            Meant::Pattern(regex) => regex.is_match(&format!("{host}{target}")),
            Meant::Tag(tag) => entry.tags.iter().any(|it| **it == **tag),
            Meant::All => true,
        }
    }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host)
}

/// Whether a path is `prefix` or below it: `/shop` is no prefix of `/shopping`.
fn is_below(target: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', ';']))
}

/// Host, and path with query.
fn parts(url: &str) -> Result<(Option<String>, String), String> {
    match split_authority(url) {
        (None, path) if path.starts_with('/') => Ok((None, path.to_owned())),
        (None, _) => Err(format!(
            "expected http://host/path or /path, found `{}`",
            url.chars().take(60).collect::<String>()
        )),
        (Some(host), target) if target.starts_with('/') => Ok((Some(host.to_owned()), target.to_owned())),
        (Some(host), target) => Ok((Some(host.to_owned()), format!("/{target}"))),
    }
}

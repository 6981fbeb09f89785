//! `map` of `stream`: which value a connection has by what its ClientHello says.

use super::directive::Directive;
use crate::tcp::{Kind, NAMES_MAX, names_of};
use std::collections::HashMap;

/// A map that routes can say.
#[derive(Debug, Default)]
pub(super) struct Map<'a> {
    /// Of names, and `*.` with one.
    named: HashMap<Kind, &'a str>,
    /// Of expressions, which are asked after all others, in order.
    later: Vec<(Kind, &'a str)>,
    /// Of connections that are not TLS, if it is another one.
    plain: Option<&'a str>,
    default: &'a str,
    /// The names, in order.
    pub(super) kinds: Vec<Kind>,
}

impl<'a> Map<'a> {
    /// The map that makes a variable.
    ///
    /// # Errors
    /// Why routes can't say it.
    pub(super) fn of(variable: &str, stream: &'a [Directive]) -> Result<Self, String> {
        let mut all = stream.iter().filter(|it| it.name == "map" && it.argument(1) == variable);
        let Some(map) = all.next_back() else {
            return Err(format!(
                "`{variable}` is made by no `map`: backends are named, not made of variables"
            ));
        };
        match map.argument(0) {
            "$ssl_preread_server_name" => Self::by_name(map),
            "$ssl_preread_protocol" => Self::by_version(map),
            other => Err(format!("routes go by `$ssl_preread_server_name`, and not by `{other}`")),
        }
    }

    fn by_name(map: &'a Directive) -> Result<Self, String> {
        let mut read = Self::default();
        let masks = map.inside().iter().any(|it| it.name == "hostnames");
        for entry in map.inside() {
            let (key, value) = (entry.name.as_str(), entry.argument(0));
            match key {
                "hostnames" | "volatile" if entry.arguments.is_empty() => {}
                "default" => read.default = value,
                "" => read.plain = Some(value),
                _ if key.starts_with('~') => {
                    let regexp = key.strip_prefix("~*").unwrap_or(&key[1..]);
                    let names = names_of(regexp).ok_or_else(|| {
                        format!("`{key}`: `server-name` takes names, and `*.` with a name, no expressions")
                    })?;
                    read.later.extend(names.iter().filter_map(|it| Some((Kind::of(it)?, value))));
                }
                // Without `hostnames` nobody asks for such a name.
                _ if key.starts_with(['*', '.']) && !masks => {}
                _ => {
                    let (name, both) = key.strip_prefix('.').map_or((key, false), |name| (name, true));
                    let below = both.then(|| Kind::of(&format!("*.{name}")));
                    for kind in [Some(Kind::of(name)), below].into_iter().flatten() {
                        let kind = kind.ok_or_else(|| {
                            format!("`{key}`: `server-name` takes names, and `*.` with a name")
                        })?;
                        read.named.entry(kind).or_insert(value);
                    }
                }
            }
        }
        let order = map.inside().iter().map(|it| it.name.as_str());
        let order = order.flat_map(|key| {
            let bare = key.strip_prefix('.');
            [Kind::of(bare.unwrap_or(key)), bare.and_then(|it| Kind::of(&format!("*.{it}")))]
        });
        read.kinds = order.flatten().filter(|it| read.named.contains_key(it)).collect();
        read.kinds.extend(read.later.iter().map(|it| it.0.clone()));
        if read.kinds.len() > NAMES_MAX || read.later.len() > NAMES_MAX / 16 {
            return Err("it has too many names".to_owned());
        }
        // A client of TLS that names nobody has an empty name, too.
        if read.plain.is_some_and(|it| it != read.default) {
            return Err(
                "no route is for clients of TLS that ask for no name, as \"\" is: others that none takes go the same way"
                    .to_owned(),
            );
        }
        Ok(read)
    }

    fn by_version(map: &'a Directive) -> Result<Self, String> {
        let mut read = Self::default();
        for entry in map.inside() {
            match entry.name.as_str() {
                "volatile" if entry.arguments.is_empty() => {}
                "default" => read.default = entry.argument(0),
                "" => read.plain = Some(entry.argument(0)),
                _ => {}
            }
        }
        let versions =
            map.inside().iter().filter(|it| !matches!(it.name.as_str(), "" | "default" | "volatile"));
        if versions.into_iter().any(|it| it.argument(0) != read.default) {
            return Err("routes do not go by versions of TLS".to_owned());
        }
        Ok(read)
    }

    /// The value of connections of a kind.
    pub(super) fn value(&self, kind: &Kind) -> &'a str {
        let name = match kind {
            Kind::Plain => return self.plain.unwrap_or(self.default),
            Kind::Other => return self.default,
            Kind::Below(name) | Kind::Name(name) => name,
        };
        let dots = || name.match_indices('.').map(|(at, _)| Kind::Below(name[at + 1..].to_owned()));
        // The longest mask counts.
        let masks = || dots().find_map(|it| self.named.get(&it));
        let covers = |it: &Kind| it == kind || dots().any(|above| above == *it);
        let later = || self.later.iter().find(|(it, _)| covers(it)).map(|(_, value)| value);
        self.named.get(kind).or_else(masks).or_else(later).copied().unwrap_or(self.default)
    }
}

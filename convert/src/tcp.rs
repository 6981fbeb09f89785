//! Connections that are passed on as they are: which routes say where each of them goes.

use crate::{output::Entries, value::is_name, yaml::Yaml};
use std::{collections::HashMap, fmt::Write, net::IpAddr, rc::Rc};

/// A listener has no more routes, and here no more names.
pub(crate) const NAMES_MAX: usize = 4096;

/// More values are not put into a listener.
const VALUES_MAX: usize = 100_000;

/// A listener of `tcp-proxy`.
#[derive(Debug, Clone)]
pub(crate) struct TcpListener {
    pub(crate) address: Option<String>,
    pub(crate) port: u16,
    /// How many values it has.
    pub(crate) size: usize,
    /// Beside its address; several share them.
    keys: Rc<Entries>,
    /// What is left of it, as comments before it.
    pub(crate) remarks: Vec<String>,
}

impl TcpListener {
    /// One with these keys beside its address.
    pub(crate) fn new(address: Option<String>, port: u16, (keys, size): &(Rc<Entries>, usize)) -> Self {
        Self { address, port, size: *size, keys: Rc::clone(keys), remarks: Vec::new() }
    }

    pub(crate) fn write(&self, out: &mut String) {
        for remark in &self.remarks {
            let _ = writeln!(out, "          # {remark}");
        }
        let mut keys = vec![("port", Yaml::plain(self.port))];
        keys.extend(self.address.as_ref().map(|it| ("address", Yaml::text(it))));
        keys.extend(self.keys.iter().cloned());
        out.push_str(&Yaml::Map(keys).item(10));
    }
}

/// Keys that listeners share, and how many values these are.
pub(crate) fn shared(keys: Entries) -> (Rc<Entries>, usize) {
    let size = 4 + keys.iter().map(|(_, value)| 1 + value.size()).sum::<usize>();
    (Rc::new(keys), size)
}

/// Connections that can be told apart by how they begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Those that are not TLS.
    Plain,
    /// TLS for any other name, or none.
    Other,
    /// TLS for any other name below this one.
    Below(String),
    /// TLS for this name.
    Name(String),
}

impl Kind {
    /// Connections for a name, or for all below one (`*.`). `None`: nobody can ask for it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (below, name) = lower.strip_prefix("*.").map_or((false, &*lower), |name| (true, name));
        if !is_name(name) || name.parse::<IpAddr>().is_ok() {
            return None;
        }
        Some(if below { Self::Below(name.to_owned()) } else { Self::Name(name.to_owned()) })
    }

    fn server_name(&self) -> Option<String> {
        match self {
            Self::Plain | Self::Other => None,
            Self::Below(name) => Some(format!("*.{name}")),
            Self::Name(name) => Some(name.clone()),
        }
    }
}

/// Where connections of a kind go: the number of their backends; `None`: they are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Those whose client offers one of some protocols, the first that fit.
    pub(crate) by_protocol: Vec<(Vec<String>, Option<usize>)>,
    /// All others.
    pub(crate) others: Option<usize>,
}

/// The keys `routes` and those of the default backends, for `kinds` beside [`Kind::Plain`] and [`Kind::Other`].
///
/// # Errors
/// Why routes can't say it.
pub(crate) fn keys(
    kinds: &[Kind],
    goals: &[Entries],
    mut way: impl FnMut(&Kind) -> Way,
) -> Result<Entries, String> {
    let plain = way(&Kind::Plain);
    let other = way(&Kind::Other);
    if !plain.by_protocol.is_empty() {
        return Err("what is not TLS offers no protocols".to_owned());
    }
    let ways: HashMap<&Kind, Way> = kinds.iter().map(|kind| (kind, way(kind))).collect();
    let mut routes = Routes::default();
    // Those without a name come last, wherever they stand.
    routes.add(&Kind::Other, &other, &plain)?;
    let mut seen: Vec<&Kind> = Vec::new();
    for kind in kinds {
        if ways[kind] != *above(kind, &ways, &other) && !seen.contains(&kind) {
            routes.add(kind, &ways[kind], above(kind, &ways, &other))?;
            seen.push(kind);
        }
    }
    routes.write(plain.others, goals)
}

/// The way of what Copal asks next, where no route of `kind` fits: the nearest name above it.
fn above<'a>(kind: &Kind, ways: &'a HashMap<&Kind, Way>, other: &'a Way) -> &'a Way {
    let name = match kind {
        Kind::Plain | Kind::Other => return other,
        Kind::Below(name) | Kind::Name(name) => name,
    };
    let mut dots = name.match_indices('.').map(|(at, _)| Kind::Below(name[at + 1..].to_owned()));
    dots.find_map(|kind| ways.get(&kind)).unwrap_or(other)
}

/// Names, protocols and the number of their backends.
type Route = (Vec<String>, Vec<String>, usize);

#[derive(Debug, Default)]
struct Routes {
    by_protocol: Vec<Route>,
    others: Vec<Route>,
    /// For those without a name.
    last: Vec<Route>,
}

const OPEN: &str = "some connections are refused there that no route can refuse, as another one, or `backends`, would take them: the listener is left out";

impl Routes {
    /// What becomes of a kind, if `next` gets what no route of its own takes.
    fn add(&mut self, kind: &Kind, way: &Way, next: &Way) -> Result<(), String> {
        let name = kind.server_name();
        let names: Vec<String> = name.iter().cloned().collect();
        for (protocols, goal) in &way.by_protocol {
            let goal = goal.ok_or(OPEN)?;
            let route = (names.clone(), protocols.clone(), goal);
            if name.is_none() {
                self.last.push(route);
                continue;
            }
            match self.by_protocol.last_mut().filter(|it| it.1 == *protocols && it.2 == goal) {
                Some(known) => known.0.extend(names.clone()),
                None => self.by_protocol.push(route),
            }
        }
        if *next == (Way { by_protocol: Vec::new(), others: way.others }) {
            return Ok(());
        }
        let Some(goal) = way.others else {
            return Err(OPEN.to_owned());
        };
        if name.is_none() {
            self.last.push((names, Vec::new(), goal));
            return Ok(());
        }
        match self.others.iter_mut().find(|it| it.2 == goal) {
            Some(known) => known.0.extend(names),
            None => self.others.push((names, Vec::new(), goal)),
        }
        Ok(())
    }

    fn write(self, default: Option<usize>, goals: &[Entries]) -> Result<Entries, String> {
        let all: Vec<Route> = self.by_protocol.into_iter().chain(self.others).chain(self.last).collect();
        if all.is_empty() && default.is_none() {
            return Err("nobody is let in there: the listener is left out".to_owned());
        }
        let sizes: Vec<usize> = goals.iter().map(|it| Yaml::Map(it.clone()).size()).collect();
        let size: usize = all.iter().map(|it| 8 + it.0.len() + it.1.len() + sizes[it.2]).sum();
        if all.len() > NAMES_MAX || size > VALUES_MAX {
            return Err("it has too many routes and backends: the listener is left out".to_owned());
        }
        let route = |(names, protocols, goal): Route| {
            let mut keys = Vec::new();
            keys.extend((!names.is_empty()).then(|| ("server-name", Yaml::texts(names))));
            keys.extend((!protocols.is_empty()).then(|| ("alpn", Yaml::texts(protocols))));
            keys.extend(goals[goal].iter().cloned());
            Yaml::Map(keys)
        };
        let mut keys = Vec::new();
        if !all.is_empty() {
            keys.push(("routes", Yaml::List(all.into_iter().map(route).collect())));
        }
        keys.extend(default.map(|it| goals[it].clone()).into_iter().flatten());
        Ok(keys)
    }
}

/// `allow` and `deny`.
pub(crate) fn access((allow, deny): (Vec<String>, Vec<String>)) -> Entries {
    let mut keys = Vec::new();
    keys.extend((!allow.is_empty()).then(|| ("allow", Yaml::texts(allow))));
    keys.extend((!deny.is_empty()).then(|| ("deny", Yaml::texts(deny))));
    keys
}

/// The names that an expression about names finds, if they can be said: `^a\.x\.org$`, `^(.+\.)?x\.org$`, `\.x\.org$` and the like.
pub(crate) fn names_of(regexp: &str) -> Option<Vec<String>> {
    let text = regexp.strip_suffix('$')?;
    let (is_whole, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let after = |prefixes: &[&str]| prefixes.iter().find_map(|it| text.strip_prefix(it));
    let either = after(&[r"(.+\.)?", r"(.*\.)?", r"(?:.+\.)?", r"(?:.*\.)?"]).filter(|_| is_whole);
    let below = after(&[r".+\.", r".*\.", r"(.+)\.", r"(.*)\."]).filter(|_| is_whole);
    let below = below.or(text.strip_prefix(r"\.").filter(|_| !is_whole));
    let literal = either.or(below).or(is_whole.then_some(text))?;
    // A dot alone is any character.
    if literal
        .replace(r"\.", "")
        .contains(|it: char| !(it.is_ascii_alphanumeric() || matches!(it, '-' | '_')))
    {
        return None;
    }
    let name = literal.replace(r"\.", ".").to_ascii_lowercase();
    let below_it = format!("*.{name}");
    Kind::of(&name)?;
    Some(match (either, below) {
        (Some(_), _) => vec![name, below_it],
        (None, Some(_)) => vec![below_it],
        (None, None) => vec![name],
    })
}

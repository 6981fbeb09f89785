//! Conditions about connections that nobody reads: who the client is, and what its ClientHello says.

use super::parse::{Line, Section};
use crate::{
    network::Addresses,
    tcp::{Kind, names_of},
};
use std::{cell::Cell, collections::HashMap};

/// More words of conditions are not read, an ACL's each time that it is named.
const WORDS_MAX: usize = 50_000;

/// Whether it is counted there how often somebody comes: that is no question of who may.
pub(super) fn is_rate(fetch: &str) -> bool {
    let name = fetch.split(['(', ',']).next().unwrap_or_default();
    ["sc_", "sc0_", "sc1_", "sc2_"].iter().any(|it| name.starts_with(it))
        || ["_rate", "_conn", "_conn_cnt", "_conn_cur", "_sess_cnt"].iter().any(|it| name.ends_with(it))
}

/// The ACLs of a section.
#[derive(Debug)]
pub(super) struct Acls<'a> {
    lines: HashMap<&'a str, Vec<&'a Line>>,
    /// How many words may still be read.
    room: Cell<usize>,
}

impl<'a> Acls<'a> {
    pub(super) fn of(section: &'a Section) -> Self {
        let mut lines: HashMap<&str, Vec<&Line>> = HashMap::new();
        let all = section.lines.iter().chain(&*section.defaults);
        for line in all.filter(|it| it.word(0) == "acl" && it.words.len() > 2) {
            lines.entry(line.word(1)).or_default().push(line);
        }
        Self { lines, room: Cell::new(WORDS_MAX) }
    }

    /// Whether so many words may be read.
    fn takes(&self, words: usize) -> bool {
        let left = self.room.get().checked_sub(words);
        self.room.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// Something that holds for a connection, or does not.
#[derive(Debug, Clone)]
enum Fact {
    Always(bool),
    /// It begins with a ClientHello.
    Tls,
    /// That asks for one of these names, or one with such an end.
    Name {
        whole: Vec<String>,
        ends: Vec<String>,
    },
    /// That offers one of these protocols.
    Protocol(Vec<String>),
    /// It comes from there.
    Source(Addresses),
    /// Somebody comes so often.
    Rate,
    /// What can't be told, and why; whether it is said of TLS alone.
    Unknown {
        why: String,
        of_tls: bool,
    },
}

/// Facts of which one is enough, or none may hold.
#[derive(Debug, Clone)]
struct Literal {
    negated: bool,
    facts: Vec<Fact>,
}

/// What stands behind `if` or `unless`: alternatives of what holds together.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    unless: bool,
    alternatives: Vec<Vec<Literal>>,
}

/// Whether a condition holds for connections of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// For clients that offer one of these protocols.
    With(Vec<String>),
    /// It can't be told, and why.
    Unknown(String),
}

impl Condition {
    /// Reads what stands behind `if` or `unless` in a line.
    pub(super) fn of(line: &Line, acls: &Acls<'_>) -> Self {
        let at = line.words.iter().rposition(|it| it == "if" || it == "unless");
        let Some(at) = at else { return Self { unless: false, alternatives: vec![Vec::new()] } };
        let groups = line.words[at + 1..].split(|it| it == "||" || it == "or");
        let alternatives = groups.map(|words| literals(words, acls)).collect();
        Self { unless: line.words[at] == "unless", alternatives }
    }

    /// Those from whom it holds, if it asks for nothing but that.
    pub(super) fn sources(&self) -> Option<Addresses> {
        let mut all = Addresses::default();
        for literals in &self.alternatives {
            let mut here = Addresses::everybody();
            for literal in literals {
                let mut some = Addresses::default();
                for fact in &literal.facts {
                    some = match fact {
                        Fact::Source(who) => some.or(who),
                        Fact::Always(true) => Addresses::everybody(),
                        Fact::Always(false) => some,
                        _ => return None,
                    };
                }
                here = here.and(&if literal.negated { some.others() } else { some });
                if here.is_long() {
                    return None;
                }
            }
            all = all.or(&here);
        }
        Some(if self.unless { all.others() } else { all })
    }

    /// Whether it holds for connections of a kind.
    pub(super) fn holds(&self, kind: &Kind) -> Holds {
        let mut found = Holds::No;
        for literals in &self.alternatives {
            found = match (found, all_of(literals, kind)) {
                (Holds::Yes, _) | (_, Holds::Yes) => Holds::Yes,
                (Holds::Unknown(why), _) | (_, Holds::Unknown(why)) => Holds::Unknown(why),
                (Holds::With(mut one), Holds::With(two)) => {
                    one.extend(two);
                    Holds::With(one)
                }
                (it, Holds::No) | (Holds::No, it) => it,
            };
        }
        match found {
            found if !self.unless => found,
            Holds::Yes => Holds::No,
            Holds::No => Holds::Yes,
            Holds::With(_) => without(),
            unknown => unknown,
        }
    }

    /// Takes out what holds only for those who come too often. Whether there was something.
    pub(super) fn cut_rates(&mut self) -> bool {
        let counts = |it: &Literal| it.facts.iter().any(|it| matches!(it, Fact::Rate));
        let before = self.alternatives.len();
        if self.unless {
            // Then it is for them alone.
            if self.alternatives.iter().any(|it| it.iter().all(counts) && !it.is_empty()) {
                *self = Self { unless: false, alternatives: Vec::new() };
                return true;
            }
            return false;
        }
        self.alternatives.retain(|it| !it.iter().any(counts));
        self.alternatives.len() < before
    }

    /// Whether it never holds.
    pub(super) fn is_never(&self) -> bool {
        !self.unless && self.alternatives.is_empty()
    }

    /// Why lists of addresses can't say it.
    pub(super) fn why(&self) -> Option<&str> {
        let mut facts = self.alternatives.iter().flatten().flat_map(|it| &it.facts);
        facts.find_map(|it| if let Fact::Unknown { why, .. } = it { Some(why.as_str()) } else { None })
    }

    /// The names that it asks for.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for fact in self.alternatives.iter().flatten().flat_map(|it| &it.facts) {
            let Fact::Name { whole, ends } = fact else { continue };
            kinds.extend(whole.iter().filter_map(|it| Kind::of(it)));
            for end in ends {
                // What ends with `x.org` may be `x.org` itself.
                kinds.extend(Kind::of(end));
                kinds.extend(Kind::of(&format!("*.{}", end.trim_start_matches('.'))));
            }
        }
        kinds
    }

    /// Whether it asks for an end of a name that may be a part of a label.
    pub(super) fn cuts_labels(&self) -> bool {
        let mut facts = self.alternatives.iter().flatten().flat_map(|it| &it.facts);
        facts.any(|it| matches!(it, Fact::Name { ends, .. } if ends.iter().any(|end| !end.starts_with('.'))))
    }
}

const NO_SOURCES: &str = "routes do not look at clients' addresses";
const NO_RATES: &str = "routes do not count";
const NOT_WITHOUT: &str = "a route can't be for clients that do not offer a protocol";

fn without() -> Holds {
    Holds::Unknown(NOT_WITHOUT.to_owned())
}

fn all_of(literals: &[Literal], kind: &Kind) -> Holds {
    let mut found = Holds::Yes;
    for literal in literals {
        let here = match (one_of(&literal.facts, kind), literal.negated) {
            (Holds::Yes, true) => Holds::No,
            (Holds::No, true) => Holds::Yes,
            (Holds::With(_), true) => without(),
            (here, _) => here,
        };
        found = match (found, here) {
            (Holds::No, _) | (_, Holds::No) => return Holds::No,
            (Holds::Unknown(why), _) | (_, Holds::Unknown(why)) => Holds::Unknown(why),
            (Holds::With(_), Holds::With(_)) => Holds::Unknown(
                "a route is for one of some protocols, not for two of them together".to_owned(),
            ),
            (Holds::Yes, it) | (it, Holds::Yes) => it,
        };
    }
    found
}

fn one_of(facts: &[Fact], kind: &Kind) -> Holds {
    let (mut protocols, mut unknown) = (Vec::new(), None);
    for fact in facts {
        let yes = match fact {
            Fact::Always(yes) => *yes,
            Fact::Tls => *kind != Kind::Plain,
            Fact::Name { whole, ends } => match kind {
                Kind::Plain | Kind::Other => false,
                Kind::Name(name) => whole.contains(name) || ends.iter().any(|it| name.ends_with(it.as_str())),
                Kind::Below(name) => ends.iter().any(|it| format!(".{name}").ends_with(it.as_str())),
            },
            Fact::Protocol(names) => {
                if *kind != Kind::Plain {
                    protocols.extend(names.iter().cloned());
                }
                false
            }
            Fact::Rate => {
                unknown = Some(NO_RATES);
                false
            }
            Fact::Source(_) => {
                unknown = Some(NO_SOURCES);
                false
            }
            Fact::Unknown { of_tls: true, .. } if *kind == Kind::Plain => false,
            Fact::Unknown { why, .. } => {
                unknown = Some(why.as_str());
                false
            }
        };
        if yes {
            return Holds::Yes;
        }
    }
    match unknown {
        Some(why) => Holds::Unknown(why.to_owned()),
        None if protocols.is_empty() => Holds::No,
        None => Holds::With(protocols),
    }
}

/// What has to hold together.
fn literals(words: &[String], acls: &Acls<'_>) -> Vec<Literal> {
    let (mut found, mut at, mut negated) = (Vec::new(), 0, false);
    while at < words.len() {
        let word = &words[at];
        if word == "!" {
            (negated, at) = (!negated, at + 1);
            continue;
        }
        let bare = word.strip_prefix('!');
        let minus = negated != bare.is_some();
        let name = bare.unwrap_or(word);
        let mut end = at;
        let facts = if name == "{" {
            end = words[at..].iter().position(|it| it == "}").map_or(words.len(), |it| at + it);
            vec![fact(&words[at + 1..end.max(at + 1)], acls)]
        } else {
            named(name, acls)
        };
        found.push(Literal { negated: minus, facts });
        (at, negated) = (end + 1, false);
    }
    found
}

/// What an ACL is, whose lines are alternatives.
fn named(name: &str, acls: &Acls<'_>) -> Vec<Fact> {
    if let Some(lines) = acls.lines.get(name) {
        return lines.iter().map(|line| fact(&line.words[2..], acls)).collect();
    }
    vec![match name {
        "TRUE" | "WAIT_END" => Fact::Always(true),
        "FALSE" => Fact::Always(false),
        "LOCALHOST" => {
            let local = ["127.0.0.0/8", "::1"].into_iter().filter_map(Addresses::of);
            Fact::Source(local.fold(Addresses::default(), |all, it| all.or(&it)))
        }
        _ => Fact::Unknown { why: format!("there is no counterpart of the acl `{name}`"), of_tls: false },
    }]
}

fn fact(words: &[String], acls: &Acls<'_>) -> Fact {
    if !acls.takes(words.len()) {
        return Fact::Unknown { why: "its conditions are too long".to_owned(), of_tls: false };
    }
    let of_tls = words.first().is_some_and(|it| it.starts_with("req.ssl_") || it.starts_with("req_ssl_"));
    read(words).unwrap_or_else(|why| Fact::Unknown { why, of_tls })
}

/// Reads the words behind an ACL's name, or of `{ … }`.
fn read(words: &[String]) -> Result<Fact, String> {
    let (fetch, rest) = words.split_first().ok_or("it looks at nothing")?;
    let unknown = || format!("`{fetch}` has no counterpart among what routes and lists go by");
    let (mut how, mut values) = ("", Vec::new());
    let mut words = rest.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-i" | "-n" => {}
            "-m" => how = words.next().unwrap_or_default(),
            "-f" | "-M" | "-u" => return Err(format!("`{word}`: values stand in the line, not in a file")),
            "--" => values.extend(words.by_ref()),
            value => values.push(value),
        }
    }
    // Names of hosts have no case.
    let name = fetch.strip_suffix(",lower").unwrap_or(fetch);
    let name = name.strip_prefix("req.").or(name.strip_prefix("req_")).unwrap_or(name);
    let exact = matches!(how, "" | "str");
    if is_rate(fetch) {
        return Ok(Fact::Rate);
    }
    match name {
        "always_true" => Ok(Fact::Always(true)),
        "always_false" => Ok(Fact::Always(false)),
        "ssl_hello_type" if values == ["1"] => Ok(Fact::Tls),
        // SSL 2 and 3 are no TLS.
        "ssl_ver" if values == ["gt", "3"] || values == ["gt", "3.0"] => Ok(Fact::Tls),
        "ssl_sni" if !values.is_empty() && exact => names(&values, false),
        "ssl_sni" if !values.is_empty() && how == "end" => names(&values, true),
        "ssl_sni" if !values.is_empty() && how == "reg" => {
            let found: Option<Vec<_>> = values.iter().map(|it| names_of(it)).collect();
            let found =
                found.ok_or("`server-name` takes names, and `*.` with a name, no expressions")?.concat();
            let (ends, whole): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| it.starts_with("*."));
            Ok(Fact::Name { whole, ends: ends.iter().map(|it| it[1..].to_owned()).collect() })
        }
        "ssl_alpn" if !values.is_empty() && exact => {
            let good =
                |it: &&str| (1..=255).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic());
            if !values.iter().all(good) || values.iter().any(|it| it.contains(',')) {
                return Err("`alpn` takes names of protocols".to_owned());
            }
            Ok(Fact::Protocol(values.iter().map(|it| (*it).to_owned()).collect()))
        }
        "src" if !values.is_empty() && matches!(how, "" | "ip") => {
            let mut all = Addresses::default();
            for value in values {
                let who = Addresses::of(value);
                all = all.or(&who.ok_or_else(|| format!("`{value}` is no address and no network"))?);
                if all.is_long() {
                    return Err("it has too many values".to_owned());
                }
            }
            Ok(Fact::Source(all))
        }
        "ssl_sni" => Err("`server-name` takes names, and `*.` with a name".to_owned()),
        _ => Err(unknown()),
    }
}

fn names(values: &[&str], are_ends: bool) -> Result<Fact, String> {
    let lower: Vec<String> = values.iter().map(|it| it.to_ascii_lowercase()).collect();
    let bare =
        |it: &String| if are_ends { it.strip_prefix('.').unwrap_or(it).to_owned() } else { it.clone() };
    if let Some(wrong) = lower.iter().find(|it| Kind::of(&bare(it)).is_none() || it.starts_with("*.")) {
        return Err(format!("`{wrong}` is no name of a host"));
    }
    Ok(if are_ends {
        Fact::Name { whole: Vec::new(), ends: lower }
    } else {
        Fact::Name { whole: lower, ends: Vec::new() }
    })
}

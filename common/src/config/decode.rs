//! Reads typed values off the tree. A fault is told to the report and reading goes on, so that all of them are found at once.

use super::{
    file_path::FilePath,
    keys::{Keys, alternatives, nearest},
    node::{Entry, Node, Value},
    problem::{Location, Report},
    quoted::quoted,
    schema::ask::Ask,
    secrecy::{holds_secret, is_secret},
    source::{Sources, Span},
    units::{format_duration, parse_duration, parse_size},
    variables::{Place, Variables, resolve},
};
use regex::Regex;
use std::{
    collections::HashMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// What an error repeats in the place of a secret.
const HIDDEN: &str = "a value that is not shown";

/// What every reader needs: where faults go and what variables stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) report: &'a Report,
    sources: &'a Sources,
    environment: &'a HashMap<String, String>,
    place: Place<'a>,
    /// A `…-default` mapping read by itself: nothing is required.
    pub(super) in_default: bool,
    /// `--port-offset`.
    pub(super) port_offset: u16,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        report: &'a Report,
        sources: &'a Sources,
        environment: &'a HashMap<String, String>,
        place: Place<'a>,
    ) -> Self {
        Self { report, sources, environment, place, in_default: false, port_offset: 0 }
    }

    /// The same inside a server.
    pub(super) fn in_server<'b>(self, id: &'b str) -> Context<'b>
    where
        'a: 'b,
    {
        Context { place: Place { server: Some(id), ..self.place }, ..self }
    }

    /// The same inside a cluster.
    pub(super) fn in_cluster<'b>(self, id: &'b str) -> Context<'b>
    where
        'a: 'b,
    {
        Context { place: Place { cluster: Some(id), ..self.place }, ..self }
    }

    /// The same for a `…-default` mapping, which belongs to no server or cluster yet.
    pub(super) fn alone(self) -> Self {
        let place = Place { server: Some("server"), cluster: Some("cluster"), ..self.place };
        Self { place, in_default: true, ..self }
    }

    pub(super) fn error(self, span: Span, message: impl Into<String>) {
        self.report.error(span, message);
    }

    /// Tells that something else stands where `expected` was.
    fn expected(self, node: &Node, expected: &str) {
        let found = match &node.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { .. } if node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } if holds_secret(text) => HIDDEN.to_owned(),
            Value::Scalar { text, .. } => quoted(text),
        };
        self.error(node.span, format!("expected {expected}, found {found}"));
    }

    /// A scalar with its variables replaced; `expected` names what it should be.
    pub(super) fn scalar(self, node: &Node, expected: &str) -> Option<String> {
        self.report.asked.note(node.span, || Ask::Text);
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => {
                let directory = self.sources.directory(node.span.file);
                let variables = Variables { environment: self.environment, directory, place: self.place };
                resolve(text, &variables).map_err(|cause| self.error(node.span, cause.to_string())).ok()
            }
            _ => {
                self.expected(node, expected);
                None
            }
        }
    }

    /// A scalar with its variables replaced; nothing is told of one that can't be.
    pub(super) fn resolved(self, node: &Node) -> Option<String> {
        let Value::Scalar { text, .. } = &node.value else { return None };
        let directory = self.sources.directory(node.span.file);
        let variables = Variables { environment: self.environment, directory, place: self.place };
        resolve(text, &variables).ok()
    }

    /// Tells that the value `text` of `node` won't do. What came from a variable that bears a secret's name is not
    /// repeated, only the variable is; nor is a text that holds one, such as a URL with a password.
    fn refuse(self, node: &Node, text: &str, message: &str) {
        let message = match &node.value {
            Value::Scalar { text: raw, .. } if raw.contains("${") && is_secret(raw) && !text.is_empty() => {
                message.replace(&quoted(text), &quoted(raw)).replace(text, raw)
            }
            _ if holds_secret(text) => hidden(message, text),
            _ => message.to_owned(),
        };
        self.error(node.span, message);
    }

    /// Any text.
    pub(super) fn string(self, node: &Node) -> Option<String> {
        self.scalar(node, "text")
    }

    /// Text that `check` accepts; its error says what was expected.
    pub(super) fn checked(self, node: &Node, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let text = self.string(node)?;
        match check(&text) {
            Ok(()) => Some(text),
            Err(message) => {
                self.refuse(node, &text, &message);
                None
            }
        }
    }

    /// A path, relative to the file in which it stands, made absolute.
    pub(super) fn path(self, node: &Node) -> Option<PathBuf> {
        self.report.path(node.span);
        let text = self.scalar(node, "a path")?;
        if text.is_empty() || text.contains('\0') {
            self.refuse(node, &text, &format!("expected a path, found {}", quoted(&text)));
            return None;
        }
        Some(self.absolute(Path::new(&text), node.span))
    }

    /// A path that knows where it stands.
    pub(super) fn file_path(self, node: &Node) -> Option<FilePath> {
        Some(FilePath { path: self.path(node)?, location: Location::new(self.sources, node.span) })
    }

    /// A place of the file, for who finds a fault there later.
    pub(super) fn location(self, span: Span) -> Location {
        Location::new(self.sources, span)
    }

    /// A path relative to the file of `span`, made absolute.
    pub(super) fn absolute(self, path: &Path, span: Span) -> PathBuf {
        self.sources.directory(span.file).join(path).components().collect()
    }

    /// `true` or `false`.
    pub(super) fn boolean(self, node: &Node) -> Option<bool> {
        self.choice(node, &[("true", true), ("false", false)])
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(self, node: &Node, options: &[(&str, T)]) -> Option<T> {
        let words = || options.iter().map(|(word, _)| *word);
        self.report.asked.note(node.span, || Ask::Choice(words().map(str::to_owned).collect()));
        let expected = alternatives(words());
        let text = self.scalar(node, &expected)?;
        let found = options.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let near =
                nearest(&text, words()).map_or(String::new(), |near| format!(": did you mean `{near}`?"));
            self.refuse(node, &text, &format!("expected {expected}, found {}{near}", quoted(&text)));
        }
        found
    }

    /// A whole number within bounds.
    pub(super) fn integer(self, node: &Node, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.report.asked.note(node.span, || Ask::Integer(bounds.clone()));
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let text = self.scalar(node, &expected)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && bounds.contains(number));
        if number.is_none() {
            self.refuse(node, &text, &format!("expected {expected}, found {}", quoted(&text)));
        }
        number
    }

    /// A duration within bounds.
    pub(super) fn duration(self, node: &Node, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.report.asked.note(node.span, || Ask::Duration(bounds.clone()));
        let text = self.scalar(node, "a duration such as 15s")?;
        let message = match parse_duration(&text) {
            Ok(duration) if bounds.contains(&duration) => return Some(duration),
            Ok(_) => format!(
                "expected a duration from {} to {}, found `{text}`",
                format_duration(*bounds.start()),
                format_duration(*bounds.end())
            ),
            Err(cause) => cause.to_string(),
        };
        self.refuse(node, &text, &message);
        None
    }

    /// A size in bytes within bounds.
    pub(super) fn size(self, node: &Node, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.report.asked.note(node.span, || Ask::Size(bounds.clone()));
        let text = self.scalar(node, "a size such as 16K")?;
        let message = match parse_size(&text) {
            Ok(size) if bounds.contains(&size) => return Some(size),
            Ok(_) => {
                format!("expected a size from {} to {} bytes, found `{text}`", bounds.start(), bounds.end())
            }
            Err(cause) => cause.to_string(),
        };
        self.refuse(node, &text, &message);
        None
    }

    /// A regular expression.
    pub(super) fn regexp(self, node: &Node) -> Option<Regexp> {
        let text = self.scalar(node, "a regular expression")?;
        if text.is_empty() {
            return Some(Regexp(None));
        }
        match Regex::new(&text) {
            Ok(regex) => Some(Regexp(Some(regex))),
            Err(cause) => {
                let cause = cause.to_string();
                // The library's text is a drawing of several lines; the last says what is wrong.
                let last = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.refuse(node, &text, &format!("bad regular expression {}: {last}", quoted(&text)));
                None
            }
        }
    }

    /// The items of a list, or the one value that stands in its place.
    pub(super) fn one_or_more(self, node: &'a Node) -> &'a [Node] {
        self.report.asked.note(node.span, || Ask::List);
        match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    self.error(node.span, "expected at least one value, found an empty list");
                }
                items
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// The items of a list; nothing at all is an empty list.
    pub(super) fn items(self, node: &'a Node) -> &'a [Node] {
        self.report.asked.note(node.span, || Ask::List);
        match &node.value {
            Value::List(items) => items,
            _ => {
                if !node.is_null() {
                    self.expected(node, "a list");
                }
                &[]
            }
        }
    }
}

/// A regular expression as read: `None` matches everything.
#[derive(Debug)]
pub(super) struct Regexp(pub(super) Option<Regex>);

/// A message about `text` that does not repeat it, nor a part of it.
fn hidden(message: &str, text: &str) -> String {
    let message = message.replace(&quoted(text), HIDDEN);
    match message.split_once(", found `") {
        Some((expected, _)) => format!("{expected}, found {HIDDEN}"),
        None => message,
    }
}

/// The keys of one mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) context: Context<'a>,
    pub(super) node: &'a Node,
    keys: &'static Keys,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// The keys of `node`, the unknown ones refused. `None` when it is no mapping; nothing at all is an empty mapping.
    pub(super) fn open(context: Context<'a>, node: &'a Node, keys: &'static Keys) -> Option<Self> {
        context.report.asked.note(node.span, || Ask::Mapping(keys));
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                context.expected(node, &format!("a mapping ({})", keys.what));
                return None;
            }
        };
        for entry in entries {
            if !keys.known.contains(&entry.key.as_str()) {
                context.error(entry.key_span, keys.refuse(&entry.key));
            }
        }
        Some(Self { context, node, keys, entries })
    }

    /// The same keys, read in another place.
    pub(super) fn with<'b>(self, context: Context<'b>) -> Fields<'b>
    where
        'a: 'b,
    {
        Fields { context, ..self }
    }

    /// The entry of a key.
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(
            self.keys.known.contains(&key),
            "{key} is not listed in the keys of {}",
            self.keys.what
        );
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key that must be there; told as missing otherwise, with what to write.
    pub(super) fn required(&self, key: &str, hint: &str) -> Option<&'a Node> {
        let found = self.get(key);
        // A misspelt key, or one of a later version in its stead, is told already.
        let told = |entry: &Entry| {
            let unknown = !self.keys.known.contains(&entry.key.as_str());
            let meant = nearest(&entry.key, self.keys.known.iter().copied()) == Some(key);
            self.keys.later.contains(&entry.key.as_str()) || unknown && meant
        };
        if found.is_none() && !self.context.in_default && !self.entries.iter().take(100).any(told) {
            self.context.error(self.node.span, format!("{} has no `{key}`: {hint}", self.keys.what));
        }
        found
    }

    /// The place of a key's value, or of the mapping without it.
    pub(super) fn span(&self, key: &str) -> Span {
        self.get(key).map_or(self.node.span, |node| node.span)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        self.context.boolean(self.get(key)?)
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, options: &[(&str, T)]) -> Option<T> {
        self.context.choice(self.get(key)?, options)
    }

    /// A whole number within bounds that `T` holds.
    pub(super) fn integer<T: TryFrom<u64>>(&self, key: &str, bounds: RangeInclusive<u64>) -> Option<T> {
        T::try_from(self.context.integer(self.get(key)?, bounds)?).ok()
    }

    pub(super) fn duration(&self, key: &str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.context.duration(self.get(key)?, bounds)
    }

    /// A size in bytes that `T` holds.
    pub(super) fn size<T: TryFrom<u64>>(&self, key: &str, bounds: RangeInclusive<u64>) -> Option<T> {
        T::try_from(self.context.size(self.get(key)?, bounds)?).ok()
    }

    pub(super) fn regexp(&self, key: &str) -> Option<Regexp> {
        self.context.regexp(self.get(key)?)
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.context.path(self.get(key)?)
    }

    pub(super) fn items(&self, key: &str) -> &'a [Node] {
        self.get(key).map_or(&[], |node| self.context.items(node))
    }
}

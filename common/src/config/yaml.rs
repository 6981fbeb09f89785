//! YAML as a tree in which every node knows its place, built on the parser's events. Aliases are copied within a budget;
//! `<<` merges; tags, complex keys and further documents are refused (docs/decisions/0002-marked-yaml.md).

use super::{
    node::{Entry, Node, Value},
    problem::Report,
    source::Span,
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};
use std::collections::{HashMap, HashSet};

/// How deep lists and mappings may nest.
const DEPTH_MAX: usize = 64;

/// The most nodes of one configuration, aliases and imports expanded.
pub(super) const NODES_MAX: usize = 500_000;

/// Parses the text of a file. `None` when it is no YAML at all, told to `report`; lesser faults are told too, and what can
/// be understood is returned. `budget` is the number of nodes still allowed.
pub(super) fn parse(text: &str, file: usize, report: &Report, budget: &mut usize) -> Option<Node> {
    let mut tree = Tree { file, report, budget, stack: Vec::new(), anchors: HashMap::new(), root: None };
    let mut documents = 0;
    let events = EventStream { parser: Parser::new_from_str(text) };
    for event in events {
        let (event, span) = match event {
            Ok(event) => event,
            Err((at, info)) => {
                let hint = tab_hint(text, at.line());
                report.error(tree.span(at, at), format!("this is not valid YAML: {info}{hint}"));
                return None;
            }
        };
        let span = tree.span(span.start, span.end);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                report.error(span, "a second YAML document: expected one document a file");
                return None;
            }
        }
        if !tree.event(event, span) {
            return None;
        }
    }
    tree.root
}

/// The commonest fault of all, which the parser tells in its own words.
fn tab_hint(text: &str, from: usize) -> String {
    let indented = |line: &str| line[..line.len() - line.trim_start().len()].contains('\t');
    let near = text.lines().enumerate().skip(from.saturating_sub(1)).take(2);
    let found = near.into_iter().find(|(_, line)| indented(line));
    found.map_or_else(String::new, |(at, _)| {
        format!(" (line {} is indented by a tab: only spaces indent)", at + 1)
    })
}

/// The parser's events up to the first error, which ends them.
struct EventStream<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Iterator for EventStream<'a> {
    type Item = Result<(Event<'a>, saphyr_parser::Span), (Marker, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.parser.next_event()?.map_err(|error| (*error.marker(), error.info().to_owned())))
    }
}

struct Tree<'a> {
    file: usize,
    report: &'a Report,
    budget: &'a mut usize,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    root: Option<Node>,
}

#[derive(Debug)]
struct Anchor {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// A list or mapping whose end has not come yet.
struct Frame {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Pending },
}

/// The key that waits for its value.
enum Pending {
    None,
    Key(String, Span),
    /// A key that was refused: its value is dropped.
    Refused,
}

impl Tree<'_> {
    fn span(&self, start: Marker, end: Marker) -> Span {
        Span {
            file: self.file,
            line: start.line(),
            column: start.col() + 1,
            end_line: end.line(),
            end_column: end.col() + 1,
        }
    }

    /// Takes an event; false when the tree would grow beyond its bounds.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        let tag = match &event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => {
                tag.as_ref()
            }
            _ => None,
        };
        if let Some(tag) = tag {
            self.report.error(span, format!("the YAML tag `{}` is not supported", shown(tag)));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let span =
                    if text.is_empty() && plain { Span { end_column: span.column, ..span } } else { span };
                let node = Node { span, value: Value::Scalar { text: text.into_owned(), plain } };
                self.spend(1, 0, span) && self.put(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let content = Content::Map { entries: Vec::new(), seen: HashSet::new(), key: Pending::None };
                self.open(span, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => true,
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> bool {
        let fits = self.spend(1, 1, span);
        self.stack.push(Frame { span, anchor, content });
        fits
    }

    fn close(&mut self) -> bool {
        let Some(frame) = self.stack.pop() else { return true };
        let (value, span) = match frame.content {
            Content::List(items) => (Value::List(items), frame.span),
            Content::Map { mut entries, .. } => {
                self.merge_keys(&mut entries);
                let first = entries.first().map(|entry| entry.key_span);
                // A block mapping starts where its first key does; a flow mapping starts with its brace.
                let at = |it: Span| it.line == frame.span.line && it.column == frame.span.column;
                let span = first.filter(|first| at(*first)).unwrap_or(frame.span);
                (Value::Map(entries), span)
            }
        };
        self.put(Node { span, value }, frame.anchor)
    }

    /// Takes `<<: mapping` or `<<: [mappings]` in: the mapping's own keys win, then the earlier of the list.
    fn merge_keys(&self, entries: &mut Vec<Entry>) {
        let Some(at) = entries.iter().position(|entry| entry.key == "<<") else { return };
        let merged = entries.remove(at).value;
        let mut own: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let sources = if let Value::List(items) = merged.value { items } else { vec![merged] };
        for source in sources {
            let Value::Map(more) = source.value else {
                self.report
                    .error(source.span, "`<<` merges mappings: expected a mapping or a list of mappings");
                continue;
            };
            entries.extend(more.into_iter().filter(|entry| own.insert(entry.key.clone())));
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> bool {
        let Some(known) = self.anchors.get(&anchor) else {
            self.report.error(span, "this alias stands inside its own anchor");
            return false;
        };
        let (nodes, depth) = (known.nodes, known.depth);
        if !self.spend(nodes, depth, span) {
            return false;
        }
        let node = self.anchors[&anchor].node.clone();
        self.put(node, 0)
    }

    /// Takes `nodes` nodes that nest `depth` deep out of the budget.
    fn spend(&mut self, nodes: usize, depth: usize, span: Span) -> bool {
        if self.stack.len() + depth > DEPTH_MAX {
            self.report.error(span, format!("lists and mappings nest more than {DEPTH_MAX} deep"));
            return false;
        }
        match self.budget.checked_sub(nodes) {
            Some(left) => *self.budget = left,
            None => {
                self.report
                    .error(span, format!("more than {NODES_MAX} values, aliases and imports expanded"));
                return false;
            }
        }
        true
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> bool {
        if anchor != 0 {
            let (nodes, depth) = node.measure();
            // The copy that is kept counts too: anchors within anchors would multiply it.
            if !self.spend(nodes, 0, node.span) {
                return false;
            }
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes, depth });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return true;
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, key } => match std::mem::replace(key, Pending::None) {
                Pending::None => *key = new_key(node, seen, self.report),
                Pending::Key(key, key_span) => entries.push(Entry { key, key_span, value: node }),
                Pending::Refused => {}
            },
        }
        true
    }
}

/// A tag as the file has it.
fn shown(tag: &saphyr_parser::Tag) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() }
}

fn new_key(node: Node, seen: &mut HashSet<String>, report: &Report) -> Pending {
    let Value::Scalar { text, .. } = node.value else {
        report.error(node.span, "a key must be plain text, not a list or a mapping");
        return Pending::Refused;
    };
    if seen.insert(text.clone()) {
        Pending::Key(text, node.span)
    } else {
        report.error(node.span, format!("the key `{text}` stands twice in this mapping"));
        Pending::Refused
    }
}

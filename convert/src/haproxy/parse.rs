//! Reads HAProxy's syntax: sections of lines of words.

use crate::{ConvertError, left::Place, peer::SECTIONS};
use std::{path::Path, rc::Rc};

/// The most lines of words.
const LINES_MAX: usize = 100_000;

/// The most lines of `defaults` that sections take over, all together.
const INHERITED_MAX: usize = 2_000_000;

/// A line: its words.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) words: Vec<String>,
}

/// A section. What its `defaults` say stands before its own lines.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) defaults: Rc<[Line]>,
    pub(super) lines: Vec<Line>,
}

impl Line {
    /// A word; nothing where there is none.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The word behind another one.
    pub(super) fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|it| it == word)?;
        self.words.get(at + 1).map(String::as_str)
    }

    pub(super) fn says(&self, word: &str) -> bool {
        self.words.iter().any(|it| it == word)
    }

    /// What it is called in remarks: a keyword of one word or two.
    pub(super) fn name(&self) -> String {
        match self.word(0) {
            "option" | "timeout" | "http-request" | "http-response" | "http-check" | "tcp-request"
            | "compression" | "no" | "stats" => {
                format!("{} {}", self.word(0), self.word(1))
            }
            other => other.to_owned(),
        }
    }
}

impl Section {
    /// Its own lines that begin with these words, or those of its defaults where it has none.
    pub(super) fn lines_of(&self, words: &[&str]) -> Vec<&Line> {
        let fits = |line: &&Line| words.iter().enumerate().all(|(at, word)| line.word(at) == *word);
        let own: Vec<&Line> = self.lines.iter().filter(fits).collect();
        if own.is_empty() { self.defaults.iter().filter(fits).collect() } else { own }
    }

    /// The line that counts.
    pub(super) fn line_of(&self, words: &[&str]) -> Option<&Line> {
        self.lines_of(words).last().copied()
    }

    /// What it is called in remarks.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// All lines that begin with a word, those of its defaults first.
    pub(super) fn all_of<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Line> {
        self.defaults.iter().chain(&self.lines).filter(move |it| it.word(0) == word)
    }

    /// Whether it does HTTP.
    pub(super) fn is_http(&self) -> bool {
        self.line_of(&["mode"]).is_some_and(|it| it.word(1) == "http")
    }

    /// Whether it passes connections on, which it does where nothing is said.
    pub(super) fn is_tcp(&self) -> bool {
        self.line_of(&["mode"]).is_none_or(|it| it.word(1) == "tcp")
    }
}

/// The name of a `defaults`, and its lines.
type Defaults = (String, Rc<[Line]>);

/// The sections of a text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Section>, ConvertError> {
    let file: Rc<Path> = Rc::from(path);
    let mut inherited = 0;
    let (mut sections, mut defaults): (Vec<Section>, Vec<Defaults>) = (Vec::new(), Vec::new());
    for (at, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let column = 1 + line.chars().take_while(|it| it.is_whitespace()).count();
        let place = Place { number: 0, file: Rc::clone(&file), line: at + 1, column };
        let error = |why: &str| ConvertError::Syntax {
            path: path.to_owned(),
            line: at + 1,
            column,
            why: why.to_owned(),
        };
        let words = words(line).map_err(error)?;
        let Some(first) = words.first() else { continue };
        if at > LINES_MAX {
            return Err(error("there are too many lines"));
        }
        if SECTIONS.contains(&first.as_str()) {
            note_defaults(sections.last(), &mut defaults);
            let from = words.iter().position(|it| it == "from").and_then(|at| words.get(at + 1));
            let above = from
                .map_or_else(|| defaults.last(), |name| defaults.iter().rfind(|(known, _)| known == name));
            inherited += above.map_or(0, |(_, lines)| lines.len());
            if inherited > INHERITED_MAX {
                return Err(error("the sections take over too many lines of `defaults`"));
            }
            sections.push(Section {
                kind: first.clone(),
                name: words.get(1).cloned().unwrap_or_default(),
                place,
                defaults: above.map_or_else(|| Rc::from([]), |(_, lines)| Rc::clone(lines)),
                lines: Vec::new(),
            });
        } else {
            let section = sections
                .last_mut()
                .ok_or_else(|| error("expected a section, such as `frontend NAME`, before this line"))?;
            section.lines.push(Line { place, words });
        }
    }
    Ok(sections)
}

fn note_defaults(last: Option<&Section>, defaults: &mut Vec<Defaults>) {
    if let Some(last) = last.filter(|it| it.kind == "defaults") {
        // A `defaults` takes over what another says only where it is told to.
        defaults.push((last.name.clone(), Rc::from(&*last.lines)));
    }
}

/// The words of a line: quotes, escapes and comments as HAProxy has them.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut rest = line.chars();
    while let Some(it) = rest.next() {
        match it {
            '#' => break,
            '\\' => {
                escaped(rest.next().ok_or("`\\` at the end of a line goes on nowhere")?, &mut word);
                begun = true;
            }
            '\'' | '"' => {
                begun = true;
                loop {
                    match rest.next().ok_or("the quote has no end")? {
                        inner if inner == it => break,
                        '\\' if it == '"' => escaped(rest.next().ok_or("the quote has no end")?, &mut word),
                        inner => word.push(inner),
                    }
                }
            }
            it if it.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            it => {
                word.push(it);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

/// What stands behind `\`. Where it means nothing there it belongs to the word: to an expression, mostly.
fn escaped(it: char, word: &mut String) {
    match it {
        'n' => word.push('\n'),
        'r' => word.push('\r'),
        't' => word.push('\t'),
        ' ' | '#' | '\\' | '"' | '\'' | '$' => word.push(it),
        other => word.extend(['\\', other]),
    }
}

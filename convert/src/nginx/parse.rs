//! Reads nginx's syntax: words, quotes, comments, blocks, and files that are included.

use super::directive::Directive;
use crate::{ConvertError, TEXT_MAX, left::Place};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Blocks in blocks, files in files.
const DEPTH_MAX: usize = 32;

/// Files that are included.
const FILES_MAX: usize = 1000;

/// Directives of all files.
const DIRECTIVES_MAX: usize = 100_000;

#[derive(Debug)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

/// What was read so far, of all files.
#[derive(Debug, Default)]
struct Budget {
    bytes: u64,
    files: usize,
    directives: usize,
}

/// The directives of a text and of the files that it includes.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Directive>, ConvertError> {
    let mut budget = Budget::default();
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    file(text, path, &root, 0, &mut budget)
}

fn file(
    text: &str,
    path: &Path,
    root: &Path,
    depth: usize,
    budget: &mut Budget,
) -> Result<Vec<Directive>, ConvertError> {
    let mut parser = Parser {
        place: Place { number: budget.files, file: Rc::from(path), line: 1, column: 1 },
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        root,
        budget,
    };
    parser.budget.bytes += text.len() as u64;
    parser.budget.files += 1;
    parser.block(depth, None)
}

struct Parser<'a> {
    place: Place,
    rest: &'a str,
    root: &'a Path,
    budget: &'a mut Budget,
}

impl Parser<'_> {
    fn error(place: &Place, why: impl Into<String>) -> ConvertError {
        ConvertError::Syntax {
            path: place.file.to_path_buf(),
            line: place.line,
            column: place.column,
            why: why.into(),
        }
    }

    /// The directives up to the end of a block that was opened at `open`, or of the file.
    fn block(&mut self, depth: usize, open: Option<&Place>) -> Result<Vec<Directive>, ConvertError> {
        if depth > DEPTH_MAX {
            return Err(Self::error(
                &self.place,
                format!("blocks and files stand more than {DEPTH_MAX} deep in each other"),
            ));
        }
        let (mut directives, mut words, mut start) = (Vec::new(), Vec::new(), self.place.clone());
        loop {
            let token = self.token()?;
            let Some((place, token)) = token else { break };
            if words.is_empty() {
                start = place.clone();
            }
            match token {
                Token::Word(word) => words.push(word),
                Token::Close if words.is_empty() && open.is_some() => return Ok(directives),
                Token::Close => {
                    return Err(Self::error(
                        &place,
                        "`}` was not expected here: a `;` is missing before it, or a `{`",
                    ));
                }
                Token::Semicolon if words.is_empty() => {
                    return Err(Self::error(&place, "`;` without a directive before it"));
                }
                Token::Open if words.is_empty() => {
                    return Err(Self::error(&place, "`{` without a directive before it"));
                }
                Token::Semicolon => {
                    let directive = self.directive(&start, &mut words, None)?;
                    if directive.name == "include" {
                        directives.extend(self.include(&directive, depth)?);
                    } else {
                        directives.push(directive);
                    }
                }
                Token::Open => {
                    let inner = if words[0].ends_with("_by_lua_block") {
                        self.foreign(&place)?
                    } else {
                        self.block(depth + 1, Some(&place))?
                    };
                    let directive = self.directive(&start, &mut words, Some(inner))?;
                    directives.push(directive);
                }
            }
        }
        if !words.is_empty() {
            return Err(Self::error(&start, format!("`{}` has no `;` at its end", words[0])));
        }
        match open {
            Some(open) => Err(Self::error(open, "this `{` has no `}`")),
            None => Ok(directives),
        }
    }

    fn directive(
        &mut self,
        place: &Place,
        words: &mut Vec<String>,
        block: Option<Vec<Directive>>,
    ) -> Result<Directive, ConvertError> {
        self.budget.directives += 1;
        if self.budget.directives > DIRECTIVES_MAX {
            return Err(Self::error(place, format!("there are more than {DIRECTIVES_MAX} directives")));
        }
        let name = words.remove(0);
        Ok(Directive { place: place.clone(), name, arguments: std::mem::take(words), block })
    }

    /// A block in another language: up to the bracket that closes it.
    fn foreign(&mut self, open: &Place) -> Result<Vec<Directive>, ConvertError> {
        let mut depth = 1_usize;
        while let Some(it) = self.next() {
            match it {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(Vec::new());
            }
        }
        Err(Self::error(open, "this `{` has no `}`"))
    }

    fn next(&mut self) -> Option<char> {
        let it = self.rest.chars().next()?;
        self.rest = &self.rest[it.len_utf8()..];
        if it == '\n' {
            (self.place.line, self.place.column) = (self.place.line + 1, 1);
        } else {
            self.place.column += 1;
        }
        Some(it)
    }

    fn token(&mut self) -> Result<Option<(Place, Token)>, ConvertError> {
        while let Some(it) = self.rest.chars().next() {
            if it == '#' {
                while self.rest.chars().next().is_some_and(|it| it != '\n') {
                    self.next();
                }
            } else if it.is_whitespace() {
                self.next();
            } else {
                break;
            }
        }
        let place = self.place.clone();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            ';' => Token::Semicolon,
            '{' => Token::Open,
            '}' => Token::Close,
            '"' | '\'' => {
                self.next();
                return Ok(Some((place.clone(), Token::Word(self.quoted(first, &place)?))));
            }
            _ => return Ok(Some((place, Token::Word(self.word())))),
        };
        self.next();
        Ok(Some((place, token)))
    }

    fn quoted(&mut self, quote: char, place: &Place) -> Result<String, ConvertError> {
        let mut word = String::new();
        while let Some(it) = self.next() {
            match it {
                _ if it == quote => return Ok(word),
                '\\' => match self.next() {
                    Some(escaped @ ('"' | '\'' | '\\')) => word.push(escaped),
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    Some(other) => word.extend(['\\', other]),
                    None => break,
                },
                _ => word.push(it),
            }
        }
        Err(Self::error(place, "the quote has no end"))
    }

    /// Up to white space, `;` or `{`; a `{` behind `$` and those of an expression belong to it.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(it) = self.rest.chars().next() {
            if it.is_whitespace() || it == ';' || (it == '{' && !word.ends_with('$')) {
                break;
            }
            self.next();
            word.push(it);
            if it == '\\'
                && let Some(escaped) = self.next()
            {
                word.push(escaped);
            }
            if it == '{' {
                while let Some(inner) =
                    self.rest.chars().next().filter(|it| !it.is_whitespace() && *it != ';')
                {
                    self.next();
                    word.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
        }
        word
    }

    fn include(&mut self, directive: &Directive, depth: usize) -> Result<Vec<Directive>, ConvertError> {
        let pattern = directive.argument(0);
        // Types of files are the same everywhere.
        if pattern.ends_with("mime.types") {
            return Ok(Vec::new());
        }
        let files = glob(&self.root.join(pattern));
        if files.is_empty() && !pattern.contains('*') {
            return Err(Self::error(
                &directive.place,
                format!("can't read `{pattern}`: there is no such file"),
            ));
        }
        let mut directives = Vec::new();
        for path in files {
            let refuse = |why: String| {
                Self::error(&directive.place, format!("can't read `{}`: {why}", path.display()))
            };
            if self.budget.files >= FILES_MAX {
                return Err(refuse(format!("more than {FILES_MAX} files are included")));
            }
            let text = read(&path, TEXT_MAX.saturating_sub(self.budget.bytes)).map_err(refuse)?;
            directives.extend(file(&text, &path, self.root, depth + 1, self.budget)?);
        }
        Ok(directives)
    }
}

/// A regular file's text, of at most `max` bytes.
fn read(path: &Path, max: u64) -> Result<String, String> {
    if !fs::metadata(path).map_err(|cause| cause.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = String::new();
    let opened = fs::File::open(path).map_err(|cause| cause.to_string())?;
    opened.take(max + 1).read_to_string(&mut text).map_err(|cause| cause.to_string())?;
    if text.len() as u64 > max { Err("all files together are too large".to_owned()) } else { Ok(text) }
}

/// The files that a path with `*` in its last part stands for, in order.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains('*') {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let folder = pattern.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = entries.filter(|it| matches_glob(&it.file_name().to_string_lossy(), &name));
    let mut files: Vec<PathBuf> = fits.map(|it| folder.join(it.file_name())).take(FILES_MAX + 1).collect();
    files.sort();
    files
}

/// Whether a name is what a pattern with `*` says; names with a dot before them are hidden.
fn matches_glob(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first).filter(|_| !name.starts_with('.')) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (at, part) in parts.iter().enumerate() {
        if at + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

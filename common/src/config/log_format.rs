//! A format of one's own for the access log: a text with variables, taken apart once, when the file is read.

use super::{keys::nearest, names, quoted::quoted};
use std::collections::BTreeSet;

/// The longest format, in bytes.
const LENGTH_MAX: usize = 4096;

/// The most headers of requests that a format may have.
const HEADERS_MAX: usize = 16;

/// Headers by which their reader could be somebody else.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-session-id"];

/// What a line is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    /// In their order.
    pub pieces: Vec<LogPiece>,
    /// How values are written.
    pub style: LogStyle,
    /// The headers of the request that it has, in lower case, each once.
    pub headers: Vec<String>,
}

/// How values are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStyle {
    /// `\xXX` for quotes, backslashes, and what is not printable ASCII; outside of quotes also for spaces and for these bytes, which
    /// stand beside a variable somewhere in the format. What is not known is `-`.
    Text(Vec<u8>),
    /// The format begins with `{`: as JSON has them; outside of quotes a text gets its own, and what is not known is `null`.
    Json,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// Itself.
    Text(String),
    /// What is known of a request, and whether that stands in quotes.
    Value(LogVariable, bool),
}

/// What a line can have of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/access-log.md has what each of them is")]
pub enum LogVariable {
    AnswerUs,
    Bytes,
    Cache,
    Duration,
    DurationUs,
    End,
    Header(String),
    Host,
    Method,
    Path,
    Protocol,
    Query,
    Referer,
    RemoteAddr,
    Request,
    RequestId,
    RequestUri,
    Scheme,
    Server,
    Status,
    Time,
    TimeCommon,
    Tls,
    TraceId,
    Tries,
    UserAgent,
    Why,
}

/// How they are written.
const VARIABLES: [(&str, LogVariable); 26] = [
    ("answer-us", LogVariable::AnswerUs),
    ("bytes", LogVariable::Bytes),
    ("cache", LogVariable::Cache),
    ("duration", LogVariable::Duration),
    ("duration-us", LogVariable::DurationUs),
    ("end", LogVariable::End),
    ("host", LogVariable::Host),
    ("method", LogVariable::Method),
    ("path", LogVariable::Path),
    ("protocol", LogVariable::Protocol),
    ("query", LogVariable::Query),
    ("referer", LogVariable::Referer),
    ("remote-addr", LogVariable::RemoteAddr),
    ("request", LogVariable::Request),
    ("request-id", LogVariable::RequestId),
    ("request-uri", LogVariable::RequestUri),
    ("scheme", LogVariable::Scheme),
    ("server", LogVariable::Server),
    ("status", LogVariable::Status),
    ("time", LogVariable::Time),
    ("time-common", LogVariable::TimeCommon),
    ("tls", LogVariable::Tls),
    ("trace-id", LogVariable::TraceId),
    ("tries", LogVariable::Tries),
    ("user-agent", LogVariable::UserAgent),
    ("why", LogVariable::Why),
];

impl LogFormat {
    /// Reads a format.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a format has at most {LENGTH_MAX} bytes, this one has {}", text.len()));
        }
        if text.chars().any(|it| it.is_control() && it != '\t') {
            return Err(format!(
                "a format is one line, without control characters but tabs, found {}",
                quoted(text)
            ));
        }
        let pieces = pieces(text)?;
        if !pieces.iter().any(|piece| matches!(piece, LogPiece::Value(..))) {
            return Err(format!(
                "a format has at least one variable, such as $status, found {}",
                quoted(text)
            ));
        }
        let style = if text.starts_with('{') { LogStyle::Json } else { LogStyle::Text(separators(&pieces)) };
        let named = pieces.iter().filter_map(|piece| match piece {
            LogPiece::Value(LogVariable::Header(name), _) => Some(name.clone()),
            _ => None,
        });
        let headers: Vec<_> = named.collect::<BTreeSet<_>>().into_iter().collect();
        if headers.len() > HEADERS_MAX {
            return Err(format!(
                "a format has at most {HEADERS_MAX} headers of the request, this one has {}",
                headers.len()
            ));
        }
        Ok(Self { pieces, style, headers })
    }
}

/// Takes a text apart. A quote in it opens or closes.
fn pieces(text: &str) -> Result<Vec<LogPiece>, String> {
    let (mut pieces, mut literal, mut rest, mut in_quotes) = (Vec::new(), String::new(), text, false);
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let (variable, length) = variable(after)?;
        in_quotes ^= literal.matches('"').count() % 2 == 1;
        if !literal.is_empty() {
            pieces.push(LogPiece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(LogPiece::Value(variable, in_quotes));
        rest = &after[length..];
    }
    literal.push_str(rest);
    if in_quotes != (literal.matches('"').count() % 2 == 1) {
        return Err(format!("a quote is opened and not closed in {}", quoted(text)));
    }
    if !literal.is_empty() {
        pieces.push(LogPiece::Text(literal));
    }
    Ok(pieces)
}

/// The variable that `after` begins with, without its `$`, and its length.
fn variable(after: &str) -> Result<(LogVariable, usize), String> {
    let length = after.bytes().take_while(|it| it.is_ascii_alphanumeric() || *it == b'-').count();
    // A hyphen that separates is none of the name.
    let word = after[..length].trim_end_matches('-');
    if let ("header", Some(rest)) = (word, after.strip_prefix("header{")) {
        let name = rest.split_once('}').map(|(name, _)| name);
        let name = name.ok_or_else(|| "`$header{` has no `}` behind the header's name".to_owned())?;
        names::header_name(name)?;
        let lower = name.to_ascii_lowercase();
        if SECRET.contains(&&*lower) {
            return Err(format!(
                "{} is a secret of the client: whoever reads the log could take its place",
                quoted(&format!("$header{{{name}}}"))
            ));
        }
        return Ok((LogVariable::Header(lower), "header{}".len() + name.len()));
    }
    let known = VARIABLES.iter().find(|(name, _)| *name == word);
    known.map(|(name, variable)| (variable.clone(), name.len())).ok_or_else(|| unknown(word))
}

fn unknown(word: &str) -> String {
    let found = quoted(&format!("${word}"));
    if word == "header" {
        return format!("expected the name of a header, as in $header{{accept}}, found {found}");
    }
    let near = nearest(word, VARIABLES.iter().map(|(name, _)| *name));
    let near = near.map_or_else(String::new, |near| format!(": did you mean `${near}`?"));
    let names: Vec<_> = VARIABLES.iter().map(|(name, _)| format!("${name}")).collect();
    format!("expected {}, $header{{name}}, or $$ for a dollar, found {found}{near}", names.join(", "))
}

/// The bytes that stand directly beside variables, outside of quotes: a value that had them could be taken for two.
fn separators(pieces: &[LogPiece]) -> Vec<u8> {
    let mut found = BTreeSet::<u8>::new();
    for (at, piece) in pieces.iter().enumerate() {
        let LogPiece::Value(_, false) = piece else { continue };
        let text = |at: Option<usize>| match at.and_then(|at| pieces.get(at)) {
            Some(LogPiece::Text(text)) => Some(text.as_bytes()),
            _ => None,
        };
        found.extend(text(at.checked_sub(1)).and_then(<[u8]>::last));
        found.extend(text(Some(at + 1)).and_then(<[u8]>::first));
    }
    found.into_iter().filter(u8::is_ascii_punctuation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart() {
        let format = LogFormat::parse(r#"$remote-addr|$status "$header{X-A} $$5" $bytes-$tries"#).unwrap();
        let value = |variable, quoted| LogPiece::Value(variable, quoted);
        let text = |text: &str| LogPiece::Text(text.to_owned());
        assert_eq!(
            format.pieces,
            [
                value(LogVariable::RemoteAddr, false),
                text("|"),
                value(LogVariable::Status, false),
                text(" \""),
                value(LogVariable::Header("x-a".to_owned()), true),
                text(" $5\" "),
                value(LogVariable::Bytes, false),
                text("-"),
                value(LogVariable::Tries, false),
            ]
        );
        assert_eq!((format.style, format.headers), (LogStyle::Text(b"-|".to_vec()), vec!["x-a".to_owned()]));
        assert_eq!(LogFormat::parse(r#"{"status":$status}"#).unwrap().style, LogStyle::Json);
    }

    #[test]
    fn every_variable_is_read_by_its_name() {
        for (name, variable) in VARIABLES {
            let format = LogFormat::parse(&format!("${name} x")).unwrap();
            assert_eq!(format.pieces[0], LogPiece::Value(variable, false), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, part) in [
            ("$stauts", "found `$stauts`: did you mean `$status`?"),
            ("$", "found `$`"),
            ("$header", "as in $header{accept}, found `$header`"),
            ("$header{a", "has no `}`"),
            ("$header{a b}", "found `a b`"),
            ("$header{Cookie}", "`$header{Cookie}` is a secret"),
            ("$$ costs", "at least one variable"),
            ("\"$host", "not closed"),
            ("$host\n$status", "one line"),
        ] {
            let told = LogFormat::parse(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
        let many: String = (0..17).map(|at| format!("$header{{x-{at}}} ")).collect();
        assert!(LogFormat::parse(&many).unwrap_err().contains("at most 16 headers"));
    }
}

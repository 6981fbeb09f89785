//! The `target` of `redirect`, `moved-permanently` and `forward`: a path, or a whole URL, with places for what the expression
//! found and for what the request asked for; header values have the same places. They are taken apart once, when the file is read;
//! nothing that a client sends can add a scheme, a host or a line to them.

use super::{names, quoted::quoted};
use std::net::Ipv6Addr;

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewriteTarget {
    /// Scheme and host; `None`: a path of the same host.
    pub origin: Option<Origin>,
    /// What stands for the part of the path that matched.
    pub path: Vec<Piece>,
    /// The target's own query.
    pub query: Vec<Piece>,
    /// Whether the request's query goes on behind the target's own: not when the target ends with `?`, or says where it goes.
    pub keep_query: bool,
    /// Whether what stands before and behind the match stays: not when the target has the whole path in it.
    pub keep_rest: bool,
    /// What stands behind `#`.
    pub fragment: Option<String>,
}

/// The beginning of a whole URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`; `None`: `$scheme`, the request's own.
    pub scheme: Option<&'static str>,
    /// `None`: `$host`, the request's own.
    pub host: Option<String>,
    /// The port, unless it is the scheme's.
    pub port: Option<u16>,
}

/// A piece of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Itself, as it stands in a URL.
    Text(String),
    /// `$n`: what the group n found, `$0` what the whole expression did.
    Group(usize),
    /// `$host` and its like.
    Variable(Variable),
}

/// What a target or a header value can have of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `$host`: its host, in lower case and without a port.
    Host,
    /// `$path`: its path, percent-encoded, as earlier `forward` rules have left it.
    Path,
    /// `$query`: its query, without `?`, in the same way.
    Query,
    /// `$remote-addr`: the client's address, behind trusted proxies as they name it.
    RemoteAddr,
    /// `$request-uri`: path and query as the client has asked for them, whatever `forward` rules have made of them.
    RequestUri,
    /// `$scheme`: `http` or `https`.
    Scheme,
}

/// How they are written.
const VARIABLES: [(&str, Variable); 6] = [
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("remote-addr", Variable::RemoteAddr),
    ("request-uri", Variable::RequestUri),
    ("scheme", Variable::Scheme),
];

impl RewriteTarget {
    /// Reads a target for an expression with `groups` groups (1 without an expression: `$0` is there). `anchored`: the
    /// expression begins where the path begins.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, groups: usize, anchored: bool) -> Result<Self, String> {
        let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, it)| (rest, Some(it)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, it)| (rest, Some(it)));
        if let Some(fragment) = fragment {
            check_text(fragment, "/?")?;
        }
        let (origin, path) = origin(rest)?;
        let path = pieces(path, groups, |text| check_text(text, "/"))?;
        check_path(&path, query.is_some())?;
        if let (None, Some(Piece::Text(first)), true) = (&origin, path.first(), anchored)
            && !first.starts_with('/')
        {
            return Err(format!(
                "expected a path that begins with a slash, or a URL that begins with http:// or https://, found {}",
                quoted(text)
            ));
        }
        if origin.is_none() && rest.starts_with("//") {
            return Err(format!("{} is a URL without its scheme: write http:// or https://", quoted(text)));
        }
        let own_query = pieces(query.unwrap_or_default(), groups, |text| check_text(text, "/?"))?;
        let whole = |variable| has(&path, variable) || has(&own_query, variable);
        Ok(Self {
            keep_query: query != Some("") && !whole(Variable::Query) && !whole(Variable::RequestUri),
            keep_rest: !whole(Variable::Path) && !whole(Variable::RequestUri),
            origin,
            path,
            query: own_query,
            fragment: fragment.map(str::to_owned),
        })
    }
}

/// Reads the value of a header for an expression with `groups` groups, as [`RewriteTarget::parse`] does.
///
/// # Errors
/// What is wrong with it.
pub(super) fn header_value(text: &str, groups: usize) -> Result<Vec<Piece>, String> {
    names::header_value(text)?;
    pieces(text, groups, |_| Ok(()))
}

fn has(pieces: &[Piece], variable: Variable) -> bool {
    pieces.contains(&Piece::Variable(variable))
}

/// A query has its place, behind the `?`.
fn check_path(path: &[Piece], has_query: bool) -> Result<(), String> {
    if has(path, Variable::Query) {
        return Err("`$query` belongs behind a `?`".to_owned());
    }
    let uri = Piece::Variable(Variable::RequestUri);
    let ends = path.iter().position(|piece| *piece == uri).is_none_or(|at| at + 1 == path.len());
    if ends && !(has_query && path.contains(&uri)) {
        return Ok(());
    }
    Err("`$request-uri` has the query in it, so nothing can follow it: take `$path`".to_owned())
}

/// A URL's beginning, which holds no group, and the rest.
fn origin(text: &str) -> Result<(Option<Origin>, &str), String> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok((None, text)) };
    let scheme = match scheme {
        "http" => Some("http"),
        "https" => Some("https"),
        "$scheme" => None,
        // `://` further on is a part of a path.
        other if other.contains(['/', '$']) => return Ok((None, text)),
        other => {
            return Err(format!("expected http:// or https://, found {}", quoted(&format!("{other}://"))));
        }
    };
    let (requested, rest) = match rest.strip_prefix("$host") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let end = rest.find(['/', '$']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = split_port(authority)?;
    let host = match (requested, host) {
        (true, "") => None,
        (false, host) if is_host(host) => Some(host.to_owned()),
        _ => {
            let scheme = scheme.unwrap_or("$scheme");
            return Err(format!(
                "expected a host name or $host behind {scheme}://, found {}",
                quoted(&format!("{}{authority}", if requested { "$host" } else { "" }))
            ));
        }
    };
    Ok((Some(Origin { scheme, host, port }), path))
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let number = port.parse::<u16>().ok().filter(|number| *number > 0 && !port.starts_with('+'));
            let number =
                number.ok_or_else(|| format!("expected a port from 1 to 65535, found {}", quoted(port)))?;
            Ok((host, Some(number)))
        }
        _ => Ok((authority, None)),
    }
}

fn is_host(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bracketed.map_or_else(|| names::is_host_name(text), |ip| ip.parse::<Ipv6Addr>().is_ok())
}

/// Text that passes `check`, `$n`, variables and `$$`. A group's number is read as long as there is such a group, as Java's expressions do: with
/// one group, `$10` is `$1` and a zero.
fn pieces(
    text: &str,
    groups: usize,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (piece, taken) = if let Some(after) = after.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        } else if let Some((word, variable)) = VARIABLES.into_iter().find(|(word, _)| is_word(after, word)) {
            (Piece::Variable(variable), word.len())
        } else {
            group(after, groups)?
        };
        if !literal.is_empty() {
            check(&literal)?;
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
        rest = &after[taken..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        check(&literal)?;
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// Whether `text` begins with `word`, and not with a longer one.
fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|it: char| it.is_ascii_alphanumeric()))
}

fn group(after: &str, groups: usize) -> Result<(Piece, usize), String> {
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        let name = |it: &char| it.is_alphanumeric() || matches!(it, '-' | '_');
        let shown: String = after.chars().take_while(name).take(20).collect();
        let variables: Vec<_> = VARIABLES.iter().map(|(word, _)| format!("${word}")).collect();
        return Err(format!(
            "expected $0 to ${}, {}, or $$ for the character itself, found {}",
            groups - 1,
            variables.join(", "),
            quoted(&format!("${shown}"))
        ));
    }
    let read = |length: usize| after[..length].parse().ok().filter(|number| *number < groups);
    let found = (1..=digits).rev().find_map(|length| Some((read(length)?, length)));
    let (number, length) = found.ok_or_else(|| {
        let has = match groups - 1 {
            0 => "no groups".to_owned(),
            1 => "one group".to_owned(),
            more => format!("{more} groups"),
        };
        format!("the value uses ${}, and the regexp has {has}", &after[..digits])
    })?;
    Ok((Piece::Group(number), length))
}

/// Characters of a URL's path (RFC 3986 §3.3), `allowed` besides, and whole escapes.
fn check_text(text: &str, allowed: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, it) in text.char_indices() {
        let escape = || bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let fine = match it {
            '%' => escape() && bytes.get(at + 1..at + 3) != Some(b"00"),
            it => it.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(it) || allowed.contains(it),
        };
        if !fine {
            return Err(format!(
                "the target has {}, which a URL can't have as it is: write it percent-encoded",
                quoted(&it.to_string())
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

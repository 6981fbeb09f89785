//! What an `acl` looks at: a path, or something that rules have a condition for.

use crate::{pattern, value::is_network, yaml::Yaml};

/// One thing to hold: an expression about the path, or a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Criterion {
    Path(String),
    If(&'static str, Yaml),
    Always(bool),
}

/// How a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Exact,
    Begin,
    End,
    Inside,
    Folder,
    Domain,
    Expression,
    Found,
}

/// Reads the words behind an ACL's name, or of `{ … }`.
///
/// # Errors
/// Why there is no such condition.
pub(super) fn criterion(words: &[String]) -> Result<Criterion, String> {
    let (fetch, rest) = words.split_first().ok_or("it looks at nothing")?;
    let (name, argument) = match fetch.split_once('(') {
        Some((name, rest)) => (name, rest.split([',', ')']).next().unwrap_or_default().trim()),
        None => (fetch.as_str(), ""),
    };
    let (mut any_case, mut how, mut values) = (false, None, Vec::new());
    let mut words = rest.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-i" => any_case = true,
            "-m" => how = Some(matching(words.next().unwrap_or_default())?),
            "-f" | "-M" | "-u" => return Err(format!("`{word}`: values stand in the line, not in a file")),
            "-n" => {}
            "--" => values.extend(words.by_ref()),
            value => values.push(value),
        }
    }
    let name = name.strip_prefix("req.").unwrap_or(name);
    let (name, suffix) = split_suffix(name);
    let how = how.or(suffix).unwrap_or(if values.is_empty() { Match::Found } else { Match::Exact });
    of(name, argument, (how, any_case), &values)
        .ok_or_else(|| format!("`{fetch}` has no counterpart among the conditions"))?
}

fn matching(word: &str) -> Result<Match, String> {
    Ok(match word {
        "str" => Match::Exact,
        "beg" => Match::Begin,
        "end" => Match::End,
        "sub" => Match::Inside,
        "dir" => Match::Folder,
        "dom" => Match::Domain,
        "reg" => Match::Expression,
        "found" | "bool" => Match::Found,
        other => return Err(format!("there is no counterpart of `-m {other}`")),
    })
}

/// `path_beg` is `path` with `-m beg`.
fn split_suffix(name: &str) -> (&str, Option<Match>) {
    if matches!(name, "ssl_fc" | "dst_port" | "url_param" | "always_true") {
        return (name, None);
    }
    let split = name.rsplit_once('_').and_then(|(name, word)| Some((name, matching(word).ok()?)));
    split.map_or((name, None), |(name, how)| (name, Some(how)))
}

fn of(
    name: &str,
    argument: &str,
    (how, any_case): (Match, bool),
    values: &[&str],
) -> Option<Result<Criterion, String>> {
    let regexp = || regexp(values, how, any_case);
    let list = || Yaml::texts(values.iter().copied());
    let named = |key, name: &str| -> Result<Criterion, String> {
        let name = Yaml::text(name);
        if how == Match::Found {
            return Ok(Criterion::If(key, name));
        }
        Ok(Criterion::If(key, Yaml::Map(vec![("name", name), ("regexp", Yaml::text(regexp()?))])))
    };
    let known = |good: bool, criterion: Criterion| {
        if good { Ok(criterion) } else { Err("a value is not one that the condition takes".to_owned()) }
    };
    Some(match name {
        "path" if !values.is_empty() => regexp().map(Criterion::Path),
        "hdr" | "fhdr" if argument.eq_ignore_ascii_case("host") && !values.is_empty() => {
            // Names of hosts have no case.
            self::regexp(values, how, true)
                .map(|it| Criterion::If("server-name", Yaml::Map(vec![("regexp", Yaml::text(it))])))
        }
        "hdr" | "fhdr" if is_word(argument) => named("header", &argument.to_ascii_lowercase()),
        "cook" if is_word(argument) => named("cookie", argument),
        "url_param" | "urlp" if !argument.is_empty() => named("query-param", argument),
        "method" if how == Match::Exact => known(
            values.iter().all(|it| it.bytes().all(|it| it.is_ascii_uppercase())),
            Criterion::If("method", list()),
        ),
        "src" if how == Match::Exact => {
            known(values.iter().all(|it| is_network(it)), Criterion::If("remote-addr", list()))
        }
        "ssl_fc" => Ok(Criterion::If("secure", Yaml::plain(true))),
        "dst_port" if how == Match::Exact => {
            let ports: Vec<Yaml> = values
                .iter()
                .filter_map(|it| it.parse::<u16>().ok())
                .filter(|it| *it > 0)
                .map(Yaml::plain)
                .collect();
            known(ports.len() == values.len(), Criterion::If("local-port", Yaml::List(ports)))
        }
        "always_true" | "TRUE" => Ok(Criterion::Always(true)),
        "always_false" | "FALSE" => Ok(Criterion::Always(false)),
        _ => return None,
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
}

/// An expression that finds one of some values.
fn regexp(values: &[&str], how: Match, any_case: bool) -> Result<String, String> {
    let each: Vec<String> = values
        .iter()
        .map(|value| if how == Match::Expression { (*value).to_owned() } else { pattern::escape(value) })
        .collect();
    let one = match &each[..] {
        [only] if how != Match::Expression || !only.contains('|') => only.clone(),
        _ => format!("(?:{})", each.join("|")),
    };
    let text = match how {
        Match::Exact => format!("^{one}$"),
        Match::Begin => format!("^{one}"),
        Match::End => format!("{one}$"),
        Match::Folder => format!("(?:^|/){}(?:/|$)", one.trim_matches('/')),
        Match::Domain => format!("(?:^|\\.){one}(?:\\.|$)"),
        Match::Inside | Match::Expression => one,
        Match::Found => String::new(),
    };
    pattern::checked(&text, any_case)
}

/// The ACLs that need no line.
pub(super) fn predefined(name: &str) -> Option<Criterion> {
    let method = |words: &[&str]| Some(Criterion::If("method", Yaml::texts(words.iter().copied())));
    match name {
        "TRUE" => Some(Criterion::Always(true)),
        "FALSE" => Some(Criterion::Always(false)),
        "LOCALHOST" => Some(Criterion::If("remote-addr", Yaml::texts(["127.0.0.0/8", "::1"]))),
        "METH_GET" => method(&["GET", "HEAD"]),
        "METH_HEAD" => method(&["HEAD"]),
        "METH_POST" => method(&["POST"]),
        "METH_PUT" => method(&["PUT"]),
        "METH_DELETE" => method(&["DELETE"]),
        "METH_OPTIONS" => method(&["OPTIONS"]),
        "METH_TRACE" => method(&["TRACE"]),
        "METH_CONNECT" => method(&["CONNECT"]),
        _ => None,
    }
}

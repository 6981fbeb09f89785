//! `return`, `rewrite`, and `if` with a `return` in it.

use super::{directive::Directive, variables::translated};
use crate::{
    backends::redirect,
    left::Remarks,
    output::{Entries, Line, Rule},
    pattern,
    yaml::Yaml,
};

/// The rule that a `return` is, where `regexp` finds the path.
pub(super) fn answer(directive: &Directive, regexp: Option<&str>, remarks: &mut Remarks) -> Vec<Line> {
    let (code, text) = match directive.arguments.as_slice() {
        [only] if only.parse::<u16>().is_err() => ("302", only.as_str()),
        [code] => (code.as_str(), ""),
        [code, text] => (code.as_str(), text.as_str()),
        _ => ("", ""),
    };
    let mut refused = |why: &str| {
        let comment = remarks.leave(&directive.place, "return", why);
        vec![Line::Remark(comment), Line::Rule(Rule::refusal(regexp, &format!("return {code}")))]
    };
    match code {
        code if let Some(kind) = redirect(code) => match target(text, 0, false) {
            Ok(target) => {
                let whole = regexp.map(pattern::whole);
                vec![Line::Rule(Rule::new(kind, whole.as_deref(), vec![("target", Yaml::text(target))]))]
            }
            Err(name) => refused(&format!("the variable `{name}` has no counterpart in targets")),
        },
        "403" if text.is_empty() => vec![Line::Rule(Rule::new("forbidden", regexp, Vec::new()))],
        "404" if text.is_empty() => vec![Line::Rule(Rule::new("not-found", regexp, Vec::new()))],
        "303" => refused("rules redirect with 301, 302, 307 and 308"),
        code if code.parse::<u16>().is_ok_and(|it| (400..=599).contains(&it) && it != 444) => {
            let mut entries = vec![("code", Yaml::plain(code))];
            // A message is one line, and said as it is.
            let message: String =
                text.trim().chars().map(|it| if it.is_control() { ' ' } else { it }).take(200).collect();
            if !message.is_empty() {
                entries.push(("message", Yaml::text(message)));
            }
            vec![Line::Rule(Rule::new("send-error", regexp, entries))]
        }
        "444" => refused("no rule closes the connection: `send-error` answers"),
        _ => refused("no rule answers with a text of its own and this status: let a file or an app do it"),
    }
}

/// A target of Copal's; without the request's query, but where `keep_query` or the target itself says so.
fn target(text: &str, groups: usize, keep_query: bool) -> Result<String, String> {
    let mut target = translated(text, groups)?;
    if target.is_empty() {
        return Err("nothing".to_owned());
    }
    if !target.starts_with('/')
        && !target.starts_with("http://")
        && !target.starts_with("https://")
        && !target.starts_with('$')
    {
        return Err(text.to_owned());
    }
    if target.starts_with('$')
        && !target.starts_with("$request-uri")
        && !target.starts_with("$path")
        && !target.starts_with("$scheme://")
    {
        return Err(text.to_owned());
    }
    let has_query = target.contains("$query") || target.contains("$request-uri");
    if !keep_query && !has_query && !target.ends_with('?') {
        target.push('?');
    }
    Ok(target)
}

/// The rule that a `rewrite` is. `within`: the literal path of the location around it.
pub(super) fn rewrite(directive: &Directive, within: Option<&str>, remarks: &mut Remarks) -> Vec<Line> {
    let (regexp, to, flag) = (directive.argument(0), directive.argument(1), directive.argument(2));
    let mut refused = |why: &str| vec![Line::Remark(remarks.leave(&directive.place, "rewrite", why))];
    if let Some(path) = within.filter(|it| *it != "/")
        && !regexp.starts_with(&pattern::prefix(path))
    {
        return refused(
            "its expression is not about the location's own paths alone: begin it with `^` and the location's path",
        );
    }
    let regexp = match pattern::checked(regexp, false) {
        Ok(regexp) => regexp,
        Err(why) => return refused(&why),
    };
    let groups = regexp.matches('(').count();
    let target = match target(to, groups, true) {
        Ok(target) => target,
        Err(name) => return refused(&format!("`{name}` has no counterpart in targets")),
    };
    let regexp = pattern::whole(&regexp);
    let kind = match flag {
        "permanent" => "moved-permanently",
        "redirect" => "redirect",
        _ if to.starts_with("http://") || to.starts_with("https://") || to.starts_with("$scheme") => {
            "redirect"
        }
        "last" | "" if pattern::circles(&regexp, &target) => {
            return refused(
                "`forward` begins the rules again, and this would never end: make its expression narrower",
            );
        }
        "last" | "" => "forward",
        _ => return refused("`break` changes the path for one backend: `forward` begins the rules again"),
    };
    vec![Line::Rule(Rule::new(kind, Some(&regexp), vec![("target", Yaml::text(target))]))]
}

/// The rules that an `if` is, where it is a simple one. `None`: it is none.
pub(super) fn condition(
    directive: &Directive,
    regexp: Option<&str>,
    remarks: &mut Remarks,
) -> Option<Vec<Line>> {
    let [inner] = directive.inside() else { return None };
    let conditions = conditions(&directive.arguments)?;
    if inner.name != "return" {
        return None;
    }
    let lines = answer(inner, regexp, remarks).into_iter().map(|line| match line {
        Line::Rule(rule) => Line::Rule(rule.only(&conditions)),
        remark @ Line::Remark(_) => remark,
    });
    Some(lines.collect())
}

fn conditions(words: &[String]) -> Option<Entries> {
    let joined = words.join(" ");
    let inner = joined.strip_prefix('(')?.strip_suffix(')')?.trim();
    let mut parts = inner.splitn(3, ' ');
    let (name, operator, value) = (parts.next()?.strip_prefix('$')?, parts.next()?, parts.next()?);
    let (negated, regexp) = match operator {
        "=" => (false, format!("^{}$", pattern::escape(value))),
        "!=" => (true, format!("^{}$", pattern::escape(value))),
        "~" => (false, pattern::checked(value, false).ok()?),
        "~*" => (false, pattern::checked(value, true).ok()?),
        "!~" => (true, pattern::checked(value, false).ok()?),
        _ => return None,
    };
    let named =
        |name: String| Yaml::Map(vec![("name", Yaml::text(name)), ("regexp", Yaml::text(regexp.clone()))]);
    let condition = match name {
        "host" => ("server-name", Yaml::Map(vec![("regexp", Yaml::text(regexp.clone()))])),
        "scheme" if value == "http" => ("secure", Yaml::plain(false)),
        "scheme" if value == "https" => ("secure", Yaml::plain(true)),
        "request_method" => ("method", methods(value, operator)?),
        _ if let Some(header) = name.strip_prefix("http_") => ("header", named(header.replace('_', "-"))),
        _ if let Some(cookie) = name.strip_prefix("cookie_") => ("cookie", named(cookie.to_owned())),
        _ if let Some(parameter) = name.strip_prefix("arg_") => ("query-param", named(parameter.to_owned())),
        _ => return None,
    };
    Some(if negated { vec![("not", Yaml::Map(vec![condition]))] } else { vec![condition] })
}

/// `POST`, or `^(GET|HEAD)$`.
fn methods(value: &str, operator: &str) -> Option<Yaml> {
    let bare = match operator {
        "=" | "!=" => value,
        _ => value.strip_prefix("^(")?.strip_suffix(")$")?,
    };
    let words: Vec<&str> = bare.split('|').collect();
    let known = words.iter().all(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_uppercase()));
    known.then(|| Yaml::texts(words))
}

//! Reads `if`.

use super::super::{
    condition::{Condition, FileExists, Named, ServerName},
    cron::Cron,
    decode::{Context, Fields},
    keys, names,
    network::Network,
    node::{Node, Value},
};
use super::share;

/// Reads the conditions of one mapping: all of them have to hold. `None` when one of them is wrong.
pub(super) fn decode(context: Context<'_>, node: &Node) -> Option<Condition> {
    let fields = Fields::open(context, node, &keys::IF)?;
    let entries = node.entries().unwrap_or_default();
    if entries.is_empty() {
        context.error(node.span, "an `if` without a condition: give one, or leave the `if` out");
        return None;
    }
    // An unknown key is told already; what is known is read, for the faults that are in it.
    let known = entries.iter().filter(|entry| keys::IF.known.contains(&entry.key.as_str()));
    let conditions: Vec<_> = known.map(|entry| condition(&fields, &entry.key, &entry.value)).collect();
    if conditions.len() < entries.len() {
        return None;
    }
    all(conditions)
}

/// One condition, or all of several.
fn all(conditions: Vec<Option<Condition>>) -> Option<Condition> {
    let mut conditions = conditions.into_iter().collect::<Option<Vec<_>>>()?;
    if conditions.len() == 1 { conditions.pop() } else { Some(Condition::And(conditions)) }
}

fn condition(fields: &Fields<'_>, key: &str, node: &Node) -> Option<Condition> {
    let context = fields.context;
    match key {
        "header" => {
            let mut named = named(context, node, names::header_name)?;
            named.name.make_ascii_lowercase();
            Some(Condition::Header(named))
        }
        "cookie" => named(context, node, names::cookie_name).map(Condition::Cookie),
        "query-param" => named(context, node, |_| Ok(())).map(Condition::QueryParam),
        "method" => list(context, node, |item| context.checked(item, names::method)).map(Condition::Method),
        "remote-addr" => list(context, node, |item| network(context, item)).map(Condition::RemoteAddr),
        "secure" => context.boolean(node).map(Condition::Secure),
        "server-name" => server_name(context, node).map(Condition::ServerName),
        "local-port" => list(context, node, |item| local_port(context, item)).map(Condition::LocalPort),
        "file-exists" => file_exists(context, node).map(Condition::FileExists),
        "cron" => {
            let text = context.checked(node, |text| Cron::parse(text).map(drop))?;
            Cron::parse(&text).ok().map(Condition::Cron)
        }
        "share" => share::decode(context, node).map(Condition::Share),
        "and" => several(context, node).map(Condition::And),
        "or" => several(context, node).map(Condition::Or),
        "not" => decode(context, node).map(|it| Condition::Not(Box::new(it))),
        // `import` has been taken in already.
        _ => None,
    }
}

/// Every value of a list, or the one value in its place; `None` when one of them is wrong or there is none.
fn list<T>(context: Context<'_>, node: &Node, read: impl Fn(&Node) -> Option<T>) -> Option<Vec<T>> {
    let read: Vec<_> = context.one_or_more(node).iter().map(read).collect();
    if read.is_empty() { None } else { read.into_iter().collect() }
}

fn several(context: Context<'_>, node: &Node) -> Option<Vec<Condition>> {
    match &node.value {
        Value::List(items) if !items.is_empty() => {
            let read: Vec<_> = items.iter().map(|item| decode(context, item)).collect();
            read.into_iter().collect()
        }
        _ => {
            context.error(node.span, "expected a list of conditions, each a mapping");
            None
        }
    }
}

fn named(context: Context<'_>, node: &Node, check: impl Fn(&str) -> Result<(), String>) -> Option<Named> {
    if !matches!(node.value, Value::Map(_)) {
        let name = context.checked(node, |text| check(text).and_then(|()| some(text)))?;
        return Some(Named { name, regexp: None });
    }
    let fields = Fields::open(context, node, &keys::NAMED)?;
    let name = fields.required("name", "name it");
    let name = name.and_then(|node| context.checked(node, |text| check(text).and_then(|()| some(text))));
    let regexp = fields.get("regexp").map(|node| context.regexp(node));
    // A wrong expression is not one that is absent.
    let regexp = match regexp {
        Some(regexp) => regexp?.0,
        None => None,
    };
    Some(Named { name: name?, regexp })
}

fn some(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("expected a name, found nothing".to_owned()) } else { Ok(()) }
}

fn network(context: Context<'_>, node: &Node) -> Option<Network> {
    let text =
        context.checked(node, |text| Network::parse(text).map(drop).map_err(|cause| cause.to_string()))?;
    Network::parse(&text).ok()
}

fn local_port(context: Context<'_>, node: &Node) -> Option<u16> {
    let port = context.integer(node, 1..=65_535)?;
    // A sum beyond 65535 is told where the listener stands.
    u16::try_from(port + u64::from(context.port_offset)).ok()
}

fn server_name(context: Context<'_>, node: &Node) -> Option<ServerName> {
    if matches!(node.value, Value::Map(_)) {
        let fields = Fields::open(context, node, &keys::SERVER_NAME)?;
        let regexp = fields.required("regexp", "give the expression that is searched in the host's name");
        let regexp = regexp.and_then(|node| Some((context.regexp(node)?.0, node)));
        let (regexp, node) = regexp?;
        if regexp.is_none() {
            context.error(node.span, "expected a regular expression, found nothing");
        }
        return regexp.map(ServerName::Matching);
    }
    let names = list(context, node, |item| {
        context.checked(item, |text| names::host(text).and_then(|()| some(text)))
    })?;
    let bare = |name: String| name.trim_matches(['[', ']']).to_ascii_lowercase();
    Some(ServerName::OneOf(names.into_iter().map(bare).collect()))
}

fn file_exists(context: Context<'_>, node: &Node) -> Option<FileExists> {
    let flag = |text: &str| text.parse::<bool>().ok();
    let text =
        context.checked(node, |text| if flag(text).is_some() { Ok(()) } else { names::file_path(text) })?;
    Some(flag(&text).map_or(FileExists::At(text), FileExists::Requested))
}

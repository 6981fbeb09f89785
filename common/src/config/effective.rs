//! The configuration as it is in force, as YAML for people: imports and the file's own defaults merged in, variables replaced, secrets
//! hidden. What is a secret is decided where a value is decoded as one ([`Report::secret`](super::problem::Report::secret)), beside what its
//! key or its form says; a value that has a known secret in it anywhere is hidden too.

use super::{
    decode::Context,
    layers::layered,
    node::{Entry, Node, Value},
    secrecy::{holds_secret, is_secret},
    secret_variables::is_secret_field,
    variables,
};
use serde_yaml::{Mapping, Value as Yaml};
use std::{collections::BTreeSet, path::Path};

/// What stands in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// More than this is cut, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// A shorter text is not looked for within others.
const KNOWN_MIN: usize = 6;

/// Mappings whose keys go to others.
const DEFAULTS: [&str; 4] = ["cluster-default", "server-default", "host-default", "web-app-default"];

/// The file that is `root`, which has no fault. `said`: keys of the file of which the command line says something else. `secrets`: further secrets that were read. `variables`: those of the environment that
/// secrets come from.
pub(super) fn write(
    context: Context<'_>,
    root: &Node,
    said: &[(&str, String)],
    secrets: &[&[u8]],
    variables: &BTreeSet<String>,
) -> String {
    let known = secrets.iter().map(|it| String::from_utf8_lossy(it).into_owned());
    let mut writer = Writer { known: known.filter(|it| it.len() >= KNOWN_MIN).collect(), variables };
    writer.learn(context, root);
    let mut file = writer.file(context, root);
    for (key, value) in said {
        file.insert((*key).into(), value.clone().into());
    }
    let mut text = serde_yaml::to_string(&file).unwrap_or_default();
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push_str("\n# cut: the rest is longer than is shown\n");
    }
    text
}

struct Writer<'a> {
    /// Texts that are secrets.
    known: BTreeSet<String>,
    /// Variables that secrets come from.
    variables: &'a BTreeSet<String>,
}

/// The `…-default` mappings above a mapping, the nearest first.
#[derive(Clone, Copy, Default)]
struct Above<'a> {
    file: Option<&'a Node>,
    cluster: Option<&'a Node>,
    host: Option<&'a Node>,
}

impl<'a> Above<'a> {
    /// Those of a kind.
    fn named(self, kind: &str) -> Vec<&'a Node> {
        let of = |node: Option<&'a Node>| node.and_then(|it| get(it, kind));
        [of(self.host), of(self.cluster), of(self.file)].into_iter().flatten().collect()
    }
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.entries()?.iter().find(|it| it.key == key).map(|it| &it.value)
}

fn id(context: Context<'_>, node: &Node) -> String {
    get(node, "id").and_then(|it| context.resolved(it)).unwrap_or_default()
}

fn items(node: &Node) -> &[Node] {
    if let Value::List(items) = &node.value { items } else { &[] }
}

/// `--port-offset`.
fn shift_ports(key: &Yaml, value: &mut Yaml, by: u16) {
    match value {
        Yaml::Mapping(fields) => fields.iter_mut().for_each(|(key, value)| shift_ports(key, value, by)),
        Yaml::Sequence(items) => items.iter_mut().for_each(|it| shift_ports(&Yaml::Null, it, by)),
        _ if key.as_str() == Some("port") => {
            if let Some(port) = value.as_u64() {
                *value = (port + u64::from(by)).into();
            }
        }
        _ => {}
    }
}

impl Writer<'_> {
    /// Notes the texts of values that were decoded as secrets.
    fn learn(&mut self, context: Context<'_>, node: &Node) {
        match &node.value {
            Value::Scalar { text, .. } if context.report.is_secret(node.span) => {
                let known = [context.resolved(node).unwrap_or_default(), text.clone()];
                self.known.extend(known.into_iter().filter(|it| it.len() >= KNOWN_MIN));
            }
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter().for_each(|it| self.learn(context, it)),
            Value::Map(entries) => entries.iter().for_each(|it| self.learn(context, &it.value)),
        }
    }

    fn file(&self, context: Context<'_>, root: &Node) -> Mapping {
        let default = get(root, "cluster-default");
        self.mapping(context, root, |key, value| {
            (key == "clusters").then(|| {
                let clusters = items(value).iter().map(|it| layered(it, default.as_slice()));
                clusters.map(|it| Yaml::Mapping(self.cluster(context, root, &it))).collect()
            })
        })
    }

    fn cluster(&self, context: Context<'_>, root: &Node, cluster: &Node) -> Mapping {
        let id = id(context, cluster);
        let context = context.in_cluster(&id);
        let above = Above { file: Some(root), cluster: Some(cluster), host: None };
        self.mapping(context, cluster, |key, value| match key {
            "servers" => {
                let servers = items(value).iter().map(|it| layered(it, &above.named("server-default")));
                Some(servers.map(|it| Yaml::Mapping(self.server(context, &it))).collect())
            }
            "hosts" => {
                let hosts = items(value).iter().map(|it| layered(it, &above.named("host-default")));
                Some(hosts.map(|it| Yaml::Mapping(self.host(context, above, &it))).collect())
            }
            _ => None,
        })
    }

    fn server(&self, context: Context<'_>, server: &Node) -> Mapping {
        let id = id(context, server);
        let mut mapping = self.mapping(context.in_server(&id), server, |_, _| None);
        if context.port_offset > 0 {
            mapping.iter_mut().for_each(|(key, value)| shift_ports(key, value, context.port_offset));
        }
        mapping
    }

    fn host(&self, context: Context<'_>, above: Above<'_>, host: &Node) -> Mapping {
        let above = Above { host: Some(host), ..above };
        let defaults = above.named("web-app-default");
        let mut mapping = self.mapping(context, host, |key, value| {
            (key == "web-apps").then(|| {
                let web_apps = items(value).iter().map(|it| layered(it, &defaults));
                web_apps.map(|it| self.value(context, &it, false)).collect()
            })
        });
        // Deployed apps that no web-app names go by it.
        if !defaults.is_empty() {
            let empty = Node { value: Value::Map(Vec::new()), ..host.clone() };
            let merged = layered(&empty, &defaults);
            mapping.insert("web-app-default".into(), self.value(context.alone(), &merged, false));
        }
        mapping
    }

    /// A mapping without its defaults for others; `own` writes the lists that it knows.
    fn mapping(
        &self,
        context: Context<'_>,
        node: &Node,
        own: impl Fn(&str, &Node) -> Option<Vec<Yaml>>,
    ) -> Mapping {
        let entries = node.entries().unwrap_or_default();
        let kept = entries.iter().filter(|it| !DEFAULTS.contains(&it.key.as_str()));
        let written = kept.map(|it| {
            let list = own(&it.key, &it.value).map(Yaml::Sequence);
            (it.key.clone().into(), list.unwrap_or_else(|| self.entry(context, entries, it)))
        });
        written.collect()
    }

    /// The value of an entry, by what stands beside it.
    fn entry(&self, context: Context<'_>, beside: &[Entry], entry: &Entry) -> Yaml {
        // `{name: Authorization, value: …}` of a header, `{name: token, regexp: …}` of a condition.
        let name = beside.iter().find(|it| it.key == "name");
        let field = name.is_some_and(|it| is_secret_field(&it.value));
        let of_field = field && matches!(entry.key.as_str(), "value" | "regexp");
        // `cluster-key: {file: path}` is none.
        let named = is_secret(&entry.key) && !matches!(entry.value.value, Value::Map(_));
        self.value(context, &entry.value, of_field || named)
    }

    fn value(&self, context: Context<'_>, node: &Node, is_secret: bool) -> Yaml {
        match &node.value {
            Value::Scalar { text, plain } => self.scalar(context, node, (text, *plain), is_secret),
            Value::List(items) => items.iter().map(|it| self.value(context, it, is_secret)).collect(),
            Value::Map(entries) => {
                let written =
                    entries.iter().map(|it| (it.key.clone().into(), self.entry(context, entries, it)));
                Yaml::Mapping(written.collect())
            }
        }
    }

    fn scalar(
        &self,
        context: Context<'_>,
        node: &Node,
        (text, plain): (&str, bool),
        is_secret: bool,
    ) -> Yaml {
        if node.is_null() {
            return Yaml::Null;
        }
        let found = context.resolved(node);
        // Of a text that can't be said yet, as `${server.id}` in a log's name, the variables stay.
        let shown = |text: &str| if found.is_some() { text.replace("${", "$${") } else { text.to_owned() };
        let resolved = found.clone().unwrap_or_else(|| text.to_owned());
        if is_secret || context.report.is_hidden(node.span) || self.tells(text, &resolved) {
            return HIDDEN.into();
        }
        // As the file that names it means it, wherever this text goes.
        let prefix = context.report.path_prefix(node.span);
        if let Some((prefix, path)) = prefix.and_then(|it| Some((it, resolved.strip_prefix(it)?)))
            && !path.is_empty()
        {
            let path = context.absolute(Path::new(path), node.span);
            return shown(&format!("{prefix}{}", path.to_string_lossy())).into();
        }
        // A variable has to be quoted in `{…}`, whatever it stands for.
        let plain = plain || text.contains("${");
        match resolved.as_str() {
            "true" if plain => true.into(),
            "false" if plain => false.into(),
            number if plain => number.parse().map_or_else(
                |_| shown(&resolved).into(),
                // Not `007`, which is something else.
                |it: u64| if it.to_string() == number { it.into() } else { number.into() },
            ),
            text => shown(text).into(),
        }
    }

    /// Whether a text has a secret in it, by its variables, its form, or what is known.
    fn tells(&self, text: &str, resolved: &str) -> bool {
        variables::names(text).any(|name| is_secret(name) || self.variables.contains(name))
            || holds_secret(resolved)
            || self.known.iter().any(|it| resolved.contains(it.as_str()))
    }
}

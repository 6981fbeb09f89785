//! What is set for the whole server: sizes, times, compression, the cache, the log.

use super::{
    directive::{Directive, Levels},
    reasons,
};
use crate::{
    left::Remarks,
    output::Cluster,
    value::{is_network, nginx_duration, size, size_text},
    yaml::Yaml,
};

/// What nginx takes without `client_max_body_size`.
const BODY_MAX: u64 = 1 << 20;

/// Directives that count for the whole server in Copal.
pub(super) const WHOLE: [&str; 12] = [
    "client_max_body_size",
    "client_header_timeout",
    "keepalive_timeout",
    "keepalive_requests",
    "gzip",
    "gzip_types",
    "gzip_min_length",
    "access_log",
    "set_real_ip_from",
    "proxy_cache_path",
    "send_timeout",
    "client_body_timeout",
];

/// Reads the settings of `http`, and of its servers where they say it for all.
pub(super) fn translate(http: &[Directive], remarks: &mut Remarks, cluster: &mut Cluster) {
    for directive in http {
        if let Some(why) = reasons::why(&directive.name) {
            cluster.remarks.push(remarks.leave(&directive.place, &directive.name, why));
        }
    }
    let servers: Vec<&Directive> = http.iter().filter(|it| it.name == "server").collect();
    // A single server's word is the word of all.
    let levels: Vec<&[Directive]> = match servers[..] {
        [only] => vec![only.inside(), http],
        _ => vec![http],
    };
    let levels = Levels(&levels);
    body_max(http, &servers, levels, remarks, cluster);
    let time = |name: &str| levels.get(name).and_then(|it| nginx_duration(it.argument(0)));
    cluster.server.extend(
        time("keepalive_timeout").filter(|it| it != "1ms").map(|it| ("keepalive-timeout", Yaml::plain(it))),
    );
    cluster
        .server
        .extend(time("client_header_timeout").map(|it| ("request-header-timeout", Yaml::plain(it))));
    let requests = levels.get("keepalive_requests").and_then(|it| it.argument(0).parse::<u64>().ok());
    cluster.server.extend(requests.map(|it| ("keepalive-max", Yaml::plain(it.min(1_000_000_000)))));
    trusted(http, &servers, remarks, cluster);
    compression(levels, cluster);
    cache(http, cluster);
    access_log(&servers, levels, remarks, cluster);
}

/// The limit counts for all of the server's hosts: the largest of them.
fn body_max(
    http: &[Directive],
    servers: &[&Directive],
    levels: Levels<'_>,
    remarks: &mut Remarks,
    cluster: &mut Cluster,
) {
    let read = |it: &Directive| size(it.argument(0));
    let common = levels.get("client_max_body_size").and_then(read).unwrap_or(BODY_MAX);
    let mut others = Vec::new();
    for server in servers {
        others.extend(server.inside().iter().filter(|it| it.name == "client_max_body_size"));
        let inside = server.inside().iter().filter(|it| it.name == "location").flat_map(Directive::inside);
        others.extend(inside.filter(|it| it.name == "client_max_body_size"));
    }
    let unlimited = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes };
    let largest = others
        .iter()
        .filter_map(|it| read(it))
        .map(unlimited)
        .chain([unlimited(common)])
        .max()
        .unwrap_or(common);
    let of_http = http.iter().filter(|it| it.name == "client_max_body_size");
    for directive in others.into_iter().chain(of_http) {
        if read(directive).map(unlimited) != Some(largest) {
            let why =
                "the limit of a body counts for the whole server: `body-max` is the largest of the file";
            cluster.remarks.push(remarks.leave(&directive.place, &directive.name, why));
        }
    }
    let largest = if largest == u64::MAX { 0 } else { largest };
    cluster.server.push(("body-max", Yaml::plain(size_text(largest))));
}

/// Whose word about clients is believed.
fn trusted(http: &[Directive], servers: &[&Directive], remarks: &mut Remarks, cluster: &mut Cluster) {
    let inside = servers.iter().flat_map(|it| it.inside());
    let mut networks: Vec<String> = Vec::new();
    for directive in http.iter().chain(inside).filter(|it| it.name == "set_real_ip_from") {
        let network = directive.argument(0);
        if !is_network(network) {
            cluster.remarks.push(remarks.leave(
                &directive.place,
                &directive.name,
                "`trusted-proxies` are addresses and networks",
            ));
        } else if !networks.iter().any(|it| it == network) {
            networks.push(network.to_owned());
        }
    }
    if !networks.is_empty() {
        cluster.cluster.push(("trusted-proxies", Yaml::List(networks.into_iter().map(Yaml::Text).collect())));
    }
}

fn compression(levels: Levels<'_>, cluster: &mut Cluster) {
    if !levels.get("gzip").is_some_and(|it| it.says("on")) {
        return;
    }
    let mut entries = Vec::new();
    if let Some(types) = levels.get("gzip_types") {
        let known = |it: &&String| {
            *it == "*" || it.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
        };
        let given =
            types.arguments.iter().filter(known).map(|it| if it == "*" { "*/*" } else { it.as_str() });
        let mut all = vec!["text/html"];
        all.extend(given.filter(|it| *it != "text/html"));
        entries.push(("types", Yaml::List(all.into_iter().map(Yaml::text).collect())));
    }
    let least = levels.get("gzip_min_length").and_then(|it| size(it.argument(0))).unwrap_or(20);
    entries.push(("min-size", Yaml::plain(least)));
    entries.push(("encodings", Yaml::List(vec![Yaml::text("gzip")])));
    cluster.cluster.push(("compression", Yaml::Map(entries)));
}

/// nginx keeps bodies on disk and keys in memory; in Copal memory is the first of two tiers.
fn cache(http: &[Directive], cluster: &mut Cluster) {
    let Some(path) = http.iter().find(|it| it.name == "proxy_cache_path") else { return };
    let mut entries = Vec::new();
    let most = path.arguments.iter().find_map(|it| it.strip_prefix("max_size=")).and_then(size);
    if let Some(most) = most.filter(|it| *it >= 16 << 20) {
        entries.push(("disk-size", Yaml::plain(size_text(most))));
        entries.push(("path", Yaml::text(path.argument(0))));
    } else {
        entries.push(("enable", Yaml::plain(true)));
    }
    cluster.cluster.push(("proxy-cache", Yaml::Map(entries)));
}

fn access_log(servers: &[&Directive], levels: Levels<'_>, remarks: &mut Remarks, cluster: &mut Cluster) {
    let mut all: Vec<&Directive> = levels.all("access_log");
    for server in servers {
        all.extend(server.inside().iter().filter(|it| it.name == "access_log"));
    }
    all.dedup_by_key(|it| (it.place.number, it.place.line));
    let mut chosen: Option<&str> = None;
    for directive in all {
        let path = directive.argument(0);
        if path == "off" {
            continue;
        }
        if path.contains(':') || path.contains('$') {
            cluster.remarks.push(remarks.leave(
                &directive.place,
                "access_log",
                "the log is a file: `access-log` has its path",
            ));
        } else if chosen.is_some_and(|it| it != path) {
            cluster.remarks.push(remarks.leave(
                &directive.place,
                "access_log",
                "there is one log for all hosts: the format `json` names the host",
            ));
        } else if chosen.is_none() {
            chosen = Some(path);
            if !matches!(directive.argument(1), "" | "combined" | "main") {
                let why = "`combined` stands in its place: write a `format` of your own (access-log.md)";
                cluster.remarks.push(remarks.leave(&directive.place, "access_log", why));
            }
        }
    }
    if let Some(path) = chosen {
        cluster.cluster.push(("access-log", Yaml::Map(vec![("path", Yaml::text(path))])));
    }
}

//! `server`: listeners, names, and which of the servers answers for a name at a port.

use super::{
    access,
    directive::{Directive, Levels},
    location::{Around, Kind, Location, Rules},
    proxy::{Proxy, answer_headers},
    reasons, rewrite,
    settings::WHOLE,
    upstream::Upstreams,
};
use crate::{
    left::{Remarks, TOO_MUCH},
    listeners::Listener,
    output::{Cluster, Host, Line, Rule},
    pattern,
    value::host_port,
    yaml::Yaml,
};
use std::collections::{BTreeMap, BTreeSet};

/// A host, and the servers that are its, each with the ports that it is its at.
type Site = (Host, Vec<(usize, Vec<u16>)>);

/// More hosts are not made.
const HOSTS_MAX: usize = 10_000;

#[derive(Debug)]
struct Server<'a> {
    directive: &'a Directive,
    /// Ports, and whether it is the default there.
    ports: BTreeMap<u16, bool>,
    names: Vec<Name>,
}

/// A name of a server, in the order in which nginx looks for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Exact(String),
    /// An expression; the longest of these is asked first.
    Wildcard(std::cmp::Reverse<usize>, String),
    Expression(usize, String),
}

/// Adds all servers.
pub(super) fn translate(
    http: &[Directive],
    upstreams: &Upstreams,
    remarks: &mut Remarks,
    cluster: &mut Cluster,
) {
    let servers: Vec<Server<'_>> = http
        .iter()
        .filter(|it| it.name == "server")
        .enumerate()
        .map(|(at, directive)| Server {
            directive,
            ports: ports(directive, http, remarks, cluster),
            names: names(directive, at, remarks, cluster),
        })
        .collect();
    let proxy = Proxy { upstreams, has_cache: http.iter().any(|it| it.name == "proxy_cache_path") };
    let rules: Vec<Rules> = servers.iter().map(|it| rules(it.directive, http, proxy, remarks)).collect();
    let all: BTreeSet<&Name> = servers.iter().flat_map(|it| &it.names).collect();
    let ports = cluster.listeners.ports();
    let default = choice(&servers, &ports, None);
    let mut sites: Vec<Site> = vec![(Host::default(), default.clone())];
    for name in all.into_iter().take(HOSTS_MAX) {
        let chosen = choice(&servers, &ports, Some(name));
        match name {
            // What no name takes is the default's.
            _ if chosen == default && !has_expressions(&servers) => {}
            Name::Exact(name) => {
                match sites.iter_mut().find(|(host, it)| *it == chosen && !host.names.is_empty()) {
                    Some((host, _)) => host.names.push(name.clone()),
                    None => sites.push((Host { names: vec![name.clone()], ..Host::default() }, chosen)),
                }
            }
            Name::Wildcard(_, regexp) | Name::Expression(_, regexp) => {
                sites.push((Host { regexp: Some(regexp.clone()), ..Host::default() }, chosen));
            }
        }
    }
    sites.rotate_left(1);
    for (mut host, chosen) in sites {
        let lines = chosen.iter().map(|(at, _)| rules[*at].size()).sum();
        if remarks.takes(lines) {
            fill(&mut host, &chosen, &rules, ports.len());
        } else {
            let first = chosen.first().map(|(at, _)| &servers[*at].directive.place);
            host.lines.extend(first.map(|it| Line::Remark(remarks.leave(it, "server", TOO_MUCH))));
            host.lines.push(Line::Rule(Rule::refusal(None, "server")));
        }
        cluster.hosts.push(host);
    }
}

fn has_expressions(servers: &[Server<'_>]) -> bool {
    servers.iter().flat_map(|it| &it.names).any(|it| !matches!(it, Name::Exact(_)))
}

/// Which server answers for a name, and at which ports.
fn choice(servers: &[Server<'_>], ports: &[u16], name: Option<&Name>) -> Vec<(usize, Vec<u16>)> {
    let mut chosen: Vec<(usize, Vec<u16>)> = Vec::new();
    for port in ports {
        let here = |it: &&(usize, &Server<'_>)| it.1.ports.contains_key(port);
        let all: Vec<_> = servers.iter().enumerate().collect();
        let named = all.iter().filter(here).find(|it| name.is_some_and(|name| it.1.names.contains(name)));
        let default = || all.iter().filter(here).find(|it| it.1.ports[port]);
        let Some((at, _)) = named.or_else(default).or_else(|| all.iter().find(here)) else { continue };
        match chosen.iter_mut().find(|(known, _)| known == at) {
            Some((_, ports)) => ports.push(*port),
            None => chosen.push((*at, vec![*port])),
        }
    }
    chosen
}

/// Puts the rules of the servers into a host, each for its ports.
fn fill(host: &mut Host, chosen: &[(usize, Vec<u16>)], rules: &[Rules], ports: usize) {
    for (at, own) in chosen {
        let here = if own.len() == ports {
            Vec::new()
        } else {
            let list: Vec<Yaml> = own.iter().map(Yaml::plain).collect();
            let one = list.first().cloned().filter(|_| list.len() == 1);
            vec![("local-port", one.unwrap_or(Yaml::List(list)))]
        };
        for line in &rules[*at].lines {
            host.lines.push(match line {
                Line::Rule(rule) => Line::Rule(rule.clone().only(&here)),
                remark @ Line::Remark(_) => remark.clone(),
            });
        }
        for (path, folder) in &rules[*at].web_apps {
            if !host.web_apps.iter().any(|(known, _)| known == path) {
                host.web_apps.push((path.clone(), folder.clone()));
            }
        }
    }
    if host.lines.iter().all(|it| matches!(it, Line::Remark(_))) {
        host.lines.push(Line::Rule(Rule::new("not-found", None, Vec::new())));
    }
}

/// `listen` and the certificates.
fn ports(
    server: &Directive,
    http: &[Directive],
    remarks: &mut Remarks,
    cluster: &mut Cluster,
) -> BTreeMap<u16, bool> {
    let levels = [server.inside(), http];
    let levels = Levels(&levels);
    let certificates: Vec<(String, String)> = levels
        .all("ssl_certificate")
        .iter()
        .zip(levels.all("ssl_certificate_key"))
        .map(|(cert, key)| (cert.argument(0).to_owned(), key.argument(0).to_owned()))
        .collect();
    let trusts = cluster.cluster.iter().any(|(key, _)| *key == "trusted-proxies");
    let listens: Vec<&Directive> = server.inside().iter().filter(|it| it.name == "listen").collect();
    let mut ports = BTreeMap::new();
    let mut quic = Vec::new();
    for directive in listens.iter().copied() {
        let mut leave = |why: &str| cluster.remarks.push(remarks.leave(&directive.place, "listen", why));
        let Some((addresses, port)) = addresses(directive, 80) else {
            leave("listeners are addresses and ports of TCP");
            continue;
        };
        if directive.says("quic") {
            quic.push((directive, addresses, port));
            continue;
        }
        let tls = directive.says("ssl");
        let mut own = certificates.clone();
        if tls && own.is_empty() {
            leave("it has no `ssl_certificate`: the listener is left out");
            continue;
        }
        if !tls {
            own.clear();
        }
        let proxy_protocol = directive.says("proxy_protocol");
        if proxy_protocol && !trusts {
            leave("`proxy-protocol` needs to know whom to believe: say `set_real_ip_from`");
        }
        let default = directive.says("default_server");
        for address in addresses {
            let listener = Listener {
                address,
                port,
                tls,
                certificates: own.clone(),
                proxy_protocol: proxy_protocol && trusts,
                h2c: directive.says("http2") && !tls,
                http3: false,
            };
            match cluster.listen(listener, default) {
                Ok(()) => *ports.entry(port).or_insert(false) |= default,
                Err(why) => cluster.remarks.push(remarks.leave(&directive.place, "listen", why)),
            }
        }
    }
    http3(quic, remarks, cluster);
    if listens.is_empty() {
        // It listens at port 80.
        match cluster.listen(Listener { port: 80, ..Listener::default() }, false) {
            Ok(()) => _ = ports.insert(80, false),
            Err(why) => cluster.remarks.push(remarks.leave(&server.place, "server", why)),
        }
    }
    ports
}

/// A `listen`, its addresses and its port.
type Listen<'a> = (&'a Directive, Vec<Option<String>>, u16);

/// `listen … quic`, beside a listener with TLS.
fn http3(quic: Vec<Listen<'_>>, remarks: &mut Remarks, cluster: &mut Cluster) {
    for (directive, addresses, port) in quic {
        if !addresses.iter().all(|it| cluster.listeners.speak_http3(it.as_deref(), port)) {
            let why = "HTTP/3 is beside HTTPS at the same port: write `http3: true` at a listener with `tls`";
            cluster.remarks.push(remarks.leave(&directive.place, "listen", why));
        }
    }
}

/// The addresses of a `listen`, and its port. `None` among them: all of IPv4.
pub(super) fn addresses(listen: &Directive, default: u16) -> Option<(Vec<Option<String>>, u16)> {
    let (address, port) = host_port(listen.argument(0), default)?;
    // `[::]` without a partner is IPv6 alone, as here.
    let four = address.as_deref() == Some("::") && listen.says("ipv6only=off");
    let address = address.filter(|it| it != "0.0.0.0");
    Some((if four { vec![None, address] } else { vec![address] }, port))
}

fn names(server: &Directive, at: usize, remarks: &mut Remarks, cluster: &mut Cluster) -> Vec<Name> {
    let mut names = Vec::new();
    for directive in server.inside().iter().filter(|it| it.name == "server_name") {
        for word in &directive.arguments {
            let lower = word.to_ascii_lowercase();
            let is_name = |text: &str| {
                text.contains(|it: char| it.is_ascii_alphanumeric())
                    && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-'))
                    && !text.starts_with('.')
                    && !text.contains("..")
            };
            let wildcard = |regexp: String| Name::Wildcard(std::cmp::Reverse(word.len()), regexp);
            if let Some(regexp) = word.strip_prefix('~') {
                match pattern::checked(regexp, true) {
                    Ok(regexp) => names.push(Name::Expression(at, regexp)),
                    Err(why) => cluster.remarks.push(remarks.leave(&directive.place, "server_name", why)),
                }
            } else if let Some(domain) = lower.strip_prefix("*.").filter(|it| is_name(it)) {
                names.push(wildcard(format!("^.+\\.{}$", pattern::escape(domain))));
            } else if let Some(domain) = lower.strip_prefix('.').filter(|it| is_name(it)) {
                names.push(Name::Exact(domain.to_owned()));
                names.push(wildcard(format!("^.+\\.{}$", pattern::escape(domain))));
            } else if let Some(start) = lower.strip_suffix(".*").filter(|it| is_name(it)) {
                names.push(wildcard(format!("^{}\\..+$", pattern::escape(start))));
            } else if is_name(&lower) {
                names.push(Name::Exact(lower));
            } else if !matches!(word.as_str(), "" | "_") {
                let why = "this is no name of a host";
                cluster.remarks.push(remarks.leave(&directive.place, "server_name", why));
            }
        }
    }
    names
}

/// The rules of a server.
fn rules(server: &Directive, http: &[Directive], proxy: Proxy<'_>, remarks: &mut Remarks) -> Rules {
    let inside = server.inside();
    let levels = [inside, http];
    let locations = locations(server, remarks);
    let root_location = locations
        .iter()
        .filter_map(|it| it.as_ref().ok())
        .find(|it| it.path == "/" && it.kind == Kind::Prefix);
    let own = |directives: &[Directive]| {
        directives.iter().rfind(|it| it.name == "root").map(|it| it.argument(0).to_owned())
    };
    let root = Levels(&levels).get("root").map(|it| it.argument(0).to_owned());
    let root = root.or_else(|| own(root_location?.directive.inside()));
    let mut rules = Rules::default();
    rules.web_apps.extend(root.clone().map(|it| (String::new(), it)));
    if rules.guarded(inside, None, remarks) || rules.guarded(http, None, remarks) {
        return rules;
    }
    for directive in inside {
        match directive.name.as_str() {
            "if" => rules.condition(directive, None, remarks),
            "rewrite" => rules.lines.extend(rewrite::rewrite(directive, None, remarks)),
            "return" => {
                rules.lines.extend(rewrite::answer(directive, None, remarks));
                return rules;
            }
            name if WHOLE.contains(&name) => {}
            name => {
                if let Some(why) = reasons::why(name) {
                    rules.remark(remarks.leave(&directive.place, name, why));
                }
            }
        }
    }
    let has_root_location = root_location.is_some();
    let around = Around { server, http, proxy, root: root.as_deref() };
    with_slash(&locations, &mut rules);
    for location in &locations {
        match location {
            Ok(location) => rules.location(location, around, remarks),
            Err(comment) => rules.remark(comment.clone()),
        }
    }
    if !has_root_location {
        let levels = Levels(&levels);
        rules.lines.extend(access::rules(levels, None, remarks));
        rules.lines.extend(answer_headers(levels, None, remarks));
        rules.rule(if root.is_some() { "dispatch" } else { "not-found" }, None);
    }
    rules
}

/// Without the slash at the end of a location that goes to a backend nginx redirects to it, unless another location says more.
fn with_slash(locations: &[Result<Location<'_>, String>], rules: &mut Rules) {
    let known: Vec<&Location<'_>> = locations.iter().filter_map(|it| it.as_ref().ok()).collect();
    for location in &known {
        let Some(bare) = location.path.strip_suffix('/').filter(|it| !it.is_empty()) else { continue };
        let literal = matches!(location.kind, Kind::Prefix | Kind::First);
        let passes = location.directive.inside().iter().any(|it| it.name.ends_with("_pass"));
        if literal && passes && !known.iter().any(|it| it.kind != Kind::Expression && it.path == bare) {
            let exact = format!("{}$", pattern::prefix(bare));
            let target = vec![("target", Yaml::text(location.path.replace('$', "$$")))];
            rules.lines.push(Line::Rule(Rule::new("moved-permanently", Some(&exact), target)));
        }
    }
}

/// The locations in the order in which the first that fits is nginx's choice, and comments for those that can't be said.
fn locations<'a>(server: &'a Directive, remarks: &mut Remarks) -> Vec<Result<Location<'a>, String>> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for directive in
        server.inside().iter().filter(|it| it.name == "location" && !it.argument(0).starts_with('@'))
    {
        match Location::of(directive) {
            Ok(location) => found.push(location),
            Err(why) => left.push(Err(remarks.leave(&directive.place, "location", why))),
        }
    }
    let expressions = found.iter().any(|it| it.kind == Kind::Expression);
    let first: Vec<&str> = found.iter().filter(|it| it.kind == Kind::First).map(|it| it.path).collect();
    let within = |path: &str| first.iter().any(|it| path.starts_with(it) && path.len() > it.len());
    let mut rank = BTreeMap::new();
    for location in &found {
        let inner = location.kind == Kind::Prefix && within(location.path);
        if inner && expressions {
            let why = "it lies in a `^~` location: nginx would ask the expressions before it, which are not asked here";
            left.push(Err(remarks.leave(&location.directive.place, "location", why)));
        }
        let order = match location.kind {
            Kind::Exact => 0,
            Kind::First => 1,
            Kind::Prefix if inner => 1,
            Kind::Expression => 2,
            Kind::Prefix => 3,
        };
        rank.insert(
            (location.directive.place.number, location.directive.place.line, location.directive.place.column),
            order,
        );
    }
    found.sort_by_key(|it| {
        let place = &it.directive.place;
        let order = rank[&(place.number, place.line, place.column)];
        let length = if order == 2 { 0 } else { it.path.len() };
        (order, std::cmp::Reverse(length))
    });
    left.into_iter().chain(found.into_iter().map(Ok)).collect()
}

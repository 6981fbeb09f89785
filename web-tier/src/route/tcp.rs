//! Whither the connections of a `tcp-proxy` listener go: by the name and the protocols in a client's ClientHello, or without them.

use crate::{
    limit::{ConnectionTable, LimitTables, RateTable},
    upstream::Upstream,
};
use common::{
    cidr::CidrSet,
    config::{HttpProxy, TcpListener, TcpRoute},
};
use std::{collections::HashMap, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

/// One listener, as a worker goes by it.
#[derive(Debug)]
pub(crate) struct TcpService {
    /// `address:port`, as the file has them.
    pub(crate) name: Box<str>,
    allow: Option<CidrSet>,
    deny: CidrSet,
    pub(crate) rates: Vec<Arc<RateTable>>,
    pub(crate) connections: Vec<Arc<ConnectionTable>>,
    pub(crate) client_hello_timeout: Duration,
    names: Names,
    default: Option<Target>,
}

/// Where the backends of a route are among a worker's foreign upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target(usize);

impl Target {
    /// Its backends.
    pub(crate) fn upstream(self, foreign: &[Rc<Upstream>]) -> &Rc<Upstream> {
        &foreign[self.0]
    }
}

/// What a client says in its ClientHello.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The name of the server, in lower case, if it says one.
    pub(crate) name: Option<&'a str>,
    /// The protocols that it offers (ALPN, RFC 7301).
    pub(crate) alpn: &'a [Box<[u8]>],
}

/// The routes of a listener by their names.
#[derive(Debug, Default)]
struct Names {
    routes: Vec<Route>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what stands behind `*.`.
    below: HashMap<Box<str>, Vec<usize>>,
    /// Those without a name.
    any: Vec<usize>,
}

#[derive(Debug)]
struct Route {
    alpn: Vec<Box<[u8]>>,
    target: Target,
}

impl TcpService {
    /// A listener of the file. What its connections go to gets a place in `foreign`, behind the first ones, `of_http`.
    pub(crate) fn new<'a>(
        config: &'a TcpListener,
        (foreign, of_http): (&mut Vec<&'a HttpProxy>, usize),
        limits: &LimitTables,
    ) -> Self {
        let mut place = |servers: &'a HttpProxy| {
            let known = foreign[of_http..].iter().position(|it| *it == servers);
            Target(known.map_or_else(
                || {
                    foreign.push(servers);
                    foreign.len() - 1
                },
                |at| of_http + at,
            ))
        };
        let mut names = Names::default();
        for route in &config.routes {
            names.add(route, place(&route.servers));
        }
        let allow = (!config.allow.is_empty()).then(|| config.allow.iter().copied().collect());
        Self {
            name: config.name().into(),
            allow,
            deny: config.deny.iter().copied().collect(),
            rates: config.rate_limits.iter().filter_map(|it| limits.rate(it).cloned()).collect(),
            connections: config
                .connection_limits
                .iter()
                .filter_map(|it| limits.connection(it).cloned())
                .collect(),
            client_hello_timeout: config.client_hello_timeout,
            names,
            default: config.default.as_ref().map(place),
        }
    }

    /// Whether `deny` and `allow` let a client in.
    pub(crate) fn lets_in(&self, client: IpAddr) -> bool {
        !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }

    /// Whether it matters how a connection begins.
    pub(crate) fn reads_client_hello(&self) -> bool {
        !self.names.routes.is_empty()
    }

    /// Where connections go that no route takes, or that do not speak TLS.
    pub(crate) fn default(&self) -> Option<Target> {
        self.default
    }

    /// Where one goes that begins with a ClientHello: by its whole name, by the longest `*.` that it is below, by routes without a
    /// name, else by default; among routes of one name the first counts that has a protocol of the client's, or names none.
    pub(crate) fn choose(&self, asked: Asked<'_>) -> Option<Target> {
        self.names.choose(asked).or(self.default)
    }
}

impl Names {
    fn add(&mut self, route: &TcpRoute, target: Target) {
        let place = self.routes.len();
        for name in &route.server_names {
            let (names, name) = match name.strip_prefix("*.") {
                Some(below) => (&mut self.below, below),
                None => (&mut self.exact, name.as_str()),
            };
            names.entry(name.into()).or_default().push(place);
        }
        if route.server_names.is_empty() {
            self.any.push(place);
        }
        let alpn = route.alpn.iter().map(|it| it.as_bytes().into()).collect();
        self.routes.push(Route { alpn, target });
    }

    fn choose(&self, asked: Asked<'_>) -> Option<Target> {
        let fits = |place: &&usize| {
            let alpn = &self.routes[**place].alpn;
            alpn.is_empty() || alpn.iter().any(|it| asked.alpn.contains(it))
        };
        let first = |places: &Vec<usize>| places.iter().find(fits).copied();
        let named = asked.name.and_then(|name| {
            let below = || {
                let dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
                dots.filter_map(|rest| self.below.get(rest)).find_map(first)
            };
            self.exact.get(name).and_then(first).or_else(below)
        });
        named.or_else(|| first(&self.any)).map(|place| self.routes[place].target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Backend, BackendAddress, BackendProtocol};

    fn servers(host: &str) -> HttpProxy {
        let backend = Backend {
            at: BackendAddress::Host { host: host.to_owned(), port: 443 },
            protocol: BackendProtocol::Tcp,
            tls: false,
            weight: 100,
            backup: false,
        };
        HttpProxy { backends: vec![backend], ..HttpProxy::default() }
    }

    fn route(names: &[&str], alpn: &[&str], host: &str) -> TcpRoute {
        let texts = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect();
        TcpRoute { server_names: texts(names), alpn: texts(alpn), servers: servers(host) }
    }

    fn listener(routes: Vec<TcpRoute>, default: Option<&str>) -> TcpListener {
        TcpListener {
            address: "::".to_owned(),
            port: 443,
            proxy_protocol: false,
            allow: Vec::new(),
            deny: Vec::new(),
            rate_limits: Vec::new(),
            connection_limits: Vec::new(),
            client_hello_timeout: Duration::from_secs(5),
            routes,
            default: default.map(servers),
        }
    }

    /// Whose host a client gets.
    fn chosen(listener: &TcpListener, name: &str, alpn: &[&str]) -> Option<String> {
        let mut foreign = Vec::new();
        let service = TcpService::new(listener, (&mut foreign, 0), &LimitTables::default());
        let alpn: Vec<Box<[u8]>> = alpn.iter().map(|it| it.as_bytes().into()).collect();
        let asked = Asked { name: Some(name).filter(|it| !it.is_empty()), alpn: &alpn };
        let name = foreign[service.choose(asked)?.0].backends[0].name();
        name.strip_suffix(":443").map(str::to_owned)
    }

    #[test]
    fn the_most_precise_name_wins_wherever_it_stands() {
        let listener = listener(
            vec![
                route(&["*.example.org"], &[], "below"),
                route(&["*.db.example.org", "db.example.org"], &[], "db"),
                route(&["a.example.org"], &[], "a"),
            ],
            Some("default"),
        );
        for (name, host) in [
            ("a.example.org", "a"),
            ("b.example.org", "below"),
            ("b.a.example.org", "below"),
            ("db.example.org", "db"),
            ("one.db.example.org", "db"),
            ("example.org", "default"),
            ("notexample.org", "default"),
            ("org", "default"),
            (".", "default"),
            ("", "default"),
        ] {
            assert_eq!(chosen(&listener, name, &[]).as_deref(), Some(host), "{name}");
        }
    }

    #[test]
    fn a_route_for_a_protocol_takes_those_who_offer_it_and_leaves_the_others() {
        let listener = listener(
            vec![
                route(&["a.test"], &["xmpp-client", "h2"], "both"),
                route(&["a.test"], &[], "a"),
                route(&["*.test"], &["acme-tls/1"], "acme"),
                route(&[], &["acme-tls/1"], "any-acme"),
            ],
            None,
        );
        assert_eq!(chosen(&listener, "a.test", &["http/1.1", "h2"]).as_deref(), Some("both"));
        assert_eq!(chosen(&listener, "a.test", &["http/1.1"]).as_deref(), Some("a"));
        assert_eq!(chosen(&listener, "b.test", &["acme-tls/1"]).as_deref(), Some("acme"));
        assert_eq!(chosen(&listener, "c.other", &["acme-tls/1"]).as_deref(), Some("any-acme"));
        assert_eq!(chosen(&listener, "b.test", &["h2"]), None);
        assert_eq!(chosen(&listener, "", &[]), None);
    }

    #[test]
    fn routes_with_the_same_servers_share_their_place_and_deny_wins() {
        let mut config = listener(vec![route(&["a"], &[], "x"), route(&["b"], &[], "x")], Some("x"));
        config.allow = vec!["10.0.0.0/8".parse().unwrap()];
        config.deny = vec!["10.1.0.0/16".parse().unwrap()];
        let http = servers("http");
        let mut foreign = vec![&http];
        let service = TcpService::new(&config, (&mut foreign, 1), &LimitTables::default());
        assert_eq!((foreign.len(), service.default()), (2, Some(Target(1))));
        assert_eq!(&*service.name, "[::]:443");
        let lets_in = |text: &str| service.lets_in(text.parse().unwrap());
        assert!(lets_in("10.2.0.1") && !lets_in("10.1.0.1") && !lets_in("192.0.2.1"));
    }
}

//! What must hold between the parts of a file: names that are unique or exist, sockets that don't collide, clusters that
//! can answer, addresses that need a key.

use super::{
    address::{canonical, collide, is_loopback, is_wildcard},
    decode::Context,
    keys::nearest,
    model::Host,
    names::is_host_name,
    source::Span,
};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// How many names that do not exist are told with those that do.
const HINTS_MAX: usize = 100;

/// What was seen while the file was read, with places.
#[derive(Debug, Default)]
pub(super) struct Facts {
    clusters: Vec<ClusterFact>,
    /// Each cluster's place in `clusters`.
    known_clusters: HashMap<String, usize>,
    /// Servers in file order.
    servers: Vec<String>,
    known_servers: HashSet<String>,
    /// The names of the hosts of the cluster that is being read.
    hosts: HashSet<String>,
    sockets: Vec<Socket>,
    balances: Vec<(String, Span)>,
    /// How many limits without a name there have been.
    unnamed_limits: usize,
    /// Addresses that others than this machine can reach.
    open_addresses: Vec<(String, Span)>,
}

#[derive(Debug)]
struct ClusterFact {
    id: String,
    span: Span,
    listens: bool,
    has_web_apps: bool,
    has_dispatch: bool,
}

/// A server as the checks see it.
#[derive(Debug)]
pub(super) struct Listening<'a> {
    pub(super) id: &'a str,
    pub(super) id_span: Span,
    /// None when it was wrong.
    pub(super) address: Option<&'a str>,
    pub(super) address_span: Span,
    /// None when it was wrong.
    pub(super) port: Option<(u16, Span)>,
    /// Whether it has listeners of HTTP.
    pub(super) http: bool,
    /// Address, port and place of each public listener.
    pub(super) public: Vec<(&'a str, u16, Span)>,
    /// The same of the listener for metrics.
    pub(super) metrics: Option<(&'a str, u16, Span)>,
}

#[derive(Debug)]
struct Socket {
    server: String,
    /// The machine, as far as the file tells.
    machine: String,
    address: String,
    port: u16,
    span: Span,
}

impl Facts {
    /// The name of a limit that has none of its own: each rule counts by itself.
    pub(super) fn name_of_limit(&mut self, kind: &str) -> String {
        self.unnamed_limits += 1;
        match self.unnamed_limits {
            1 => kind.to_owned(),
            more => format!("{kind}-{more}"),
        }
    }

    /// A cluster begins.
    pub(super) fn cluster(&mut self, context: Context<'_>, id: &str, span: Span) {
        if !id.is_empty() && self.known_clusters.insert(id.to_owned(), self.clusters.len()).is_some() {
            context.error(span, format!("the cluster id `{id}` is used twice"));
        }
        self.hosts.clear();
        self.clusters.push(ClusterFact {
            id: id.to_owned(),
            span,
            listens: false,
            has_web_apps: false,
            has_dispatch: false,
        });
    }

    /// A server of the cluster that is being read.
    pub(super) fn server(&mut self, context: Context<'_>, it: Listening<'_>) {
        if !it.id.is_empty() {
            if !self.known_servers.insert(it.id.to_owned()) {
                context.error(
                    it.id_span,
                    format!("the server id `{}` is used twice: it must be unique in the file", it.id),
                );
            }
            self.servers.push(it.id.to_owned());
        }
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.listens |= it.http;
        }
        let Some(address) = it.address else { return };
        if !is_loopback(address) {
            self.open_addresses.push((address.to_owned(), it.address_span));
        }
        let machine = if is_loopback(address) { "localhost".to_owned() } else { address.to_lowercase() };
        let mut add = |address: &str, port, span| {
            let (server, machine) = (it.id.to_owned(), machine.clone());
            self.sockets.push(Socket { server, machine, address: canonical(address), port, span });
        };
        if let Some((port, span)) = it.port {
            add(address, port, span);
        }
        it.public.into_iter().chain(it.metrics).for_each(|(address, port, span)| add(address, port, span));
    }

    /// A host's name or alias in the cluster that is being read.
    pub(super) fn host_name(&mut self, context: Context<'_>, name: &str, span: Span) {
        if !self.hosts.insert(name.to_lowercase()) {
            let what = if name.is_empty() {
                "the default host (\"\")".to_owned()
            } else {
                format!("the host `{name}`")
            };
            context.error(span, format!("{what} stands twice in this cluster"));
        }
    }

    /// A rule that sends requests to a cluster.
    pub(super) fn balance(&mut self, cluster: &str, span: Span) {
        self.balances.push((cluster.to_owned(), span));
    }

    /// A rule, good or not, of the cluster that is being read.
    pub(super) fn rule(&mut self) {
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.has_dispatch = true;
        }
    }

    /// A cluster has been read.
    pub(super) fn end_cluster(&mut self, hosts: &[Host]) {
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.has_web_apps |= hosts.iter().any(|host| !host.web_apps.is_empty());
        }
    }

    /// Where the cluster `id` stands.
    pub(super) fn cluster_span(&self, id: &str) -> Option<Span> {
        self.known_clusters.get(id).map(|at| self.clusters[*at].span)
    }

    /// The servers of the file, in order.
    pub(super) fn server_ids(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(String::as_str)
    }

    /// What is said of a server that the file does not have.
    pub(super) fn no_such_server(&self, id: &str) -> String {
        missing("server", id, self.server_ids())
    }

    /// Whether an address can be reached from other machines.
    pub(super) fn is_open(&self) -> bool {
        !self.open_addresses.is_empty()
    }

    /// Tells of ids that no certificate can bear: it names hosts (RFC 5280 §4.2.1.6), which are compared without case.
    pub(super) fn check_certificate_names(&self, context: Context<'_>, span: Span) {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for id in &self.servers {
            if let Some(other) = seen.insert(id.to_lowercase(), id) {
                let message = format!(
                    "the servers `{other}` and `{id}` have the same name in certificates, which know no case"
                );
                context.error(span, message);
            }
            if !is_host_name(id) && id.parse::<IpAddr>().is_err() {
                let message = format!(
                    "no certificate bears the name of the server `{id}`: with `cluster-tls` an id is a host name, labels of 1 to \
                     63 characters that neither begin nor end with `-`, with dots between"
                );
                context.error(span, message);
            }
        }
    }

    /// Checks what needs the whole file.
    pub(super) fn check(&self, context: Context<'_>, has_key: bool) {
        self.check_sockets(context);
        self.check_balances(context);
        self.check_use(context);
        if let (false, Some((address, span))) = (has_key, self.open_addresses.first()) {
            let more = match self.open_addresses.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let message = format!(
                "`{address}`{more} is not a loopback address and there is no `cluster-key`: anyone who reaches its port \
                 could read and write every session; add `cluster-key: ${{COPAL_CLUSTER_KEY}}`"
            );
            context.error(*span, message);
        }
    }

    fn check_sockets(&self, context: Context<'_>) {
        let mut by_port: HashMap<(&str, u16), Vec<&Socket>> = HashMap::new();
        let mut anywhere: HashMap<(&str, u16), &Socket> = HashMap::new();
        for socket in &self.sockets {
            let neighbours = by_port.entry((&socket.machine, socket.port)).or_default();
            let same_machine = neighbours.iter().find(|other| collide(&socket.address, &other.address));
            let specific = !is_wildcard(&socket.address) && !is_loopback(&socket.address);
            let same_address = anywhere.get(&(socket.address.as_str(), socket.port)).filter(|_| specific);
            if let Some(other) = same_machine.or(same_address) {
                let message = format!(
                    "port {} at {} of the server `{}` is taken by the server `{}`{}",
                    socket.port,
                    socket.address,
                    socket.server,
                    other.server,
                    if other.span.line == 0 { String::new() } else { format!(" (line {})", other.span.line) }
                );
                context.error(socket.span, message);
            }
            neighbours.push(socket);
            anywhere.entry((&socket.address, socket.port)).or_insert(socket);
        }
    }

    fn check_balances(&self, context: Context<'_>) {
        let mut dangling = 0;
        for (target, span) in &self.balances {
            match self.known_clusters.get(target).map(|at| &self.clusters[*at]) {
                None => {
                    // Near names are looked for as often as somebody reads them.
                    dangling += 1;
                    let known = if dangling > HINTS_MAX { &[] } else { self.clusters.as_slice() };
                    context.error(*span, missing("cluster", target, known.iter().map(|it| it.id.as_str())));
                }
                Some(cluster) if !cluster.has_web_apps => context.report.warning(
                    *span,
                    format!(
                        "the cluster `{target}` has no web-apps: every request sent to it is answered 404"
                    ),
                ),
                Some(_) => {}
            }
        }
    }

    fn check_use(&self, context: Context<'_>) {
        let reached: HashSet<&str> = self.balances.iter().map(|(target, _)| target.as_str()).collect();
        for cluster in self.clusters.iter().filter(|cluster| !cluster.id.is_empty()) {
            let id = &cluster.id;
            if cluster.listens && !cluster.has_web_apps && !cluster.has_dispatch {
                let message = format!(
                    "the cluster `{id}` listens on http and answers nothing: give it `hosts` with `dispatch` or `web-apps`"
                );
                context.error(cluster.span, message);
            } else if cluster.has_dispatch && !cluster.listens && !reached.contains(id.as_str()) {
                let message =
                    format!("the cluster `{id}` has rules, and none of its servers has an `http` listener");
                context.report.warning(cluster.span, message);
            } else if cluster.has_web_apps && !cluster.listens && !reached.contains(id.as_str()) {
                let message = format!(
                    "nothing reaches the web-apps of the cluster `{id}`: no `http` listener, and no `load-balance` names it"
                );
                context.report.warning(cluster.span, message);
            }
        }
    }
}

fn missing<'a>(what: &str, id: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.filter(|id| !id.is_empty()).collect();
    let near = nearest(id, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    match near {
        Some(hint) => format!("there is no {what} `{id}`: {hint}"),
        None if known.is_empty() => format!("there is no {what} `{id}`"),
        None => format!("there is no {what} `{id}`: the file has {}", few(&known)),
    }
}

fn few(names: &[&str]) -> String {
    match names {
        names if names.len() > 8 => format!("{} and {} more", names[..8].join(", "), names.len() - 8),
        names => names.join(", "),
    }
}

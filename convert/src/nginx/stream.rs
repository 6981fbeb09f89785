//! `stream`: connections that are passed on as they are.

use super::{
    directive::{Directive, Levels},
    map::Map,
    proxy, reasons,
    server::addresses,
    upstream::Upstreams,
};
use crate::{
    backends::{CONNECTIONS_MAX, NO_BACKEND, SOCKET_TLS},
    left::{Remarks, TOO_MUCH},
    network::{Access, Addresses},
    output::{Cluster, Entries},
    tcp::{self, TcpListener, Way},
    value::nginx_duration,
    yaml::Yaml,
};
use std::{collections::HashMap, rc::Rc};

/// Adds all servers.
pub(super) fn translate(stream: &[Directive], remarks: &mut Remarks, cluster: &mut Cluster) {
    for directive in stream {
        if let Some(why) = reasons::of_stream(&directive.name) {
            cluster.remarks.push(remarks.leave(&directive.place, &directive.name, why));
        }
    }
    let upstreams = Upstreams::read(stream, false, remarks, &mut cluster.remarks);
    for directive in stream.iter().filter(|it| it.name == "server") {
        server(directive, stream, &upstreams, remarks, cluster);
    }
}

fn server(
    server: &Directive,
    stream: &[Directive],
    upstreams: &Upstreams,
    remarks: &mut Remarks,
    cluster: &mut Cluster,
) {
    let mut comments = Vec::new();
    for directive in server.inside() {
        if let Some(why) = reasons::of_stream(&directive.name) {
            comments.push(remarks.leave(&directive.place, &directive.name, why));
        }
    }
    let levels = [server.inside(), stream];
    let levels = Levels(&levels);
    let mut left = Vec::new();
    match keys(server, levels, stream, upstreams, remarks, &mut comments) {
        Ok(keys) => {
            let keys = tcp::shared(keys);
            for listen in server.inside().iter().filter(|it| it.name == "listen") {
                if let Err(why) = listeners(listen, &keys, &mut comments, cluster) {
                    left.push(remarks.leave(&listen.place, "listen", why));
                }
            }
        }
        Err(comment) => left.push(comment),
    }
    // What belongs to no listener is told at the beginning.
    cluster.remarks.extend(comments.into_iter().chain(left));
}

/// Adds the listeners of a `listen`. The comments go to the first.
fn listeners(
    listen: &Directive,
    keys: &(Rc<Entries>, usize),
    comments: &mut Vec<String>,
    cluster: &mut Cluster,
) -> Result<(), &'static str> {
    if listen.says("udp") {
        return Err("only TCP is passed on: the listener is left out");
    }
    if listen.says("ssl") {
        return Err(
            "`tcp-proxy` passes TLS on and does not end it: the listener is left out. Let the backends end it, or, if they speak HTTP, write an `http` listener with `tls`",
        );
    }
    if listen.says("proxy_protocol") {
        return Err(
            "`proxy-protocol` needs to know whom to believe, for HTTP as well: write it, and `trusted-proxies`; the listener is left out",
        );
    }
    let Some((addresses, port)) = addresses(listen, 0) else {
        return Err("listeners are addresses and single ports of TCP");
    };
    for address in addresses {
        cluster.listen_tcp(TcpListener::new(address, port, keys), comments)?;
    }
    Ok(())
}

/// What the listeners of a server say beside their addresses.
///
/// # Errors
/// Why there can be none: the comment for it.
fn keys(
    server: &Directive,
    levels: Levels<'_>,
    stream: &[Directive],
    upstreams: &Upstreams,
    remarks: &mut Remarks,
    comments: &mut Vec<String>,
) -> Result<Entries, String> {
    let mut all = levels.0.iter().flat_map(|it| it.iter());
    if let Some(guard) = all.find(|it| reasons::GUARDS.contains(&it.name.as_str()) && !it.says("off")) {
        let why = "there is no such restriction in `tcp-proxy`: the listener is left out";
        return Err(remarks.leave(&guard.place, &guard.name, why));
    }
    let mut keys = tcp::access(access(server, levels, remarks)?);
    let Some(pass) = server.inside().iter().rfind(|it| it.name == "proxy_pass") else {
        let why = "it has no `proxy_pass`: the listener is left out";
        return Err(remarks.leave(&server.place, "server", why));
    };
    let leave = |remarks: &mut Remarks, why: String| {
        remarks.leave(&pass.place, &pass.name, format!("{why}: the listener is left out"))
    };
    let text = pass.argument(0);
    let map = if text.contains('$') { Some(Map::of(text, stream)) } else { None };
    let map = map.transpose().map_err(|why| leave(remarks, why))?;
    let reads = levels.get("ssl_preread").is_some_and(|it| it.says("on"));
    let mut goals = Goals { levels, upstreams, known: HashMap::new(), keys: Vec::new() };
    let kinds = map.as_ref().filter(|_| reads).map(|it| it.kinds.clone()).unwrap_or_default();
    let way = |kind: &tcp::Kind| {
        // Without `ssl_preread` nothing is known of any client.
        let kind = if reads { kind } else { &tcp::Kind::Plain };
        let value = map.as_ref().map_or(text, |it| it.value(kind));
        Way { by_protocol: Vec::new(), others: goals.of(value, pass, remarks, comments) }
    };
    let ways: HashMap<tcp::Kind, Way> = {
        let mut way = way;
        let all = kinds.iter().cloned().chain([tcp::Kind::Plain, tcp::Kind::Other]);
        all.map(|kind| (kind.clone(), way(&kind))).collect()
    };
    let known = |kind: &tcp::Kind| ways.get(kind).cloned().unwrap_or_default();
    let found =
        tcp::keys(&kinds, &goals.keys, known).map_err(|why| remarks.leave(&pass.place, &pass.name, why))?;
    let waits = levels.get("preread_timeout").and_then(|it| nginx_duration(it.argument(0)));
    let routed = found.iter().any(|(key, _)| *key == "routes");
    keys.extend(waits.filter(|_| routed).map(|it| ("client-hello-timeout", Yaml::plain(it))));
    keys.extend(found);
    Ok(keys)
}

/// `allow` and `deny`: the first that fits decides.
fn access(
    server: &Directive,
    levels: Levels<'_>,
    remarks: &mut Remarks,
) -> Result<(Vec<String>, Vec<String>), String> {
    let mut access = Access::default();
    for directive in levels.any(&["allow", "deny"]) {
        let mut refuse = |why: &str| Err(remarks.leave(&directive.place, &directive.name, why));
        let who = match directive.argument(0) {
            "all" => Addresses::everybody(),
            // Nobody comes over one.
            "unix:" => continue,
            text => match Addresses::of(text) {
                Some(who) => who,
                None => return refuse("these are no address and no network: the listener is left out"),
            },
        };
        if directive.name == "allow" {
            access.allow(&who);
        } else {
            access.deny(&who);
        }
        if access.is_long() {
            return refuse("these are too many networks: the listener is left out");
        }
    }
    let why = "nobody is let in: the listener is left out";
    access.lists().ok_or_else(|| remarks.leave(&server.place, "server", why))
}

/// The backends that connections go to.
struct Goals<'a> {
    levels: Levels<'a>,
    upstreams: &'a Upstreams,
    known: HashMap<String, Option<usize>>,
    keys: Vec<Entries>,
}

impl Goals<'_> {
    /// The number of the backends that a value names; `None`: there are none.
    fn of(
        &mut self,
        value: &str,
        pass: &Directive,
        remarks: &mut Remarks,
        comments: &mut Vec<String>,
    ) -> Option<usize> {
        if let Some(known) = self.known.get(value) {
            return *known;
        }
        let found = match self.servers(value, pass, remarks, comments) {
            Ok(keys) => {
                self.keys.push(keys);
                Some(self.keys.len() - 1)
            }
            // Nothing is what nginx refuses, too.
            Err(_) if value.is_empty() => None,
            Err(why) => {
                comments.push(remarks.leave(&pass.place, &pass.name, format!("`{value}`: {why}")));
                None
            }
        };
        self.known.insert(value.to_owned(), found);
        found
    }

    fn servers(
        &self,
        value: &str,
        pass: &Directive,
        remarks: &mut Remarks,
        comments: &mut Vec<String>,
    ) -> Result<Entries, &'static str> {
        let on = |name: &str| self.levels.get(name).is_some_and(|it| it.says("on"));
        let encrypted = on("proxy_ssl");
        if !remarks.takes(self.upstreams.count(value)) {
            return Err(TOO_MUCH);
        }
        let upstream = self.upstreams.named(value, 0).ok_or(NO_BACKEND)?;
        if encrypted && upstream.has_sockets() {
            return Err(SOCKET_TLS);
        }
        let mut keys = upstream
            .keys(if encrypted { "tls" } else { "" })
            .ok_or("none of its servers could be translated")?;
        if encrypted {
            comments.extend(proxy::tls(pass, self.levels, &mut keys, remarks));
        }
        if on("proxy_protocol") {
            keys.push(("send-proxy-protocol", Yaml::text("v1")));
        }
        let time = |name: &str| self.levels.get(name).and_then(|it| nginx_duration(it.argument(0)));
        for (theirs, ours) in
            [("proxy_connect_timeout", "connect-timeout"), ("proxy_timeout", "idle-timeout")]
        {
            keys.extend(time(theirs).map(|it| (ours, Yaml::plain(it))));
        }
        // There is none without `max_conns`, and here a usual one, which connections that stay would soon reach.
        if !keys.iter().any(|(key, _)| *key == "connection-max") {
            keys.push(("connection-max", Yaml::plain(CONNECTIONS_MAX)));
        }
        Ok(keys)
    }
}

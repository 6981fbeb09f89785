//! Connections of `tcp-proxy`: nothing in them is read but, where routes want it, the ClientHello that they begin with. One is let in or
//! refused, gets its route, then a server, and from then on bytes pass both ways until both sides have ended.

mod beginning;
mod client_hello;
mod relay;
mod servers;

use crate::{
    http1::Fields,
    limit::{Permit, Subject},
    observe::{
        access_log::{End, Record, Recording},
        tcp_counters::{Refusal, TcpCounters},
    },
    route::{
        Routes,
        tcp::{Asked, Target, TcpService},
    },
    transport::{
        listener::Listener,
        proxy_protocol::{self, Source},
    },
    worker::{Worker, connections::Entry},
};
use beginning::Begun;
use client_hello::ClientHello;
#[cfg(test)]
pub(crate) use relay::AT_ONCE;
use relay::Relay;
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The part of a worker's connections that may be of `tcp-proxy`: they can't be ended for others when they are idle, so the last quarter
/// is left to those of HTTP.
const SHARE: (u64, u64) = (3, 4);

/// A TLS alert that ends a handshake: there is no such server here (RFC 6066 §3, `unrecognized_name`).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

/// No more is taken of what a client has sent when it is refused.
const DRAIN_MAX: usize = 64 * 1024;

/// Why a connection is not passed on.
#[derive(Debug)]
struct Refused {
    why: Refusal,
    text: Cow<'static, str>,
}

impl Refused {
    fn new(why: Refusal, text: impl Into<Cow<'static, str>>) -> Self {
        Self { why, text: text.into() }
    }
}

/// A connection from its beginning to its end, among the counts; its line is written when it is dropped.
struct Passage {
    worker: Rc<Worker>,
    counters: Rc<TcpCounters>,
    client: Box<str>,
    log: Recording,
}

impl Passage {
    fn new(worker: &Rc<Worker>, listener: &str, peer: IpAddr) -> Self {
        let counters = worker.tcp_counters(listener);
        counters.connections.up();
        counters.open.up();
        let log = Recording::default();
        if worker.access_log.borrow().is_some() {
            log.begin(&worker.records);
            log.note(|record| record.passes(listener));
        }
        Self { worker: worker.clone(), counters, client: peer.to_canonical().to_string().into(), log }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.counters.open.down();
        self.log.finish(self.worker.access_log.borrow().as_ref(), &self.client);
    }
}

/// Passes a client's connection on, to its end.
pub(crate) fn serve(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> {
    // It counts from now on, not from when its task first runs.
    let entry = Entry::connection(&worker);
    let opening = Box::pin(open(entry, worker, listener, stream, peer));
    async move {
        if let Some(relay) = opening.await {
            relay.await;
        }
    }
}

/// Brings a connection to the point from which on bytes pass.
async fn open(
    entry: Entry,
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<Relay> {
    let name = listener.terms.tcp.clone()?;
    let routes = worker.routes();
    let service = routes.tcp(&name)?.clone();
    let mut passage = Passage::new(&worker, &name, peer.ip());
    let opened = {
        let beginning = Box::pin(begin(&mut passage, &listener, (&routes, &service), &mut stream, peer));
        entry.unless_closing(beginning).await?
    };
    let connected = match opened {
        Ok((from, to, permits, target)) => {
            let upstream = target.upstream(&routes.foreign).clone();
            drop(routes);
            // A system call that is not made for nothing.
            let tells = upstream.foreign_rule().is_some_and(|it| it.proxy_protocol.is_some());
            let whose = tells.then(|| to.or_else(|| stream.local_addr().ok())).flatten().map(|to| (from, to));
            let connected = Box::pin(servers::connect(&passage, &upstream, from.ip(), whose)).await;
            connected.map(|connected| (connected, permits))
        }
        Err(refused) => Err(refused),
    };
    match connected {
        Ok((connected, permits)) => {
            passage.log.note(Record::connected);
            Some(Relay::new(entry, passage, permits, stream, connected))
        }
        Err(Refused { why, text }) => {
            tracing::debug!(listener = &*name, client = &*passage.client, %text, "a connection is not passed on");
            passage.counters.refused(why);
            worker.counters.connections_refused.up();
            passage.log.note(|record| {
                record.refused(why.status(), text);
                record.ended(End::Complete);
            });
            drop(passage);
            if why == Refusal::NoRoute {
                let _gone = Box::pin(entry.unless_closing(Box::pin(say_unrecognized(stream)))).await;
            }
            None
        }
    }
}

/// The client, where it has connected to if a PROXY header says so, what it counts to, and where it goes.
type Begin = (SocketAddr, Option<SocketAddr>, Vec<Permit>, Target);

/// Lets a connection in, and finds out whither it goes.
async fn begin(
    passage: &mut Passage,
    listener: &Listener,
    (routes, service): (&Routes, &TcpService),
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Result<Begin, Refused> {
    let worker = passage.worker.clone();
    if worker.tcp_open() > worker.clients_max / SHARE.1 * SHARE.0 {
        return Err(Refused::new(Refusal::Full, "as many connections as the limit of open files allows"));
    }
    let (mut from, mut to) = (peer, None);
    if listener.terms.proxy_protocol {
        let header = proxy_protocol::read_header(stream, peer.ip(), &routes.trusted, routes.limits.head);
        let source = header.await.map_err(|cause| Refused::new(Refusal::ProxyHeader, cause.to_string()))?;
        if let Source::Client { from: client, to: own } = source {
            (from, to) = (client, Some(own));
            passage.client = from.ip().to_canonical().to_string().into();
        }
    }
    let client = from.ip().to_canonical();
    let from = SocketAddr::new(client, from.port());
    if !service.lets_in(client) {
        return Err(Refused::new(Refusal::Denied, "not let in by `allow` and `deny`"));
    }
    let permits = limited(&worker, service, client)?;
    if !service.reads_client_hello() {
        let target = service.default().ok_or_else(|| Refused::new(Refusal::NoRoute, "no `backends`"))?;
        return Ok((from, to, permits, target));
    }
    let begun = beginning::look(stream, service.client_hello_timeout).await;
    let begun = begun.map_err(|cause| Refused::new(Refusal::ClientHello, cause.to_string()))?;
    let target = match begun {
        Begun::Other => {
            service.default().ok_or_else(|| Refused::new(Refusal::NoRoute, "not TLS, and no `backends`"))
        }
        Begun::Hello(ClientHello { name, alpn }) => {
            if let Some(name) = &name {
                passage.log.note(|record| record.asks_for(name));
            }
            let chosen = service.choose(Asked { name: name.as_deref(), alpn: &alpn });
            chosen.ok_or_else(|| Refused::new(Refusal::NoRoute, "no route for the name that it asks for"))
        }
    };
    Ok((from, to, permits, target?))
}

/// Whether it is within the limits of its listener.
fn limited(worker: &Worker, service: &TcpService, client: IpAddr) -> Result<Vec<Permit>, Refused> {
    let fields = Fields::default();
    let subject = Subject { remote: client, path: "", fields: &fields };
    let now = worker.now();
    if service.rates.iter().any(|it| it.check(now, subject).is_some_and(|verdict| !verdict.passes)) {
        return Err(Refused::new(Refusal::Limited, "more often than a `rate-limit` allows"));
    }
    let permits = service.connections.iter().map(|it| it.enter(subject));
    let permits: Result<Vec<_>, ()> = permits.collect();
    let permits =
        permits.map_err(|()| Refused::new(Refusal::Limited, "more than a `connection-limit` allows"))?;
    Ok(permits.into_iter().flatten().collect())
}

/// Tells a client of TLS that there is no such server, so that it need not guess. What it has sent is taken first: the kernel would
/// reset the connection otherwise, and the alert would be lost.
async fn say_unrecognized(mut stream: TcpStream) {
    let mut first = [0; 1];
    let is_tls = stream.try_read(&mut first).is_ok_and(|count| count == 1) && first[0] == 22;
    if !is_tls || stream.write_all(&UNRECOGNIZED_NAME).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut taken = (&mut stream).take(DRAIN_MAX as u64);
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut taken, &mut nowhere);
    let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
}

//! The servers of a service that DNS knows (SRV records, RFC 2782), as backends.

use super::{
    ForeignPool,
    dns::{Data, DnsError, Kind, Resolver},
};
use common::config::{Backend, BackendAddress};
use futures_util::future::join_all;
use std::{collections::HashMap, net::SocketAddr, thread, time::Duration};
use tokio::time::{sleep, timeout};

/// So many servers a name may have; of more the last by priority, name and port are left out.
const SERVERS_MAX: usize = 256;

/// How long an answer is believed, whatever it says of itself.
const TTL_MIN: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(2) };
const TTL_MAX: Duration = Duration::from_secs(60);

/// After a look-up that failed.
const PAUSE: Duration = TTL_MIN;

/// How long the start, or a reload, waits for the first answers.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// What is known of services, by name and name servers.
pub(super) type Known = HashMap<(String, Vec<SocketAddr>), Vec<Data>>;

/// Asks for services that nothing is known of, all at once. Blocks for [`FIRST_WITHIN`] at most: what has no answer by then has no
/// servers yet.
pub(super) fn first_look_ups(known: &mut Known, wanted: impl Iterator<Item = (String, Vec<SocketAddr>)>) {
    let mut missing: Vec<_> = wanted.filter(|it| !known.contains_key(it)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return;
    }
    // In a runtime of its own, as this may be within one or not.
    let asking = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| {
            let each = missing.into_iter().map(|(name, servers)| async move {
                let answer = timeout(FIRST_WITHIN, Resolver::new(&servers).ask(&name, Kind::Srv)).await;
                let answer = answer.unwrap_or(Err(DnsError::Late(FIRST_WITHIN)));
                if let Err(cause) = &answer {
                    tracing::warn!(name, %cause, "a service has no servers yet");
                }
                Some(((name, servers), answer.ok()?.records))
            });
            runtime.block_on(join_all(each))
        })
    });
    if let Ok(Ok(found)) = asking.join() {
        known.extend(found.into_iter().flatten());
    }
}

/// Looks a service of a pool up again and again, until it is dropped; `changed` hears when the pool has other members. What is no answer
/// changes nothing: a name server that is away must not take the servers along.
pub(super) async fn follow(pool: &ForeignPool, place: usize, changed: impl Fn()) {
    let Some((_, name)) = pool.services().nth(place) else { return };
    let resolver = Resolver::new(&pool.config.resolver);
    let (mut wait, mut fails) = (TTL_MIN, false);
    loop {
        sleep(wait).await;
        match resolver.ask(name, Kind::Srv).await {
            Ok(answer) => {
                wait = Duration::from_secs(answer.ttl.into()).clamp(TTL_MIN, TTL_MAX);
                if std::mem::take(&mut fails) {
                    tracing::info!(name, "a service can be looked up again");
                }
                if pool.take(place, answer.records) {
                    changed();
                }
            }
            Err(cause) => {
                wait = PAUSE;
                if !std::mem::replace(&mut fails, true) {
                    let servers = pool.answer(place).map_or(0, |it| it.len());
                    tracing::warn!(name, %cause, servers, "a service can't be looked up: its servers stay as they are");
                }
            }
        }
    }
}

/// The backends that an entry of the file stands for, in an order that does not depend on that of the answer. Those of the lowest
/// priority are asked first, all others are backups. Weights are of the entry's own; 0 beside others is as little as there is.
pub(super) fn servers(entry: &Backend, records: &[Data]) -> Vec<Backend> {
    let mut found: Vec<(u16, String, u16, u16)> = Vec::new();
    for record in records {
        let Data::Server { priority, weight, port, target } = record else { continue };
        if !found.iter().any(|it| it.1 == *target && it.2 == *port) {
            found.push((*priority, target.clone(), *port, *weight));
        }
    }
    found.sort_unstable();
    if found.len() > SERVERS_MAX {
        tracing::warn!(name = %entry.name(), servers = found.len(), max = SERVERS_MAX, "a service has more servers than are taken");
        found.truncate(SERVERS_MAX);
    }
    let first = found.first().map_or(0, |it| it.0);
    let greatest =
        |priority: u16| found.iter().filter(|it| it.0 == priority).map(|it| it.3).max().unwrap_or(0);
    let weight = |priority: u16, weight: u16| match greatest(priority) {
        0 => entry.weight,
        greatest => (u64::from(entry.weight) * u64::from(weight) / u64::from(greatest)).max(1) as u32,
    };
    let backend = |(priority, target, port, said): &(u16, String, u16, u16)| Backend {
        at: BackendAddress::Host { host: target.clone(), port: *port },
        weight: weight(*priority, *said),
        backup: entry.backup || *priority != first,
        ..entry.clone()
    };
    found.iter().map(backend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::BackendProtocol;

    fn entry(backup: bool) -> Backend {
        Backend {
            at: BackendAddress::Service("_http._tcp.shop.internal".to_owned()),
            protocol: BackendProtocol::Http1,
            tls: false,
            weight: 200,
            backup,
        }
    }

    fn said(records: &[(u16, u16, &str, u16)]) -> Vec<Data> {
        let server = |it: &(u16, u16, &str, u16)| Data::Server {
            priority: it.0,
            weight: it.1,
            target: it.2.to_owned(),
            port: it.3,
        };
        records.iter().map(server).collect()
    }

    fn shown(backends: &[Backend]) -> Vec<(String, u32, bool)> {
        backends.iter().map(|it| (it.name(), it.weight, it.backup)).collect()
    }

    #[test]
    fn the_lowest_priority_comes_first_and_weights_are_shares() {
        let found = servers(
            &entry(false),
            &said(&[
                (20, 0, "c", 80),
                (10, 30, "b", 81),
                (10, 60, "a", 80),
                (10, 0, "d", 80),
                (10, 60, "a", 80),
            ]),
        );
        let expected = [("a:80", 200, false), ("b:81", 100, false), ("d:80", 1, false), ("c:80", 200, true)];
        assert_eq!(shown(&found), expected.map(|it| (it.0.to_owned(), it.1, it.2)));
        assert!(servers(&entry(true), &said(&[(1, 1, "a", 1)]))[0].backup);
        assert_eq!(shown(&servers(&entry(false), &said(&[(0, 0, "b", 1), (0, 0, "a", 1)])))[0].0, "a:1");
    }

    #[test]
    fn a_name_has_so_many_servers_and_no_more() {
        let records: Vec<_> = (0..1000).map(|it| (0, 0, "a", 1 + it)).collect();
        assert_eq!(servers(&entry(false), &said(&records)).len(), SERVERS_MAX);
    }
}

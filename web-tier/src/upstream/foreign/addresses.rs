//! Where a name is: looked up outside of requests, at the start, every [`TTL`], and when a connect has failed.
//!
//! The system's resolver (`getaddrinfo`) is asked unless the rule names other name servers, so that `/etc/hosts`, search domains and the like hold as they do for
//! everything else on the machine. It does not say how long an answer is valid: hence a time of ours.

use super::dns::Resolver;
use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    time::{sleep, timeout},
};

/// How long an answer is believed.
pub(super) const TTL: Duration = Duration::from_secs(30);

/// A name is not looked up more often than this, whatever fails.
const PAUSE: Duration = Duration::from_secs(1);

/// So many look-ups at once: a file may name thousands of backends, and each takes a thread.
static LOOK_UPS: Semaphore = Semaphore::const_new(16);

/// What is known of a name.
#[derive(Debug, Clone)]
enum Found {
    /// The first answer has not come yet.
    Nothing,
    /// At least one, in the order of the resolver.
    Known(Arc<[SocketAddr]>),
    /// There was never an answer; why not.
    Unknown(Arc<str>),
}

/// The addresses of one backend.
#[derive(Debug)]
pub(super) struct Addresses {
    host: Box<str>,
    port: u16,
    found: watch::Sender<Found>,
    /// The one that a connect was last made to: tried first, so that an address that is dead costs one connect, not each.
    good: Mutex<Option<SocketAddr>>,
    wanted: Notify,
    fixed: bool,
    /// Who is asked, if not the system's resolver.
    resolver: Option<Resolver>,
}

impl Addresses {
    /// Of a name, or of an address, which needs no look.
    pub(super) fn new(host: &str, port: u16) -> Self {
        let ip = host.parse::<IpAddr>().ok();
        let found =
            ip.map_or(Found::Nothing, |ip| Found::Known(Arc::from([SocketAddr::new(ip, port)].as_slice())));
        Self {
            host: host.into(),
            port,
            found: watch::Sender::new(found),
            good: Mutex::default(),
            wanted: Notify::new(),
            fixed: ip.is_some(),
            resolver: None,
        }
    }

    /// The same, by these name servers, if there are any.
    pub(super) fn by(self, name_servers: &[SocketAddr]) -> Self {
        let resolver = (!name_servers.is_empty()).then(|| Resolver::new(name_servers));
        Self { resolver, ..self }
    }

    /// Whether there is nothing to look up.
    pub(super) fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// All of them, the one that worked last at the head. Waits for the first look-up; the caller bounds the time.
    pub(super) async fn get(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.found.subscribe();
        let found =
            found.wait_for(|it| !matches!(it, Found::Nothing)).await.map_err(io::Error::other)?.clone();
        match found {
            Found::Known(list) => {
                let mut list = list.to_vec();
                if let Some(place) = self.good().and_then(|good| list.iter().position(|it| *it == good)) {
                    list[..=place].rotate_right(1);
                }
                Ok(list)
            }
            Found::Nothing => Err(io::Error::other(format!("{} is being looked up", self.host))),
            Found::Unknown(cause) => {
                self.wanted.notify_one();
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: {cause}", self.host)))
            }
        }
    }

    /// Those that are known now.
    pub(super) fn known(&self) -> Vec<SocketAddr> {
        match &*self.found.borrow() {
            Found::Known(list) => list.to_vec(),
            Found::Nothing | Found::Unknown(_) => Vec::new(),
        }
    }

    /// A connect to this one was made.
    pub(super) fn worked(&self, address: SocketAddr) {
        *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// A connect failed: the name may have moved.
    pub(super) fn failed(&self) {
        self.wanted.notify_one();
    }

    fn good(&self) -> Option<SocketAddr> {
        *self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks the name up until it is dropped; `moved` hears when an address has gone that sockets may be connected to.
    pub(super) async fn follow(&self, moved: impl Fn()) {
        loop {
            let found = match &self.resolver {
                None => look_up(&self.host, self.port).await,
                Some(resolver) => {
                    let found = resolver.addresses(&self.host).await.map_err(io::Error::other);
                    found.map(|list| list.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
                }
            };
            if self.take(found) {
                moved();
            }
            self.rest().await;
        }
    }

    /// Waits until it is time for another look.
    async fn rest(&self) {
        sleep(PAUSE).await;
        let _ = timeout(TTL - PAUSE, self.wanted.notified()).await;
    }

    /// Takes an answer over; whether an address is gone. One that is no answer changes nothing, if there ever was one: a name
    /// server that is away must not take the backends along.
    pub(super) fn take(&self, answer: io::Result<Vec<SocketAddr>>) -> bool {
        let host = &*self.host;
        let before = self.found.borrow().clone();
        let answer = match answer {
            Ok(list) if list.is_empty() => Err(io::Error::from(io::ErrorKind::NotFound)),
            other => other,
        };
        match (answer, before) {
            (Ok(list), Found::Known(old)) => {
                let gone = old.iter().any(|it| !list.contains(it));
                if gone || list.iter().any(|it| !old.contains(it)) {
                    tracing::info!(host, from = ?old, to = ?list, "a backend's name has other addresses");
                }
                self.found.send_replace(Found::Known(list.into()));
                gone
            }
            (Ok(list), Found::Unknown(_)) => {
                tracing::info!(host, to = ?list, "a backend's name is known now");
                self.found.send_replace(Found::Known(list.into()));
                false
            }
            (Ok(list), Found::Nothing) => {
                self.found.send_replace(Found::Known(list.into()));
                false
            }
            (Err(cause), Found::Known(_)) => {
                tracing::debug!(host, %cause, "a backend's name can't be looked up: its old addresses stay");
                false
            }
            (Err(cause), before) => {
                if matches!(before, Found::Nothing) {
                    tracing::warn!(host, %cause, "a backend's name can't be looked up");
                }
                self.found.send_replace(Found::Unknown(cause.to_string().into()));
                false
            }
        }
    }
}

/// Asks the system's resolver, on a thread of its own: it has time-outs of its own, of up to a minute, and the runtime's own
/// threads would hold up a stop for as long. There is one for a backend at most, as its caller waits.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let _turn = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
    let (answer, answered) = oneshot::channel();
    let host = host.to_owned();
    thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let mut found: Vec<SocketAddr> = Vec::new();
        let result = (&*host, port).to_socket_addrs().map(|list| {
            for address in list {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            found
        });
        // Nobody waits any more: the process stops.
        let _ = answer.send(result);
    })?;
    answered.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[tokio::test]
    async fn an_address_needs_no_look() {
        let addresses = Addresses::new("10.0.0.1", 80);
        assert!(addresses.is_fixed());
        assert_eq!(addresses.get().await.unwrap(), [at(1)]);
        let six = Addresses::new("::1", 8080);
        assert_eq!(six.get().await.unwrap(), ["[::1]:8080".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_address_that_worked_comes_first_as_long_as_it_is_there() {
        let addresses = Addresses::new("site.test", 80);
        assert!(!addresses.take(Ok(vec![at(1), at(2), at(3)])));
        assert_eq!(addresses.get().await.unwrap(), [at(1), at(2), at(3)]);
        addresses.worked(at(3));
        assert_eq!(addresses.get().await.unwrap(), [at(3), at(1), at(2)]);
        assert!(!addresses.take(Ok(vec![at(3), at(2), at(1), at(4)])), "none is gone");
        assert!(addresses.take(Ok(vec![at(2), at(4)])), "sockets to the others are old");
        assert_eq!(addresses.get().await.unwrap(), [at(2), at(4)]);
    }

    #[tokio::test]
    async fn a_name_server_that_is_away_takes_no_address_along() {
        let addresses = Addresses::new("site.test", 80);
        assert_eq!(addresses.known(), []);
        assert!(!addresses.take(Err(io::Error::other("no answer"))));
        let cause = addresses.get().await.unwrap_err();
        assert_eq!(cause.to_string(), "site.test: no answer");
        assert!(!addresses.take(Ok(vec![at(1)])));
        assert!(!addresses.take(Err(io::Error::other("no answer"))));
        assert!(!addresses.take(Ok(Vec::new())));
        assert_eq!((addresses.get().await.unwrap(), addresses.known()), (vec![at(1)], vec![at(1)]));
    }

    #[tokio::test]
    async fn a_request_waits_for_the_first_look_up() {
        let addresses = Arc::new(Addresses::new("localhost", 80));
        let waiting = timeout(Duration::from_millis(1), addresses.get()).await;
        assert!(waiting.is_err(), "nobody looks yet: {waiting:?}");
        let following = addresses.clone();
        let task = tokio::spawn(async move { following.follow(|| {}).await });
        let found = timeout(Duration::from_secs(20), addresses.get()).await.unwrap().unwrap();
        assert!(found.iter().all(|it| it.ip().is_loopback()) && !found.is_empty(), "{found:?}");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_connect_brings_the_next_look_forward_by_no_more_than_a_second_each() {
        let start = tokio::time::Instant::now();
        let addresses = Addresses::new("site.test", 80);
        addresses.failed();
        addresses.failed();
        addresses.rest().await;
        assert_eq!(start.elapsed(), PAUSE);
        addresses.rest().await;
        assert_eq!(start.elapsed(), PAUSE + TTL, "two failures are one reason");
    }
}

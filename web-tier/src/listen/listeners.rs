//! The server's listeners, and what a new configuration makes of them. All that can fail is done before anything changes.

use crate::{
    listen::{
        bind::{BindError, Bound, BoundListener, bind_datagrams, bind_listener, resolve},
        inherited::ListenerSockets,
        listening_sockets::{ListenerChange, ListenerId},
    },
    transport::{
        listener::{Difference, ListenerKeys, Terms},
        quic::{self, QuicKeys, WorkerSocket},
        tls::{TlsError, TlsListener},
    },
};
use common::config::PublicListener;
use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
};

/// Why the listeners of a new configuration can't be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenersError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The listeners of a running server; its clones share the certificates.
#[derive(Debug, Clone)]
pub(crate) struct Listeners {
    list: Vec<Served>,
    keys: ListenerKeys,
    workers: usize,
    next: u64,
}

/// One of them.
#[derive(Debug, Clone)]
struct Served {
    id: ListenerId,
    config: PublicListener,
    asked: SocketAddr,
    at: SocketAddr,
    terms: Terms,
    /// It is to speak HTTP/3, and could not be bound for it yet.
    late: bool,
}

/// A listener that is to speak HTTP/3 once its port of UDP is free.
#[derive(Debug)]
pub(crate) struct WithoutQuic {
    id: ListenerId,
    at: SocketAddr,
    workers: usize,
    keys: QuicKeys,
}

impl WithoutQuic {
    /// Tries to bind: what each worker has to do, or `None` while somebody is there.
    ///
    /// # Errors
    /// The system refuses for another reason.
    pub(crate) fn bind(&self) -> Result<Option<Vec<ListenerChange>>, BindError> {
        match bind_datagrams(self.at, self.workers, false) {
            Ok(datagrams) => {
                let sockets = quic::shares(datagrams, &self.keys);
                Ok(Some(
                    sockets.into_iter().map(|socket| ListenerChange::Quic { id: self.id, socket }).collect(),
                ))
            }
            Err(BindError::DatagramsInUse(_)) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at
    }
}

/// Which listeners of a new configuration there are already.
struct Matched<'a> {
    /// For each, where it is to be, and the one that is there.
    wanted: Vec<(SocketAddr, Option<&'a Served>)>,
    /// Those that go.
    left: Vec<&'a Served>,
}

/// What a reload is to make of the listeners. Dropped, it closes what was bound for it.
#[derive(Debug)]
pub(crate) struct NextListeners {
    pub(crate) listeners: Listeners,
    /// What each worker has to do.
    pub(crate) changes: Vec<Vec<ListenerChange>>,
    /// As the log names them.
    pub(crate) added: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Listeners {
    /// Those that were bound at the start, and what each worker has to do.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn start(
        public: &[PublicListener],
        bound: Bound,
        keys: ListenerKeys,
    ) -> Result<(Self, Vec<Vec<ListenerChange>>), TlsError> {
        let empty = Self { list: Vec::new(), keys, workers: bound.workers, next: 0 };
        let mut next = NextListeners::after(&empty);
        for (config, bound) in public.iter().zip(bound.listeners) {
            let terms = Terms::load(config, &empty.keys)?;
            next.open(config, bound, terms);
        }
        Ok((next.listeners, next.changes))
    }

    /// What the listeners `public` of a new configuration make of these: reads the certificates of what is new or changed, then
    /// binds. Blocks.
    ///
    /// # Errors
    /// An address that can't be bound, certificates that are not valid; nothing has changed then.
    pub(crate) fn prepare(&self, public: &[PublicListener]) -> Result<NextListeners, ListenersError> {
        let Matched { wanted, left } = self.matched(public)?;
        let mut terms = Vec::with_capacity(public.len());
        for (new, (_, old)) in public.iter().zip(&wanted) {
            let difference = old.map_or(Difference::Terms, |old| Difference::between(&old.config, new));
            let loaded = match (difference, old) {
                (Difference::None, Some(old)) => old.terms.clone(),
                _ => Terms::load(new, &self.keys)?,
            };
            terms.push((difference, loaded));
        }
        let mut next = NextListeners::after(self);
        for ((new, (asked, old)), (difference, terms)) in public.iter().zip(wanted).zip(terms) {
            match old {
                Some(old) => {
                    let begins = terms.http3() && !old.terms.http3();
                    // Connections of a former configuration may be there.
                    let datagrams = begins.then(|| bind_datagrams(old.at, self.workers, true)).transpose()?;
                    next.keep(old, new, difference, terms, datagrams);
                }
                None => {
                    // One of ours that goes does not stand in the way.
                    let beside = left.iter().any(|it| overlap(it.at, asked));
                    let bound = bind_listener(asked, self.workers, beside, terms.http3());
                    let bound = bound.map_err(|cause| if beside { cause } else { self.owned(cause) })?;
                    next.open(new, bound, terms);
                }
            }
        }
        left.into_iter().for_each(|old| next.close(old));
        Ok(next)
    }

    /// Finds those that are at the addresses of `public`: first as the file writes them, so that no name is asked for that was
    /// there before.
    fn matched(&self, public: &[PublicListener]) -> Result<Matched<'_>, BindError> {
        let mut left: Vec<&Served> = self.list.iter().collect();
        let mut take = |is_it: &dyn Fn(&Served) -> bool| {
            left.iter().position(|it| is_it(it)).map(|place| left.remove(place))
        };
        let same = |new: &PublicListener| take(&|it| it.config.at() == new.at());
        let written: Vec<Option<&Served>> = public.iter().map(same).collect();
        let mut wanted = Vec::with_capacity(public.len());
        for (new, old) in public.iter().zip(written) {
            let asked = old.map_or_else(|| resolve(new), |old| Ok(old.asked))?;
            wanted.push((asked, old.or_else(|| take(&|it| it.asked == asked))));
        }
        Ok(Matched { wanted, left })
    }

    /// An address that another listener of this server has is not another process's.
    fn owned(&self, cause: BindError) -> BindError {
        match cause {
            BindError::InUse(address) => match self.list.iter().find(|it| overlap(it.at, address)) {
                Some(own) => BindError::InUseHere { address, by: own.at },
                None => cause,
            },
            other => other,
        }
    }

    /// What all workers together have of sockets, listener by listener; one without is left out.
    pub(crate) fn gather(&self, mut copies: Vec<(ListenerId, OwnedFd)>) -> Vec<ListenerSockets> {
        let of = |it: &Served| {
            let sockets: Vec<_> =
                copies.extract_if(.., |(id, _)| *id == it.id).map(|(_, socket)| socket).collect();
            ListenerSockets { asked: it.asked, sockets }
        };
        let listeners = self.list.iter().map(of);
        listeners.filter(|it| !it.sockets.is_empty()).collect()
    }

    /// Where they listen, in the order of the file.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.list.iter().map(|it| it.at).collect()
    }

    /// Those that are to speak HTTP/3 and have no sockets for it, as others are still there.
    pub(crate) fn without_quic(&self) -> Vec<WithoutQuic> {
        let (workers, keys) = (self.workers, &self.keys.quic);
        let late = self.list.iter().filter(|it| it.late);
        late.map(|it| WithoutQuic { id: it.id, at: it.at, workers, keys: keys.clone() }).collect()
    }

    /// Their TLS.
    pub(crate) fn secured(&self) -> impl Iterator<Item = &TlsListener> {
        self.list.iter().filter_map(|it| it.terms.tls.as_ref())
    }
}

/// Whether two addresses can't both be listened on by two processes: the same, or every address of the port and one of them.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let wide = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (wide || one.ip() == other.ip())
}

impl NextListeners {
    /// None yet, in place of `former`.
    fn after(former: &Listeners) -> Self {
        Self {
            listeners: Listeners { list: Vec::new(), ..former.clone() },
            changes: (0..former.workers).map(|_| Vec::new()).collect(),
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
        }
    }

    fn open(&mut self, config: &PublicListener, bound: BoundListener, terms: Terms) {
        let BoundListener { asked, at, sockets, datagrams } = bound;
        let id = ListenerId(self.listeners.next);
        self.listeners.next += 1;
        let workers = self.changes.len();
        let mut shares: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (number, socket) in sockets.into_iter().enumerate() {
            shares[number % workers].push(socket);
        }
        let late = terms.http3() && datagrams.is_empty();
        let datagrams = quic_shares(datagrams, workers, &self.listeners.keys.quic);
        for ((changes, sockets), quic) in self.changes.iter_mut().zip(shares).zip(datagrams) {
            changes.push(ListenerChange::Open { id, terms: terms.clone(), sockets, quic });
        }
        self.added.push(shown(config, at));
        self.listeners.list.push(Served { id, config: config.clone(), asked, at, terms, late });
    }

    fn keep(
        &mut self,
        old: &Served,
        new: &PublicListener,
        difference: Difference,
        terms: Terms,
        datagrams: Option<Vec<UdpSocket>>,
    ) {
        if difference != Difference::None {
            let retire = difference == Difference::Terms;
            let datagrams = {
                let datagrams = datagrams.unwrap_or_default();
                quic_shares(datagrams, self.changes.len(), &self.listeners.keys.quic)
            };
            for (changes, quic) in self.changes.iter_mut().zip(datagrams) {
                changes.push(ListenerChange::Terms { id: old.id, terms: terms.clone(), retire, quic });
            }
            self.changed.push(shown(new, old.at));
        }
        self.listeners.list.push(Served { config: new.clone(), terms, ..*old });
    }

    fn close(&mut self, old: &Served) {
        for changes in &mut self.changes {
            changes.push(ListenerChange::Close { id: old.id });
        }
        self.removed.push(shown(&old.config, old.at));
    }
}

/// What each worker has of a listener's sockets of UDP: one or none.
fn quic_shares(datagrams: Vec<UdpSocket>, workers: usize, keys: &QuicKeys) -> Vec<Option<WorkerSocket>> {
    let mut shares: Vec<_> = quic::shares(datagrams, keys).into_iter().map(Some).collect();
    shares.resize_with(workers, || None);
    shares
}

/// A listener as start-up prints it.
fn shown(config: &PublicListener, at: SocketAddr) -> String {
    format!("{}://{at}", config.scheme())
}

//! A worker's listening sockets, as reloads open them, change their terms and close them.

use crate::{
    listen::{
        accept::{accept, drain},
        accept_quic,
    },
    transport::{
        listener::{Listener, Terms},
        quic::{self, WorkerSocket},
        tls::TlsListener,
    },
    worker::Worker,
};
use quinn::Endpoint;
use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

/// Which of the server's listeners, for as long as it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

/// What one worker is to do with one listener.
#[derive(Debug)]
pub(crate) enum ListenerChange {
    /// Accept on these sockets too: one, or more where this process has got more than it has workers.
    Open {
        id: ListenerId,
        terms: Terms,
        sockets: Vec<std::net::TcpListener>,
        /// Of one that speaks HTTP/3.
        quic: Option<WorkerSocket>,
    },
    /// Connections that come from now on get these terms. `retire`: those of the old terms are to end soon.
    /// `quic`: it did not speak HTTP/3 before, or has new sockets for it.
    Terms { id: ListenerId, terms: Terms, retire: bool, quic: Option<WorkerSocket> },
    /// Speak HTTP/3 on this socket, which was not to be had before.
    Quic { id: ListenerId, socket: WorkerSocket },
    /// Accept no more. Connections that wait already are served, and those that are open end soon.
    Close { id: ListenerId },
}

/// All of them.
#[derive(Debug)]
pub(crate) struct ListeningSockets {
    worker: Rc<Worker>,
    open: HashMap<ListenerId, Listening>,
}

/// The sockets of one listener.
#[derive(Debug)]
struct Listening {
    listener: Rc<Listener>,
    sockets: Vec<Accepting>,
    quic: Option<AcceptingQuic>,
}

/// A socket of HTTP/3, and who accepts there.
#[derive(Debug)]
struct AcceptingQuic {
    endpoint: Endpoint,
    halt: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// One socket of HTTP/3 that is to be in use.
enum QuicSocket {
    New(WorkerSocket),
    Open(Endpoint),
}

/// One of them.
#[derive(Debug)]
struct Accepting {
    socket: Rc<TcpListener>,
    halt: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    fn open(
        worker: &Rc<Worker>,
        terms: Terms,
        sockets: Vec<std::net::TcpListener>,
        quic: Option<QuicSocket>,
    ) -> io::Result<Self> {
        let port = sockets.first().map(std::net::TcpListener::local_addr).transpose()?;
        let listener = Rc::new(Listener::new(terms, port.map_or(0, |it| it.port())));
        let open = |socket| {
            let socket = Rc::new(TcpListener::from_std(socket)?);
            let (halt, halted) = oneshot::channel();
            let task = spawn_local(accept(worker.clone(), listener.clone(), socket.clone(), halted));
            Ok(Accepting { socket, halt, task })
        };
        let sockets = sockets.into_iter().map(open).collect::<io::Result<_>>()?;
        let quic = quic.map(|socket| AcceptingQuic::open(worker, &listener, socket)).transpose()?.flatten();
        Ok(Self { listener, sockets, quic })
    }

    /// Accepts no more, but for those that wait already: they are served on the terms under which they came.
    async fn halt(
        self,
        worker: &Rc<Worker>,
    ) -> io::Result<(Rc<Listener>, Vec<std::net::TcpListener>, Option<Endpoint>)> {
        let quic = match self.quic {
            Some(AcceptingQuic { endpoint, halt, task }) => {
                let _ = halt.send(());
                task.await.map_err(io::Error::other)?;
                Some(endpoint)
            }
            None => None,
        };
        let mut sockets = Vec::with_capacity(self.sockets.len());
        for Accepting { socket, halt, task } in self.sockets {
            let _ = halt.send(());
            task.await.map_err(io::Error::other)?;
            let socket = Rc::into_inner(socket).ok_or_else(|| io::Error::other("the socket is in use"))?;
            let socket = socket.into_std()?;
            drain(worker, &self.listener, &socket);
            sockets.push(socket);
        }
        Ok((self.listener, sockets, quic))
    }
}

impl AcceptingQuic {
    /// Accepts on the terms of a `listener`; `None` where it does not speak HTTP/3.
    fn open(worker: &Rc<Worker>, listener: &Rc<Listener>, socket: QuicSocket) -> io::Result<Option<Self>> {
        let config = listener.terms.tls.as_ref().and_then(|tls| tls.current().quic.clone());
        let endpoint = match (socket, config) {
            (QuicSocket::New(socket), Some(config)) => quic::open(socket, &config)?,
            (QuicSocket::Open(endpoint), Some(_)) => endpoint,
            (QuicSocket::Open(endpoint), None) => {
                retire_endpoint(&endpoint);
                return Ok(None);
            }
            (QuicSocket::New(_), None) => return Ok(None),
        };
        let (halt, halted) = oneshot::channel();
        let task =
            spawn_local(accept_quic::accept(worker.clone(), listener.clone(), endpoint.clone(), halted));
        Ok(Some(Self { endpoint, halt, task }))
    }
}

/// Lets nobody in any more. The socket is closed when the last connection has ended.
fn retire_endpoint(endpoint: &Endpoint) {
    endpoint.set_server_config(None);
}

impl ListeningSockets {
    /// None yet.
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        Self { worker, open: HashMap::new() }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// The runtime does not take the socket: out of memory, most likely. The other workers accept there.
    pub(crate) async fn make(&mut self, change: ListenerChange) -> io::Result<()> {
        match change {
            ListenerChange::Open { id, terms, sockets, quic } => {
                let quic = quic.map(QuicSocket::New);
                self.open.insert(id, Listening::open(&self.worker, terms, sockets, quic)?);
            }
            ListenerChange::Terms { id, terms, retire, quic } => {
                let Some(listening) = self.open.remove(&id) else { return Ok(()) };
                let (former, sockets, endpoint) = listening.halt(&self.worker).await?;
                let quic = endpoint.map(QuicSocket::Open).or(quic.map(QuicSocket::New));
                self.open.insert(id, Listening::open(&self.worker, terms, sockets, quic)?);
                if retire {
                    former.retire();
                }
            }
            ListenerChange::Quic { id, socket } => {
                // A reload may have been faster.
                if let Some(listening) = self.open.get_mut(&id).filter(|it| it.quic.is_none()) {
                    let socket = QuicSocket::New(socket);
                    listening.quic = AcceptingQuic::open(&self.worker, &listening.listener, socket)?;
                }
            }
            ListenerChange::Close { id } => {
                let Some(listening) = self.open.remove(&id) else { return Ok(()) };
                let (former, sockets, endpoint) = listening.halt(&self.worker).await?;
                drop(sockets);
                endpoint.iter().for_each(retire_endpoint);
                former.retire();
            }
        }
        Ok(())
    }

    /// The certificates in use.
    pub(crate) fn secured(&self) -> Vec<TlsListener> {
        self.open.values().filter_map(|it| it.listener.terms.tls.clone()).collect()
    }

    /// Copies of all sockets: with one, another process listens too.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn copies(&self) -> io::Result<Vec<(ListenerId, OwnedFd)>> {
        let all = self.open.iter().flat_map(|(id, it)| it.sockets.iter().map(|it| (*id, &it.socket)));
        all.map(|(id, socket)| Ok((id, socket.as_fd().try_clone_to_owned()?))).collect()
    }

    /// Accepts no more at all, but for those that wait already: the kernel would reset them with the socket. `retire`: connections end
    /// with their next request, and not before.
    pub(crate) async fn close(self, retire: bool) {
        for (_, listening) in self.open {
            // The socket is dropped, as soon as nobody waits there.
            match listening.halt(&self.worker).await {
                Ok((listener, _, endpoint)) => {
                    endpoint.iter().for_each(retire_endpoint);
                    if retire {
                        listener.retire();
                    }
                }
                Err(cause) => {
                    tracing::warn!(%cause, "connections that waited at a listener that ends are lost");
                }
            }
        }
        if retire {
            // Connections in HTTP/2 tell their clients.
            self.worker.connections.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        route::Plan,
        tests::cluster::{config, plain},
        upstream::{breaks::Breaks, foreign::ForeignServers},
        worker::{Setup, picture::Picture},
    };
    use common::hub_age::LastHeard;
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpStream},
        sync::Arc,
        time::Duration,
    };
    use tokio::{
        sync::watch,
        task::{LocalSet, spawn_blocking},
    };

    const ID: ListenerId = ListenerId(0);

    fn worker() -> Rc<Worker> {
        let config = Arc::new(config(&[]));
        let foreign = Arc::new(
            ForeignServers::new((&config.clusters[1], &"web-a".into()), plain().key(), None).unwrap(),
        );
        let plan = Plan {
            breaks: Arc::new(Breaks::new(&config)),
            foreign,
            config,
            limit_tables: Arc::default(),
            access: Arc::default(),
            cache: None,
            pages: Arc::default(),
        };
        Rc::new(Worker::new(&Setup {
            acme: acme::Live::default(),
            plan,
            me: "web-a".into(),
            workers: 1,
            number: 0,
            clients_max: 1000,
            credentials: plain(),
            members: watch::channel(Arc::default()).1,
            picture: Picture::new(1),
            heard: LastHeard::never(),
            counters: Arc::default(),
            access_log: None,
            spans: None,
        }))
    }

    fn terms(proxy_protocol: bool) -> Terms {
        Terms { tls: None, proxy_protocol, h2c: false, alt_svc: None, tcp: None }
    }

    fn bound() -> (std::net::TcpListener, SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// What is answered to clients that have connected already.
    async fn answers(clients: Vec<TcpStream>) -> Vec<String> {
        let asking = spawn_blocking(move || {
            let ask = |mut client: TcpStream| {
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                // One that is refused may see a reset.
                let _ = client.read_to_string(&mut answer);
                answer.lines().next().unwrap_or_default().to_owned()
            };
            clients.into_iter().map(ask).collect()
        });
        asking.await.unwrap()
    }

    #[tokio::test]
    async fn clients_that_wait_at_a_socket_that_closes_are_served() {
        let local = LocalSet::new();
        let served = local.run_until(async {
            let (mut sockets, (socket, address)) = (ListeningSockets::new(worker()), bound());
            sockets
                .make(ListenerChange::Open { id: ID, terms: terms(false), sockets: vec![socket], quic: None })
                .await
                .unwrap();
            // Nobody has accepted yet: this thread is here.
            let clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
            sockets.make(ListenerChange::Close { id: ID }).await.unwrap();
            assert!(TcpStream::connect(address).is_err());
            answers(clients).await
        });
        let served = served.await;
        assert_eq!(served, vec!["HTTP/1.1 503 Service Unavailable"; 50]);
    }

    #[tokio::test]
    async fn clients_that_wait_when_all_sockets_close_are_served() {
        let local = LocalSet::new();
        let served = local.run_until(async {
            let mut sockets = ListeningSockets::new(worker());
            let (mut clients, mut closed) = (Vec::new(), Vec::new());
            for id in [ListenerId(0), ListenerId(1)] {
                let (socket, address) = bound();
                sockets
                    .make(ListenerChange::Open { id, terms: terms(false), sockets: vec![socket], quic: None })
                    .await
                    .unwrap();
                clients.extend((0..25).map(|_| TcpStream::connect(address).unwrap()));
                closed.push(address);
            }
            sockets.close(false).await;
            assert!(closed.into_iter().all(|address| TcpStream::connect(address).is_err()));
            answers(clients).await
        });
        let served = served.await;
        assert_eq!(served, vec!["HTTP/1.1 503 Service Unavailable"; 50]);
    }

    #[tokio::test]
    async fn clients_that_wait_get_the_terms_under_which_they_came() {
        let local = LocalSet::new();
        let served = local.run_until(async {
            let (mut sockets, (socket, address)) = (ListeningSockets::new(worker()), bound());
            sockets
                .make(ListenerChange::Open { id: ID, terms: terms(false), sockets: vec![socket], quic: None })
                .await
                .unwrap();
            let before = vec![TcpStream::connect(address).unwrap()];
            sockets
                .make(ListenerChange::Terms { id: ID, terms: terms(true), retire: true, quic: None })
                .await
                .unwrap();
            let after = vec![TcpStream::connect(address).unwrap()];
            let served = (answers(before).await, answers(after).await);
            sockets.close(false).await;
            assert!(TcpStream::connect(address).is_err());
            served
        });
        let (before, after) = served.await;
        assert_eq!((before[0].as_str(), after[0].as_str()), ("HTTP/1.1 503 Service Unavailable", ""));
    }

    #[tokio::test]
    async fn a_listener_that_is_not_there_is_not_changed() {
        let mut sockets = ListeningSockets::new(worker());
        sockets.make(ListenerChange::Close { id: ID }).await.unwrap();
        sockets
            .make(ListenerChange::Terms { id: ID, terms: terms(true), retire: false, quic: None })
            .await
            .unwrap();
        assert!(sockets.secured().is_empty());
    }
}

//! A worker's listening sockets, as reloads open them, change their terms and close them.

use crate::{
    listen::accept::{accept, drain},
    transport::{
        listener::{Listener, Terms},
        tls::TlsListener,
    },
    worker::Worker,
};
use std::{collections::HashMap, io, rc::Rc};
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
    /// Accept on this socket too.
    Open { id: ListenerId, terms: Terms, socket: std::net::TcpListener },
    /// Connections that come from now on get these terms. `retire`: those of the old terms are to end soon.
    Terms { id: ListenerId, terms: Terms, retire: bool },
    /// Accept no more. Connections that wait already are served, and those that are open end soon.
    Close { id: ListenerId },
}

/// All of them.
#[derive(Debug)]
pub(crate) struct ListeningSockets {
    worker: Rc<Worker>,
    open: HashMap<ListenerId, ListeningSocket>,
}

#[derive(Debug)]
struct ListeningSocket {
    listener: Rc<Listener>,
    halt: oneshot::Sender<()>,
    accepting: JoinHandle<TcpListener>,
}

impl ListeningSocket {
    fn open(worker: &Rc<Worker>, terms: Terms, socket: std::net::TcpListener) -> io::Result<Self> {
        let listener = Rc::new(Listener::new(terms, socket.local_addr()?.port()));
        let socket = TcpListener::from_std(socket)?;
        let (halt, halted) = oneshot::channel();
        let accepting = spawn_local(accept(worker.clone(), listener.clone(), socket, halted));
        Ok(Self { listener, halt, accepting })
    }

    /// Accepts no more, but for those that wait already: they are served on the terms under which they came.
    async fn halt(self, worker: &Rc<Worker>) -> io::Result<(Rc<Listener>, std::net::TcpListener)> {
        let _ = self.halt.send(());
        let socket = self.accepting.await.map_err(io::Error::other)?.into_std()?;
        drain(worker, &self.listener, &socket);
        Ok((self.listener, socket))
    }
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
            ListenerChange::Open { id, terms, socket } => {
                self.open.insert(id, ListeningSocket::open(&self.worker, terms, socket)?);
            }
            ListenerChange::Terms { id, terms, retire } => {
                let Some(listening) = self.open.remove(&id) else { return Ok(()) };
                let (former, socket) = listening.halt(&self.worker).await?;
                self.open.insert(id, ListeningSocket::open(&self.worker, terms, socket)?);
                if retire {
                    former.retire();
                }
            }
            ListenerChange::Close { id } => {
                let Some(listening) = self.open.remove(&id) else { return Ok(()) };
                let (former, socket) = listening.halt(&self.worker).await?;
                drop(socket);
                former.retire();
            }
        }
        Ok(())
    }

    /// The certificates in use.
    pub(crate) fn secured(&self) -> Vec<TlsListener> {
        self.open.values().filter_map(|it| it.listener.terms.tls.clone()).collect()
    }

    /// Accepts no more at all, but for those that wait already: the kernel would reset them with the socket.
    pub(crate) async fn close(self) {
        for (_, listening) in self.open {
            // The socket is dropped, as soon as nobody waits there.
            if let Err(cause) = listening.halt(&self.worker).await {
                tracing::warn!(%cause, "connections that waited at a listener that ends are lost");
            }
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
        let foreign = Arc::new(ForeignServers::new(&config.clusters[1], plain().key(), None).unwrap());
        let plan = Plan {
            breaks: Arc::new(Breaks::new(&config)),
            foreign,
            config,
            limit_tables: Arc::default(),
            cache: None,
        };
        Rc::new(Worker::new(&Setup {
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
        Terms { tls: None, proxy_protocol, h2c: false }
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
            sockets.make(ListenerChange::Open { id: ID, terms: terms(false), socket }).await.unwrap();
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
                sockets.make(ListenerChange::Open { id, terms: terms(false), socket }).await.unwrap();
                clients.extend((0..25).map(|_| TcpStream::connect(address).unwrap()));
                closed.push(address);
            }
            sockets.close().await;
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
            sockets.make(ListenerChange::Open { id: ID, terms: terms(false), socket }).await.unwrap();
            let before = vec![TcpStream::connect(address).unwrap()];
            sockets.make(ListenerChange::Terms { id: ID, terms: terms(true), retire: true }).await.unwrap();
            let after = vec![TcpStream::connect(address).unwrap()];
            let served = (answers(before).await, answers(after).await);
            sockets.close().await;
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
        sockets.make(ListenerChange::Terms { id: ID, terms: terms(true), retire: false }).await.unwrap();
        assert!(sockets.secured().is_empty());
    }
}

//! A worker's socket of UDP. The kernel spreads clients over the workers' sockets by their addresses; a packet for a connection of
//! another worker goes into that one's mailbox.

use super::{
    QuicKeys,
    connection_id::{ConnectionIds, destination},
};
use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    hash::RandomState,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::mpsc;

/// Packets that wait in a mailbox; beyond it they are lost, as they may be on their way.
const WAITING_MAX: usize = 1024;

/// A packet that came to another worker than its connection's.
#[derive(Debug)]
struct Stray {
    packet: Box<[u8]>,
    meta: RecvMeta,
}

/// A worker's socket before it is in use.
#[derive(Debug)]
pub(crate) struct WorkerSocket {
    socket: UdpSocket,
    ids: ConnectionIds,
    mailboxes: Arc<[mpsc::Sender<Stray>]>,
    mailbox: mpsc::Receiver<Stray>,
    keys: QuicKeys,
}

/// Shares the sockets of a listener out: one for each worker.
pub(crate) fn shares(sockets: Vec<UdpSocket>, keys: &QuicKeys) -> Vec<WorkerSocket> {
    let key = RandomState::new();
    let (mailboxes, receivers): (Vec<_>, Vec<_>) = sockets.iter().map(|_| mpsc::channel(WAITING_MAX)).unzip();
    let mailboxes: Arc<[_]> = mailboxes.into();
    let share = |(number, (socket, mailbox)): (usize, (UdpSocket, _))| WorkerSocket {
        socket,
        ids: ConnectionIds::new(key.clone(), u16::try_from(number).unwrap_or(u16::MAX)),
        mailboxes: mailboxes.clone(),
        mailbox,
        keys: keys.clone(),
    };
    sockets.into_iter().zip(receivers).enumerate().map(share).collect()
}

impl WorkerSocket {
    /// The ids of its connections.
    pub(super) fn ids(&self) -> ConnectionIds {
        self.ids.clone()
    }

    /// Where it is.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The keys of the server.
    pub(super) fn keys(&self) -> QuicKeys {
        self.keys.clone()
    }

    /// Puts it into use.
    ///
    /// # Errors
    /// The runtime does not take it.
    pub(super) fn open(self) -> io::Result<Arc<Socket>> {
        let Self { socket, ids, mailboxes, mailbox, .. } = self;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(Socket {
            socket,
            ids,
            mailboxes,
            mailbox: Mutex::new(mailbox),
            turn: AtomicBool::new(false),
        }))
    }
}

/// A worker's socket.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    ids: ConnectionIds,
    mailboxes: Arc<[mpsc::Sender<Stray>]>,
    /// Only its worker's thread reads it: nobody waits for the lock.
    mailbox: Mutex<mpsc::Receiver<Stray>>,
    /// Whether the mailbox is looked at first.
    turn: AtomicBool,
}

impl Socket {
    /// Takes a packet out of the mailbox.
    fn poll_mailbox(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<()> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        // All have a sender of it, this one too.
        let Some(Stray { packet, meta }) = ready!(mailbox.poll_recv(cx)) else { return Poll::Pending };
        if let (Some(buffer), Some(place)) = (buffers.first_mut(), metas.first_mut()) {
            let count = packet.len().min(buffer.len());
            buffer[..count].copy_from_slice(&packet[..count]);
            *place = RecvMeta { len: count, stride: count, ..meta };
        }
        Poll::Ready(())
    }

    /// Sends what is for other workers on to them, and leaves the rest at the beginning of `buffer`.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (mut kept, mut at) = (0, 0);
        while at < meta.len {
            let end = meta.len.min(at + meta.stride.max(1));
            match self.elsewhere(&buffer[at..end]) {
                Some(mailbox) => {
                    let meta = RecvMeta { len: end - at, stride: end - at, ..*meta };
                    let _full = mailbox.try_send(Stray { packet: buffer[at..end].into(), meta });
                }
                None => {
                    if kept < at {
                        buffer.copy_within(at..end, kept);
                    }
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }

    fn elsewhere(&self, packet: &[u8]) -> Option<&mpsc::Sender<Stray>> {
        let worker = self.ids.worker_of(destination(packet)?).filter(|it| !self.ids.are_of(*it))?;
        self.mailboxes.get(usize::from(worker))
    }
}

/// How many packets there were. `quinn` would give the socket up for an error, and with it all connections; the next look may find none.
fn known(count: io::Result<usize>) -> usize {
    count.unwrap_or_else(|cause| {
        tracing::debug!(%cause, "a socket of UDP can't be read");
        0
    })
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.mailboxes.len() == 1 {
            return self.socket.poll_recv(cx, buffers, metas).map(|count| Ok(known(count)));
        }
        // In turn, so that neither keeps the other waiting.
        let mailbox_first = self.turn.fetch_not(Ordering::Relaxed);
        if mailbox_first && self.poll_mailbox(cx, buffers, metas).is_ready() {
            return Poll::Ready(Ok(1));
        }
        match self.socket.poll_recv(cx, buffers, metas) {
            Poll::Ready(count) => {
                let count = known(count);
                for (buffer, meta) in buffers.iter_mut().zip(metas).take(count) {
                    self.sort(buffer, meta);
                }
                Poll::Ready(Ok(count))
            }
            Poll::Pending if !mailbox_first => self.poll_mailbox(cx, buffers, metas).map(|()| Ok(1)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

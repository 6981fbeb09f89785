//! A client's connection in HTTP/3 (RFC 9114) over QUIC: `quinn` moves streams, what is in them is read and written here. Each request
//! is a task that lives as one of HTTP/2 does, and by the same code (`stream`).

mod body;
mod control;
mod frame;
mod head;
mod qpack;
mod to_client;

use super::{
    Client, Ended, Entry,
    budget::{Budget, RESET},
    serve_timed,
    stream::{self, Asked, sides::AnswerSide, sides::Reset},
    streams::{Open, Streams},
    timed,
};
use crate::{
    error::ProxyError,
    http1::Version,
    route::trusted::Peer,
    transport::{
        listener::Listener,
        quic,
        tls::{HandshakeError, TlsConnection},
    },
    worker::{Worker, opening::Opening},
};
use body::{Body, Fault};
use frame::{
    Code, ENABLE_CONNECT_PROTOCOL, GOAWAY, LAST_REQUEST, MAX_FIELD_SECTION_SIZE, put_head, put_number,
};
use http::{Method, Request, header::CONTENT_LENGTH};
use quinn::{Connecting, RecvStream, SendStream};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};
use to_client::ToClient;
use tokio::{
    task::{spawn_local, yield_now},
    time::timeout,
};

/// How long a client may take to open the room for our control stream.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(1);

/// What is still under way when the connection is to end is waited for at least that long, and at most: requests that a client sent
/// before it knew.
const LAST_REQUESTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long the last answers may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);

/// Beyond so many answers it is looked which of them have arrived, not only whether the oldest ones have.
const UNACKNOWLEDGED_MAX: usize = 256;

/// How often it is looked how much a client takes.
const WIDEN_EVERY: Duration = Duration::from_millis(50);

/// A connection, as its streams know it.
pub(super) struct Connection {
    quic: quinn::Connection,
    worker: Rc<Worker>,
    budget: Budget,
    /// The largest section of fields.
    head_max: usize,
    /// Bytes of bodies that have gone on.
    data: Cell<u64>,
    streams: Rc<Streams>,
    /// How many requests there have been.
    requests: Cell<u64>,
    /// Answers that have been sent and may not have arrived, the oldest first: QUIC drops them when the connection is closed. No more
    /// than twice as many as a client may have streams.
    unacknowledged: RefCell<VecDeque<SendStream>>,
    /// How many bytes QUIC may hold for the client, and when that was looked at last.
    send_window: Cell<u64>,
    looked: Cell<Instant>,
}

impl Connection {
    fn new(worker: &Rc<Worker>, quic: quinn::Connection) -> Rc<Self> {
        Rc::new(Self {
            quic,
            worker: worker.clone(),
            budget: Budget::new(worker.now()),
            head_max: worker.routes().head_limits.bytes,
            data: Cell::new(0),
            streams: Streams::new(worker),
            requests: Cell::new(0),
            unacknowledged: RefCell::default(),
            send_window: Cell::new(quic::SEND_WINDOW),
            looked: Cell::new(worker.now()),
        })
    }

    /// Ends it at once.
    fn close(&self, code: Code, why: &'static str) {
        tracing::debug!(?code, why, "a client's HTTP/3 connection ends");
        self.quic.close(code.into(), why.as_bytes());
    }

    /// The client has done something that costs more than it brings.
    fn spend(&self, points: u64) {
        if !self.budget.spend(points, self.worker.now()) {
            self.close(Code::ExcessiveLoad, "too much is asked for in vain");
        }
    }

    /// An answer has been sent.
    fn answered(&self, send: SendStream) {
        self.budget.earn(RESET);
        self.forget_acknowledged();
        let mut streams = self.unacknowledged.borrow_mut();
        // One that never acknowledges its oldest answer, and all others, keeps no more of them than the rest.
        if streams.len() >= UNACKNOWLEDGED_MAX {
            streams.retain(|it| it.priority().is_ok());
        }
        streams.push_back(send);
    }

    fn forget_acknowledged(&self) {
        let mut streams = self.unacknowledged.borrow_mut();
        // A stream of which all has arrived is none any more, and has no priority.
        while streams.front().is_some_and(|it| it.priority().is_err()) {
            streams.pop_front();
        }
    }

    /// Returns when all answers have arrived.
    async fn acknowledged(&self) {
        loop {
            self.forget_acknowledged();
            let Some(oldest) = self.unacknowledged.borrow().front().map(SendStream::stopped) else { return };
            if oldest.await.is_err() {
                return;
            }
            self.unacknowledged.borrow_mut().pop_front();
        }
    }

    /// A request was made for nothing.
    fn stream_was_reset(&self) {
        self.spend(RESET);
    }

    /// So much of a body has gone on. The connection's window follows its bodies.
    fn body_came(&self, bytes: usize) {
        self.data.set(self.data.get() + bytes as u64);
        self.follow_bodies();
    }

    fn follow_bodies(&self) {
        if let Some(size) = self.streams.window.change(self.data.get()) {
            self.quic.set_receive_window(size.into());
        }
    }

    /// How long requests may take that a client has sent before it knew that the connection is to end.
    fn patience(&self) -> Duration {
        (2 * self.quic.rtt()).clamp(LAST_REQUESTS.0, LAST_REQUESTS.1)
    }

    /// Something waits for the client, which may have room for more than QUIC holds for it. A client that acknowledges nothing
    /// gets no more.
    fn widen(&self) {
        let now = self.worker.now();
        if now.saturating_duration_since(self.looked.get()) < WIDEN_EVERY {
            return;
        }
        self.looked.set(now);
        let wanted = (2 * self.quic.stats().path.cwnd).min(quic::SEND_WINDOW_MAX);
        let more = self.worker.send_room.take(wanted.saturating_sub(self.send_window.get()));
        if more > 0 {
            self.send_window.set(self.send_window.get() + more);
            self.quic.set_send_window(self.send_window.get());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.send_room.give_back(self.send_window.get() - quic::SEND_WINDOW);
    }
}

/// Serves a client's connection to its end. `opening` counts it among those that shake hands.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    connecting: Connecting,
    opening: Opening,
) {
    let entry = Entry::connection(&worker);
    let opened = entry.unless_closing(Box::pin(open(&worker, listener, connecting))).await;
    drop(opening);
    let (client, connection) = match opened {
        Some(Ok(opened)) => opened,
        Some(Err(cause)) => {
            worker.counters.handshakes_failed[cause.failure() as usize].up();
            worker.counters.connections_refused.up();
            return tracing::debug!(%cause, "a connection over QUIC is refused");
        }
        None => return,
    };
    let mut control = None;
    let ended = {
        let running = pin!(run(&client, &connection, &mut control));
        timed(&client, &entry, running).await
    };
    if let (Ended::Stuck | Ended::Late, Some(control)) = (ended, &mut control) {
        // Nobody asks for anything: the client is told, so that it asks elsewhere what it has asked by now.
        let _ = timeout(connection.patience(), Box::pin(farewell(&connection, control))).await;
    }
    connection.close(Code::NoError, "");
    // Its last packet leaves before the worker may end: the task that sends it is before this one in the queue.
    yield_now().await;
}

/// Rejects what is still asked.
async fn farewell(connection: &Connection, control: &mut SendStream) {
    goaway(control, 4 * connection.requests.get()).await;
    while let Ok(streams) = connection.quic.accept_bi().await {
        reject(streams);
    }
}

/// Shakes hands.
async fn open(
    worker: &Rc<Worker>,
    listener: Rc<Listener>,
    connecting: Connecting,
) -> Result<(Rc<Client>, Rc<Connection>), HandshakeError> {
    let limit = worker.routes().limits.head;
    let Some(tls) = &listener.terms.tls else { return Err(HandshakeError::Closed) };
    let current = tls.current();
    // The address that shakes hands has shown that it is its own. A later one (RFC 9000 §9) is only what a packet says until it has answered
    // too, and `quinn` does not tell when that is: so it names nobody.
    let to = connecting.local_ip().map(|ip| SocketAddr::new(ip, listener.port));
    let peer = Peer::new(connecting.remote_address(), to, None);
    let quic = timeout(limit, connecting).await.map_err(|_| HandshakeError::Timeout(limit))??;
    let mut client = Client::new(worker.clone(), peer, listener);
    worker.counters.handshakes.up();
    worker.counters.quic_connections.up();
    client.tls = Some(Rc::new(TlsConnection::of_quic(current, &quic)));
    Ok((Rc::new(client), Connection::new(worker, quic)))
}

/// Accepts requests until the connection ends.
async fn run(client: &Rc<Client>, connection: &Rc<Connection>, place: &mut Option<SendStream>) {
    let Ok(Some(control)) = timeout(SETTINGS_TIMEOUT, begin(connection)).await else {
        return connection.close(Code::StreamCreation, "no room for the control stream");
    };
    let control = place.insert(control);
    client.progress.answered(client.worker.now());
    spawn_local(control::listen(connection.clone()));
    loop {
        let enough = connection.requests.get() >= client.worker.routes().keepalive_max;
        let Some(streams) = accept(client, connection, enough).await else { break };
        take(client, connection, streams);
    }
    if connection.quic.close_reason().is_some() {
        return;
    }
    // What the client has asked before it knows is served.
    goaway(control, LAST_REQUEST).await;
    let late = async {
        while let Ok(streams) = connection.quic.accept_bi().await {
            take(client, connection, streams);
        }
    };
    let _ = timeout(connection.patience(), late).await;
    goaway(control, 4 * connection.requests.get()).await;
    finish(connection).await;
    let _ = timeout(ARRIVAL_MAX, connection.acknowledged()).await;
}

/// Rejects what still comes, and returns when nothing is under way.
async fn finish(connection: &Connection) {
    loop {
        let mut coming = pin!(connection.quic.accept_bi());
        let accepted = poll_fn(|cx| {
            connection.streams.waker.set(Some(cx.waker().clone()));
            if connection.streams.open.get() == 0 {
                return Poll::Ready(None);
            }
            coming.as_mut().poll(cx).map(Result::ok)
        });
        let Some(streams) = accepted.await else { return };
        reject(streams);
    }
}

fn reject((mut send, mut recv): (SendStream, RecvStream)) {
    let _ = send.reset(Code::RequestRejected.into());
    let _ = recv.stop(Code::RequestRejected.into());
}

/// The next request; `None` when the connection is to end, or has.
async fn accept(client: &Client, connection: &Connection, enough: bool) -> Option<(SendStream, RecvStream)> {
    let mut coming = pin!(connection.quic.accept_bi());
    poll_fn(|cx| {
        connection.follow_bodies();
        if enough || client.ends_soon() {
            return Poll::Ready(None);
        }
        coming.as_mut().poll(cx).map(Result::ok)
    })
    .await
}

fn take(client: &Rc<Client>, connection: &Rc<Connection>, (send, recv): (SendStream, RecvStream)) {
    connection.requests.set(connection.requests.get() + 1);
    let open = Open::new(&connection.streams, client, false);
    let client = client.stream();
    let gone = Rc::new(Cell::new(false));
    let (to_client, body) = (ToClient::new(send, connection, &gone), Body::new(recv, connection, gone));
    spawn_local(Box::pin(serve_stream(client, to_client, body, open)));
}

/// Opens the control stream (RFC 9114 §6.2.1).
async fn begin(connection: &Connection) -> Option<SendStream> {
    let mut control = connection.quic.open_uni().await.ok()?;
    let mut settings = Vec::new();
    put_number(&mut settings, MAX_FIELD_SECTION_SIZE);
    put_number(&mut settings, connection.head_max as u64);
    put_number(&mut settings, ENABLE_CONNECT_PROTOCOL);
    put_number(&mut settings, 1);
    // One that means nothing, so that nobody comes to rely on there being none (RFC 9114 §7.2.4.1).
    put_number(&mut settings, 0x21 + 0x1f * u64::from(rand::random::<u16>()));
    put_number(&mut settings, rand::random::<u32>().into());
    let mut out = Vec::new();
    put_number(&mut out, frame::CONTROL);
    put_head(&mut out, frame::SETTINGS, settings.len());
    out.extend_from_slice(&settings);
    control.write_all(&out).await.ok()?;
    Some(control)
}

/// Says that no request from stream `id` on is served.
async fn goaway(control: &mut SendStream, id: u64) {
    let (mut number, mut out) = (Vec::new(), Vec::new());
    put_number(&mut number, id);
    put_head(&mut out, GOAWAY, number.len());
    out.extend_from_slice(&number);
    let _ = timeout(SETTINGS_TIMEOUT, control.write_all(&out)).await;
}

/// Serves a stream under its time-outs: like a connection of its own.
async fn serve_stream(client: Rc<Client>, mut to_client: ToClient, mut body: Body, mut open: Open) {
    let connection = open.connection();
    serve_timed(&client, &mut to_client, async |to_client| match read(&client, &mut body).await {
        Ok(asked) => {
            if !asked.ends {
                open.uploads();
            }
            stream::serve(&client, asked, body, to_client, connection).await;
        }
        Err(Fault::Malformed(why)) => {
            tracing::debug!(why, "a request of HTTP/3 is malformed");
            to_client.reset(Reset::Malformed);
        }
        Err(Fault::Incomplete) => to_client.reset_with(Code::RequestIncomplete),
        Err(Fault::Gone | Fault::Closed) => {}
    })
    .await;
}

/// Reads a request's head, and whether that is all of it.
async fn read(client: &Client, body: &mut Body) -> Result<Asked, Fault> {
    let head = poll_fn(|cx| body.poll_head(cx)).await?;
    let Some(request) = head else {
        return Ok(Asked::unreadable(client, Version::Http3, ProxyError::HeadTooLarge));
    };
    let length = length_of(&request)?;
    body.set_length(length);
    let more = poll_fn(|cx| match body.poll_more(cx) {
        // Its end may be in another packet. Who asks so sends no body most often, and none without a length.
        Poll::Pending if length.is_none() && has_no_body(request.method()) => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(true)),
        Poll::Ready(more) => Poll::Ready(more),
    });
    let ends = !more.await?;
    if ends && length.is_some_and(|length| length > 0) {
        return Err(Fault::Malformed("less body than Content-Length says"));
    }
    Asked::read(client, &request, Version::Http3, ends)
        .map_err(|stream::Malformed(why)| Fault::Malformed(why))
}

/// What a request says of its body's length, where it says one (RFC 9114 §4.1.2).
fn length_of(request: &Request<()>) -> Result<Option<u64>, Fault> {
    let mut said = None;
    for value in request.headers().get_all(CONTENT_LENGTH) {
        let bytes = value.as_bytes();
        let digits = bytes.iter().all(u8::is_ascii_digit);
        let length = str::from_utf8(bytes).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
        match length {
            Some(length) if said.is_none_or(|said| said == length) => said = Some(length),
            _ => return Err(Fault::Malformed("a Content-Length that is none")),
        }
    }
    Ok(said)
}

fn has_no_body(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(method)
}

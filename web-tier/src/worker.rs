//! A worker: one thread, one runtime, and all that its requests share. Nothing here is seen by another thread but the counters
//! (read only) and the watches of members and stop.

use crate::{
    accept,
    breaks::Breaks,
    connection::Connections,
    counters::Counters,
    deadline::Limits,
    host::Hosts,
    request_id::RequestIds,
    saved::Shelf,
    upstream::{Upstream, Upstreams},
};
use common::{
    cluster_port::ClusterKey,
    config::Config,
    hub_age::{self, LastHeard},
    id::ServerId,
};
use http::HeaderValue;
use hyper::server::conn::http1;
use proto::hub::v1::Member;
use std::{
    cell::{Cell, RefCell},
    io,
    net::TcpListener,
    rc::Rc,
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};
use tokio::{runtime, sync::watch, task::spawn_local};

/// How far a worker's clock may lag: time-outs are seconds, and reading the time for each read and write is not free.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// How many tasks run before the sockets are looked at again, if there are as many. A request takes four: with tokio's 61 a
/// busy worker would make a system call every 15 requests in the middle of its work.
const EVENT_INTERVAL: u32 = 256;

/// The most that is read ahead or held back of one message, each way. hyper's own 400 KiB would let idle-looking clients hold
/// gigabytes.
pub(crate) const BUFFER_MAX: usize = 64 * 1024;

/// `header-max`'s bytes: hyper answers 431 beyond it, and beyond 100 headers. To say 100 as well would cost: hyper has a faster
/// path for its default.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) me: ServerId,
    /// How many workers share the server's limits.
    pub(crate) workers: usize,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) key: ClusterKey,
    pub(crate) breaks: Arc<Breaks>,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    pub(crate) heard: LastHeard,
    pub(crate) counters: Arc<Counters>,
    /// The instant at which what is left is closed, once there is one.
    pub(crate) stop: watch::Receiver<Option<tokio::time::Instant>>,
}

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) hosts: Hosts,
    pub(crate) upstreams: Vec<Rc<Upstream>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) http: http1::Builder,
    pub(crate) connections: Connections,
    pub(crate) request_ids: RequestIds,
    pub(crate) shelf: Shelf,
    now: Cell<Instant>,
    heard: LastHeard,
    /// Written at each tick, not for each request.
    hub_age: RefCell<Option<HeaderValue>>,
}

impl Worker {
    fn new(setup: &Setup) -> Self {
        let mut upstreams =
            Upstreams::new(&setup.config, &setup.me, &setup.key, setup.workers, &setup.breaks);
        let (cluster, server) = setup.config.server(&setup.me).expect("checked by WebTier::start");
        let hosts = Hosts::new(cluster, &mut upstreams);
        let upstreams = upstreams.into_list();
        let silence = upstreams.iter().map(|upstream| upstream.shortest_silence()).min();
        Self {
            hosts,
            upstreams,
            counters: setup.counters.clone(),
            limits: Limits::new(server, silence.unwrap_or(Duration::MAX)),
            http: http(),
            connections: Connections::default(),
            request_ids: RequestIds::new(),
            shelf: Shelf::default(),
            now: Cell::new(Instant::now()),
            heard: setup.heard.clone(),
            hub_age: RefCell::default(),
        }
    }

    /// The time, at most [`CLOCK_TICK`] old.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// `copal-hub-age` as of the last tick; `None`: the hub was never heard.
    pub(crate) fn hub_age(&self) -> Option<HeaderValue> {
        self.hub_age.borrow().clone()
    }

    /// Whether an app server that heard from the hub `other` ago is cut off: this server hears it.
    pub(crate) fn hears_more_than(&self, other: Duration) -> bool {
        self.heard.age(self.now()).is_some_and(|own| hub_age::is_ahead(own, other))
    }

    fn write_hub_age(&self, now: Instant) {
        let age = self.heard.age(now).map(hub_age::format);
        *self.hub_age.borrow_mut() = age.and_then(|age| HeaderValue::from_bytes(age.as_bytes()).ok());
    }

    /// Reads the clock.
    pub(crate) fn read_clock(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }
}

/// How clients are spoken to. Header and idle time-outs are ours (`deadline`): hyper's would cost a timer a request.
fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER_MAX).max_header_size(HEADER_BYTES_MAX);
    http
}

/// Runs a worker on the present thread, until `setup.stop`. `ready` hears once whether it stands. Returns the number of
/// connections that it had to cut.
pub(crate) fn run(setup: Setup, ready: &SyncSender<io::Result<()>>) -> u64 {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(EVENT_INTERVAL).build_local(Default::default());
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(setup, ready)),
        Err(cause) => Err(cause),
    };
    // The runtime is gone here, and with it every connection.
    outcome.unwrap_or_else(|cause| {
        let _ = ready.send(Err(cause));
        0
    })
}

async fn serve(mut setup: Setup, ready: &SyncSender<io::Result<()>>) -> io::Result<u64> {
    let worker = Rc::new(Worker::new(&setup));
    spawn_local(tick(worker.clone()));
    spawn_local(follow_members(worker.clone(), setup.members));
    let mut accepting = Vec::new();
    for listener in setup.listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accepting.push(spawn_local(accept::accept(worker.clone(), listener)));
    }
    let _ = ready.send(Ok(()));
    // An error means that the WebTier was dropped: stop at once.
    let deadline = setup.stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
    for task in accepting {
        task.abort();
        let _ = task.await;
    }
    if let Some(deadline) = deadline {
        let _ = tokio::time::timeout_at(deadline, worker.connections.finish()).await;
    }
    Ok(worker.connections.count())
}

async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(CLOCK_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let now = worker.read_clock();
        worker.write_hub_age(now);
        for upstream in &worker.upstreams {
            upstream.settle();
        }
    }
}

async fn follow_members(worker: Rc<Worker>, mut members: watch::Receiver<Arc<Vec<Member>>>) {
    loop {
        let seen = members.borrow_and_update().clone();
        let mut gone = false;
        for upstream in &worker.upstreams {
            gone |= upstream.members_changed(&seen);
        }
        if gone {
            // Requests that wait for the server look for themselves: a list of them would cost each request.
            worker.connections.wake();
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}

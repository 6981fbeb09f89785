//! A worker: one thread, one runtime, and all that its requests share. Nothing here is seen by another thread but the counters
//! (read only) and the watches of members and stop.

use crate::{
    accept,
    access_log::{AccessLog, LogPipe},
    breaks::Breaks,
    buffer::Buffers,
    connection::Connections,
    counters::Counters,
    foreign::ForeignServers,
    http1::{RequestHead, ResponseHead},
    listener::Listener,
    picture::Picture,
    request_id::RequestIds,
    routes::Routes,
    shelf::Shelf,
    tls,
    trace_context::Traces,
};
use common::{
    cluster_port::ClusterKey,
    config::Config,
    hub_age::{self, AgeText, LastHeard},
    id::ServerId,
};
use proto::hub::v1::Member;
use std::{
    cell::{Cell, RefCell},
    io,
    net::TcpListener,
    rc::Rc,
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant, SystemTime},
};
use tokio::{runtime, sync::watch, task::spawn_local};

/// How far a worker's clock may lag: time-outs are seconds, and reading the time for each read and write is not free.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// How many tasks run before the sockets are looked at again, if there are as many. A request takes four: with tokio's 61 a
/// busy worker would make a system call every 15 requests in the middle of its work.
const EVENT_INTERVAL: u32 = 256;

/// What all workers go by, until the file is read again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Arc<Config>,
    /// Of all servers of the file.
    pub(crate) breaks: Arc<Breaks>,
    /// Those of the rules of this server's cluster.
    pub(crate) foreign: Arc<ForeignServers>,
}

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) me: ServerId,
    /// How many workers share the server's limits.
    pub(crate) workers: usize,
    /// Its number, from 0.
    pub(crate) number: usize,
    /// What is spoken there, and this worker's socket.
    pub(crate) listeners: Vec<(Listener, TcpListener)>,
    pub(crate) key: ClusterKey,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    /// Where it says which members it goes by.
    pub(crate) picture: Picture,
    pub(crate) heard: LastHeard,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<LogPipe>,
    /// New ones, as they come; this server is in the configuration of each.
    pub(crate) plans: watch::Receiver<Plan>,
    /// How many reloads the workers have made.
    pub(crate) reloaded: watch::Sender<u64>,
    /// The instant at which what is left is closed, once there is one.
    pub(crate) stop: watch::Receiver<Option<tokio::time::Instant>>,
}

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    routes: RefCell<Rc<Routes>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connections: Connections,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) request_ids: RequestIds,
    pub(crate) traces: Traces,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) request_heads: Shelf<Box<RequestHead>>,
    pub(crate) response_heads: Shelf<Box<ResponseHead>>,
    /// The time as `Date` has it.
    pub(crate) date: Cell<Date>,
    wall: Cell<SystemTime>,
    now: Cell<Instant>,
    heard: LastHeard,
    /// `copal-hub-age`, written at each tick, not for each request; `None`: the hub was never heard.
    pub(crate) hub_age: Cell<Option<AgeText>>,
}

impl Worker {
    fn new(setup: &Setup) -> Self {
        Self {
            routes: RefCell::new(Rc::new(Routes::new(setup))),
            counters: setup.counters.clone(),
            connections: Connections::default(),
            access_log: setup.access_log.clone().map(AccessLog::new),
            request_ids: RequestIds::new(),
            traces: Traces::new(),
            buffers: Rc::default(),
            request_heads: Shelf::default(),
            response_heads: Shelf::default(),
            date: Cell::new(date(SystemTime::now())),
            wall: Cell::new(SystemTime::now()),
            now: Cell::new(Instant::now()),
            heard: setup.heard.clone(),
            hub_age: Cell::default(),
        }
    }

    /// What the configuration says now. A request keeps what it began with.
    pub(crate) fn routes(&self) -> Rc<Routes> {
        self.routes.borrow().clone()
    }

    /// Goes by a new configuration from the next request on.
    fn reload(&self, setup: &Setup) {
        let routes = Routes::new(setup).keeping(&self.routes());
        let members = setup.members.borrow().clone();
        for upstream in &routes.upstreams {
            upstream.members_changed(&members);
        }
        *self.routes.borrow_mut() = Rc::new(routes);
    }

    /// The time of day, at most [`CLOCK_TICK`] old.
    pub(crate) fn wall(&self) -> SystemTime {
        self.wall.get()
    }

    /// The time, at most [`CLOCK_TICK`] old.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Whether an app server that heard from the hub `other` ago is cut off: this server hears it.
    pub(crate) fn hears_more_than(&self, other: Duration) -> bool {
        self.heard.age(self.now()).is_some_and(|own| hub_age::is_ahead(own, other))
    }

    /// Reads the clock.
    pub(crate) fn read_clock(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }
}

/// RFC 9110 §5.6.7, always of this length.
pub(crate) type Date = [u8; 29];

fn date(time: SystemTime) -> Date {
    httpdate::fmt_http_date(time).into_bytes().try_into().expect("a date of the present has 29 bytes")
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
    spawn_local(follow_members(worker.clone(), setup.members.clone(), setup.picture.clone(), setup.number));
    spawn_local(follow_foreign(worker.clone(), setup.plan.foreign.news()));
    let mut accepting = Vec::new();
    let secured: Vec<_> = setup.listeners.iter().filter_map(|(listener, _)| listener.tls.clone()).collect();
    // The certificates are shared, and so are foreign servers: one worker looks after them.
    if setup.number == 0 {
        spawn_local(tls::watch(secured, tls::INTERVAL));
        spawn_local(watch_foreign(setup.plans.clone()));
    }
    for (mut listener, socket) in std::mem::take(&mut setup.listeners) {
        listener.port = socket.local_addr()?.port();
        let socket = tokio::net::TcpListener::from_std(socket)?;
        accepting.push(spawn_local(accept::accept(worker.clone(), Rc::new(listener), socket)));
    }
    let _ = ready.send(Ok(()));
    let mut stop = setup.stop.clone();
    let following = spawn_local(follow_plans(worker.clone(), setup));
    // An error means that the WebTier was dropped: stop at once.
    let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
    following.abort();
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
        worker.hub_age.set(worker.heard.age(now).map(hub_age::format));
        let time = SystemTime::now();
        worker.wall.set(time);
        worker.date.set(date(time));
        if let Some(log) = &worker.access_log {
            log.tick(time);
        }
        let routes = worker.routes();
        for upstream in routes.upstreams.iter().chain(&routes.foreign) {
            upstream.settle();
        }
    }
}

/// Takes over each configuration that comes.
async fn follow_plans(worker: Rc<Worker>, mut setup: Setup) {
    while setup.plans.changed().await.is_ok() {
        setup.plan = setup.plans.borrow_and_update().clone();
        worker.reload(&setup);
        setup.reloaded.send_modify(|reloaded| *reloaded += 1);
    }
}

async fn follow_members(
    worker: Rc<Worker>,
    mut members: watch::Receiver<Arc<Vec<Member>>>,
    picture: Picture,
    number: usize,
) {
    loop {
        let seen = members.borrow_and_update().clone();
        let mut gone = false;
        for upstream in &worker.routes().upstreams {
            gone |= upstream.members_changed(&seen);
        }
        if gone {
            // Requests that wait for the server look for themselves: a list of them would cost each request.
            worker.connections.wake();
        }
        picture.note(number, seen);
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// Looks after the foreign servers, for all workers.
async fn watch_foreign(mut plans: watch::Receiver<Plan>) {
    loop {
        let foreign = plans.borrow_and_update().foreign.clone();
        let watching = spawn_local(foreign.watch());
        let changed = plans.changed().await;
        watching.abort();
        if changed.is_err() {
            return;
        }
    }
}

/// Takes over what is known of foreign servers. It is told by all plans alike.
async fn follow_foreign(worker: Rc<Worker>, mut news: watch::Receiver<()>) {
    loop {
        news.borrow_and_update();
        for upstream in &worker.routes().foreign {
            upstream.foreign_changed();
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

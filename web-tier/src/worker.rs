//! A worker: one thread, one runtime, and all that its requests share. Nothing here is seen by another thread but the counters
//! (read only), the watches of members and stop, and what a reload tells it.

use crate::{
    access_log::{AccessLog, LogPipe, Records},
    breaks::Breaks,
    buffer::Buffers,
    connection::{BodyRoom, Connections},
    counters::Counters,
    doors::{DoorChange, Doors},
    foreign::{ForeignServers, ForeignWatch},
    http1::{RequestHead, ResponseHead},
    notable::Notable,
    picture::Picture,
    recent::Recent,
    request_id::RequestIds,
    routes::Routes,
    seldom::Seldom,
    shelf::Shelf,
    stalled::StalledAnswers,
    status::{Asked, WorkerReport},
    tls::{self, TlsListener},
    trace_context::Traces,
    upstream::Upstream,
};
use cluster_port::Credentials;
use common::{
    config::Config,
    hub_age::{self, AgeText, LastHeard},
    id::ServerId,
    witness::TIMES,
};
use proto::hub::v1::Member;
use std::{
    cell::{Cell, RefCell},
    io,
    rc::{Rc, Weak},
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_local},
    time::sleep_until,
};
use traces::Exporter;

/// How far a worker's clock may lag: time-outs are seconds, and reading the time for each read and write is not free.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// Between the end of the listeners and that of idle connections.
const LAST_REQUESTS: Duration = Duration::from_millis(100);

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
    /// How many connections of clients there may be, over all workers.
    pub(crate) clients_max: usize,
    /// The listeners that it begins with.
    pub(crate) doors: Vec<DoorChange>,
    pub(crate) credentials: Credentials,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    /// Where it says which members it goes by.
    pub(crate) picture: Picture,
    pub(crate) heard: LastHeard,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<LogPipe>,
    /// Where spans of requests go, if anywhere.
    pub(crate) spans: Option<Exporter>,
    /// New configurations, as they come.
    pub(crate) reloads: mpsc::Receiver<Reload>,
    /// Who wants to know how it is.
    pub(crate) asked: mpsc::Receiver<Asked>,
    /// The instant at which what is left is closed, once there is one.
    pub(crate) stop: watch::Receiver<Option<tokio::time::Instant>>,
}

/// What a worker is told by a reload.
#[derive(Debug)]
pub(crate) struct Reload {
    /// This server is in its configuration.
    pub(crate) plan: Plan,
    pub(crate) doors: Vec<DoorChange>,
    pub(crate) access_log: LogChange,
    /// Is told when the worker goes by it.
    pub(crate) done: oneshot::Sender<()>,
}

/// What a reload makes of a worker's access log.
#[derive(Debug, Clone)]
pub(crate) enum LogChange {
    /// It stays.
    None,
    /// Lines of requests that end from now on go to this one, or nowhere.
    To(Option<LogPipe>),
}

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    routes: RefCell<Rc<Routes>>,
    /// Clusters and foreign backends of former configurations, which requests still use.
    former: RefCell<Vec<Weak<Upstream>>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connections: Connections,
    /// How many connections of clients it may have.
    pub(crate) clients_max: u64,
    /// What clients of HTTP/2 do not take, and what they may send ahead.
    pub(crate) stalled: Rc<StalledAnswers>,
    pub(crate) body_room: Rc<BodyRoom>,
    /// What is to be said of connections that wait for room, of connects that this machine was too short of something for, and of
    /// slow requests that made room for others.
    pub(crate) full: Seldom,
    pub(crate) short: Seldom,
    pub(crate) slow: Seldom,
    pub(crate) access_log: RefCell<Option<AccessLog>>,
    pub(crate) records: Records,
    /// Where spans of requests go, if anywhere.
    pub(crate) spans: Option<Exporter>,
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
    /// What was counted in the last minute.
    recent: RefCell<Recent>,
    /// Requests that failed or took long.
    pub(crate) notable: Notable,
    /// `copal-hub-age`, written at each tick, not for each request; `None`: the hub was never heard.
    pub(crate) hub_age: Cell<Option<AgeText>>,
}

impl Worker {
    pub(crate) fn new(setup: &Setup) -> Self {
        let clients_max = (setup.clients_max / setup.workers.max(1)).max(1);
        Self {
            routes: RefCell::new(Rc::new(Routes::new(setup))),
            former: RefCell::default(),
            counters: setup.counters.clone(),
            connections: Connections::default(),
            clients_max: u64::try_from(clients_max).unwrap_or(u64::MAX),
            stalled: StalledAnswers::new(clients_max),
            body_room: Rc::default(),
            full: Seldom::default(),
            short: Seldom::default(),
            slow: Seldom::default(),
            access_log: RefCell::new(setup.access_log.clone().map(AccessLog::new)),
            records: Records::default(),
            spans: setup.spans.clone(),
            request_ids: RequestIds::new(),
            traces: Traces::new(),
            buffers: Rc::default(),
            request_heads: Shelf::default(),
            response_heads: Shelf::default(),
            date: Cell::new(date(SystemTime::now())),
            wall: Cell::new(SystemTime::now()),
            now: Cell::new(Instant::now()),
            heard: setup.heard.clone(),
            recent: RefCell::new(Recent::new(Instant::now())),
            notable: Notable::new(Instant::now()),
            hub_age: Cell::default(),
        }
    }

    /// Whether what is known of a request is wanted when it has ended.
    pub(crate) fn records_requests(&self) -> bool {
        self.spans.is_some() || self.access_log.borrow().is_some()
    }

    /// What the configuration says now. A request keeps what it began with.
    pub(crate) fn routes(&self) -> Rc<Routes> {
        self.routes.borrow().clone()
    }

    /// Goes by a new configuration from the next request on.
    fn reload(&self, setup: &Setup) {
        let before = self.routes();
        let routes = Routes::new(setup).keeping(&before);
        let members = setup.members.borrow().clone();
        for upstream in &routes.upstreams {
            upstream.members_changed(&members);
        }
        let stays = |it: &Rc<Upstream>| routes.all().any(|new| Rc::ptr_eq(it, new));
        self.former.borrow_mut().extend(before.all().filter(|it| !stays(it)).map(Rc::downgrade));
        *self.routes.borrow_mut() = Rc::new(routes);
    }

    /// The clusters and foreign backends that requests go to, or went to by a former configuration and are not done: until then
    /// they are to hear of their servers, and their idle sockets are to grow old.
    fn upstreams(&self) -> Vec<Rc<Upstream>> {
        let mut former = self.former.borrow_mut();
        former.retain(|it| it.strong_count() > 0);
        let routes = self.routes.borrow();
        routes.all().cloned().chain(former.iter().filter_map(Weak::upgrade)).collect()
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
        self.heard.age(self.now()).is_some_and(|own| TIMES.is_ahead(own, other))
    }

    /// How it is, and how it sees its servers.
    fn report(&self, number: usize) -> WorkerReport {
        let now = self.read_clock();
        let (recent, passed) = self.recent.borrow().since(now, self.counters.totals());
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let upstreams = self.routes().all().map(|it| it.report(number, now)).collect();
        WorkerReport { recent, passed, upstreams, exemplars: self.notable.exemplars() }
    }

    /// Tells what somebody wants to know; whoever has gone does not any more.
    fn tell(&self, asked: Asked, number: usize) {
        match asked {
            Asked::Status(asked) => {
                let _gone = asked.send(self.report(number));
            }
            Asked::Notable(asked) => {
                let _gone = asked.send(self.notable.report(self.read_clock()));
            }
        }
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
    let mut doors = Doors::new(worker.clone());
    for door in std::mem::take(&mut setup.doors) {
        doors.make(door).await?;
    }
    // Certificates are shared, and so are foreign servers: one worker looks after them.
    let mut caretaker = (setup.number == 0).then(Caretaker::default);
    if let Some(caretaker) = &mut caretaker {
        caretaker.go_by(&setup.plan, &doors);
    }
    let _ = ready.send(Ok(()));
    let mut stop = setup.stop.clone();
    let deadline = loop {
        let reload = tokio::select! {
            biased;
            // An error means that the WebTier was dropped: stop at once.
            stopped = stop.wait_for(Option::is_some) => break stopped.ok().and_then(|stop| *stop),
            Some(reload) = setup.reloads.recv() => reload,
            Some(asked) = setup.asked.recv() => {
                worker.tell(asked, setup.number);
                continue;
            }
        };
        follow(&worker, &mut setup, &mut doors, caretaker.as_mut(), reload).await;
    };
    doors.close().await;
    if let Some(deadline) = deadline {
        if worker.connections.count() > 0 {
            // Who was accepted a moment ago is not idle: his request is about to be read.
            sleep_until(deadline.min(tokio::time::Instant::now() + LAST_REQUESTS)).await;
        }
        let _ = tokio::time::timeout_at(deadline, worker.connections.finish()).await;
    }
    Ok(worker.connections.count())
}

/// Takes over a new configuration. The rules come first, so that no request by a new listener goes by the old ones; new listeners
/// come before old ones end.
async fn follow(
    worker: &Rc<Worker>,
    setup: &mut Setup,
    doors: &mut Doors,
    caretaker: Option<&mut Caretaker>,
    reload: Reload,
) {
    let Reload { plan, doors: changes, access_log, done } = reload;
    setup.plan = plan;
    worker.reload(setup);
    if let LogChange::To(log) = access_log {
        // The former one passes its last lines on as it is dropped.
        drop(worker.access_log.replace(log.map(AccessLog::new)));
    }
    let (opening, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change, DoorChange::Open { .. }));
    let ends = !others.is_empty();
    for change in opening.into_iter().chain(others) {
        if let Err(cause) = doors.make(change).await {
            tracing::error!(%cause, worker = setup.number, "a worker can't use a listener as the new file says");
        }
    }
    if ends {
        // Connections in HTTP/2 tell their clients.
        worker.connections.wake();
    }
    if let Some(caretaker) = caretaker {
        caretaker.go_by(&setup.plan, doors);
    }
    let _ = done.send(());
}

/// What one worker does for all: looks after the files of certificates, and after foreign servers.
#[derive(Debug, Default)]
struct Caretaker {
    foreign: ForeignWatch,
    secured: Vec<TlsListener>,
    certificates: Option<JoinHandle<()>>,
}

impl Caretaker {
    fn go_by(&mut self, plan: &Plan, doors: &Doors) {
        self.foreign.go_by(&plan.foreign);
        let secured = doors.secured();
        let is_new = |it: &TlsListener| !self.secured.iter().any(|known| known.is(it));
        if secured.len() != self.secured.len() || secured.iter().any(is_new) {
            self.secured.clone_from(&secured);
            let watching = spawn_local(tls::watch(secured, tls::INTERVAL));
            if let Some(former) = self.certificates.replace(watching) {
                former.abort();
            }
        }
    }
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
        if let Some(log) = &*worker.access_log.borrow() {
            log.tick(time);
        }
        worker.recent.borrow_mut().tick(now, || worker.counters.totals());
        worker.notable.tick(now);
        for upstream in worker.upstreams() {
            upstream.settle();
        }
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
        for upstream in worker.upstreams() {
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

/// Takes over what is known of foreign servers. It is told by all plans alike.
async fn follow_foreign(worker: Rc<Worker>, mut news: watch::Receiver<()>) {
    loop {
        news.borrow_and_update();
        for upstream in worker.upstreams() {
            upstream.foreign_changed();
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

//! What the requests of a worker share; a worker is one thread with one runtime. Nothing here is seen by another thread but the counters
//! (read only), the watches of members and stop, and what a reload tells it.

pub(crate) mod body_room;
pub(crate) mod client;
pub(crate) mod connections;
pub(crate) mod deadline;
pub(crate) mod opening;
pub(crate) mod picture;
pub(crate) mod send_room;
pub(crate) mod stalled;

use crate::{
    cache::{key::Wanted, near::Near},
    compress::Encoders,
    http1::{RequestHead, ResponseHead},
    memory::{buffer::Buffers, pipes::Pipes, shelf::Shelf},
    observe::{
        access_log::{AccessLog, LogPipes, Records},
        counters::Counters,
        notable::Notable,
        rate_limited_log::RateLimitedLog,
        recent::Recent,
        request_id::RequestIds,
        status::{Asked, WorkerReport},
        tcp_counters::TcpCounters,
        trace_context::Traces,
    },
    route::{Plan, Routes},
    upstream::Upstream,
};
use acme::Live;
use body_room::BodyRoom;
use cluster_port::Credentials;
use common::{
    hub_age::{self, AgeText, LastHeard},
    id::ServerId,
    witness::TIMES,
};
use connections::Connections;
use picture::Picture;
use proto::hub::v1::Member;
use send_room::SendRoom;
use stalled::StalledAnswers;
use std::{
    cell::{Cell, RefCell},
    io,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;
use traces::Exporter;

/// How far a worker's clock may lag: time-outs are seconds, and reading the time for each read and write is not free.
const CLOCK_TICK: Duration = Duration::from_millis(100);

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
    pub(crate) credentials: Credentials,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    /// Where it says which members it goes by.
    pub(crate) picture: Picture,
    pub(crate) heard: LastHeard,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<LogPipes>,
    /// Where spans of requests go, if anywhere.
    pub(crate) spans: Option<Exporter>,
    /// What ACME brings, and wants to be answered.
    pub(crate) acme: Live,
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
    pub(crate) send_room: SendRoom,
    /// Connections over QUIC that shake hands.
    openings: opening::Openings,
    /// What is to be said of connections that wait for room, of connects that this machine was too short of something for, and of
    /// slow requests that made room for others.
    pub(crate) full: RateLimitedLog,
    pub(crate) short: RateLimitedLog,
    pub(crate) slow: RateLimitedLog,
    /// And of backends whose certificates are not valid.
    pub(crate) distrusted: RateLimitedLog,
    /// Tells of backends of which there is no trace where the file says that they are, or none that this process may see.
    pub(crate) missing: RateLimitedLog,
    pub(crate) access_log: RefCell<Option<AccessLog>>,
    pub(crate) records: Records,
    /// Where spans of requests go, if anywhere.
    pub(crate) spans: Option<Exporter>,
    /// What ACME wants to be answered.
    pub(crate) acme: Live,
    pub(crate) request_ids: RequestIds,
    pub(crate) traces: Traces,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) request_heads: Shelf<Box<RequestHead>>,
    pub(crate) response_heads: Shelf<Box<ResponseHead>>,
    /// The time as `Date` has it.
    pub(crate) date: Cell<Date>,
    wall: Cell<Wall>,
    now: Cell<Instant>,
    heard: LastHeard,
    /// What was counted in the last minute.
    recent: RefCell<Recent>,
    /// Requests that failed or took long.
    pub(crate) notable: Notable,
    /// Of what is kept, what is asked for most, and the memory in which keys are made.
    pub(crate) near: Near,
    pub(crate) cache_key: RefCell<Wanted>,
    /// Bodies that are being compressed.
    pub(crate) encoders: Encoders,
    /// `copal-hub-age`, written at each tick, not for each request; `None`: the hub was never heard.
    pub(crate) hub_age: Cell<Option<AgeText>>,
    /// Of the `tcp-proxy` listeners that had a connection, by their names.
    tcp: RefCell<Vec<(Box<str>, Rc<TcpCounters>)>>,
    /// What has just been read of a connection that is passed on.
    pub(crate) passed_on: RefCell<Vec<u8>>,
    /// Through which much of it passes.
    pub(crate) pipes: Pipes,
}

impl Worker {
    pub(crate) fn new(setup: &Setup) -> Self {
        let clients_max = (setup.clients_max / setup.workers.max(1)).max(1);
        Self {
            routes: RefCell::new(Rc::new(Routes::new(
                &setup.plan,
                &setup.me,
                &setup.credentials,
                setup.workers,
            ))),
            former: RefCell::default(),
            counters: setup.counters.clone(),
            connections: Connections::default(),
            clients_max: u64::try_from(clients_max).unwrap_or(u64::MAX),
            stalled: StalledAnswers::new(clients_max),
            body_room: Rc::default(),
            send_room: SendRoom::default(),
            openings: opening::Openings::default(),
            full: RateLimitedLog::default(),
            short: RateLimitedLog::default(),
            slow: RateLimitedLog::default(),
            distrusted: RateLimitedLog::default(),
            missing: RateLimitedLog::default(),
            access_log: RefCell::new(setup.access_log.clone().map(AccessLog::new)),
            records: Records::default(),
            spans: setup.spans.clone(),
            acme: setup.acme.clone(),
            request_ids: RequestIds::new(),
            traces: Traces::new(),
            buffers: Rc::default(),
            request_heads: Shelf::default(),
            response_heads: Shelf::default(),
            date: Cell::new(date(SystemTime::now())),
            wall: Cell::new(Wall::at(SystemTime::now())),
            now: Cell::new(Instant::now()),
            heard: setup.heard.clone(),
            recent: RefCell::new(Recent::new(Instant::now())),
            notable: Notable::new(Instant::now()),
            near: Near::default(),
            cache_key: RefCell::default(),
            encoders: Encoders::new(setup.counters.compression.clone()),
            hub_age: Cell::default(),
            tcp: RefCell::default(),
            passed_on: RefCell::default(),
            pipes: Pipes::default(),
        }
    }

    /// Tells why a backend could not be connected to, of what mends itself only if somebody mends it: a connect that is refused is a server
    /// that is down.
    pub(crate) fn tell_of_backend(&self, cause: &io::Error) {
        match cause.kind() {
            io::ErrorKind::InvalidData => {
                if let Some(times) = self.distrusted.happened(self.now()) {
                    tracing::warn!(%cause, times, "a backend is not who it should be, or does not speak as it should");
                }
            }
            // No such name or file; `EACCES` of a socket, or of its folder.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                if let Some(times) = self.missing.happened(self.now()) {
                    tracing::warn!(%cause, times, "a backend is not where the file says that it is, or may not be spoken to");
                }
            }
            _ => {}
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
    pub(crate) fn reload(&self, setup: &Setup) {
        let before = self.routes();
        let routes = Routes::new(&setup.plan, &setup.me, &setup.credentials, setup.workers).keeping(&before);
        let members = setup.members.borrow().clone();
        for upstream in &routes.upstreams {
            upstream.members_changed(&members);
        }
        self.go_by(routes, &before);
    }

    fn go_by(&self, routes: Routes, before: &Routes) {
        let stays = |it: &Rc<Upstream>| routes.all().any(|new| Rc::ptr_eq(it, new));
        self.former.borrow_mut().extend(before.all().filter(|it| !stays(it)).map(Rc::downgrade));
        *self.routes.borrow_mut() = Rc::new(routes);
    }

    /// Services may have other servers than before.
    fn services_changed(&self) {
        let before = self.routes();
        if let Some(routes) = before.renewed() {
            self.go_by(routes, &before);
        }
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
        self.wall.get().time
    }

    /// The same in seconds since 1970.
    pub(crate) fn wall_seconds(&self) -> u64 {
        self.wall.get().seconds
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
        let tcp = self.routes().tcp.iter().map(|it| self.tcp_counters(&it.name).report(&it.name)).collect();
        WorkerReport { recent, passed, upstreams, tcp, exemplars: self.notable.exemplars() }
    }

    /// How many connections of `tcp-proxy` listeners are open.
    pub(crate) fn tcp_open(&self) -> u64 {
        self.tcp.borrow().iter().map(|(_, counters)| counters.open.read()).sum()
    }

    /// What is counted of a `tcp-proxy` listener.
    pub(crate) fn tcp_counters(&self, name: &str) -> Rc<TcpCounters> {
        let mut tcp = self.tcp.borrow_mut();
        if let Some((_, known)) = tcp.iter().find(|(known, _)| **known == *name) {
            return known.clone();
        }
        let counters = Rc::<TcpCounters>::default();
        tcp.push((name.into(), counters.clone()));
        counters
    }

    /// Tells what somebody wants to know; whoever has gone does not any more.
    pub(crate) fn tell(&self, asked: Asked, number: usize) {
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

/// The time of day, and in seconds since 1970: requests ask for these more often than the clock ticks.
#[derive(Debug, Clone, Copy)]
struct Wall {
    time: SystemTime,
    seconds: u64,
}

impl Wall {
    fn at(time: SystemTime) -> Self {
        Self { time, seconds: time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs()) }
    }
}

/// Keeps the clock, and does what is to be done a few times a second.
pub(crate) async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(CLOCK_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let now = worker.read_clock();
        worker.hub_age.set(worker.heard.age(now).map(hub_age::format));
        let time = SystemTime::now();
        worker.wall.set(Wall::at(time));
        worker.date.set(date(time));
        if let Some(log) = &*worker.access_log.borrow() {
            log.tick(time);
        }
        worker.recent.borrow_mut().tick(now, || worker.counters.totals());
        worker.notable.tick(now);
        worker.near.sweep_some();
        for upstream in worker.upstreams() {
            upstream.settle(now);
        }
    }
}

/// Takes over what the hub says of members.
pub(crate) async fn follow_members(
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
pub(crate) async fn follow_foreign(worker: Rc<Worker>, mut news: watch::Receiver<()>) {
    loop {
        news.borrow_and_update();
        for upstream in worker.upstreams() {
            upstream.foreign_changed();
        }
        worker.services_changed();
        if news.changed().await.is_err() {
            return;
        }
    }
}

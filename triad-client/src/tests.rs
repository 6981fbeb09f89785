//! The client against a hub that does as the test says: redirects, batches, refusals, silence, watches.

use super::*;
use cluster_port::{Acceptor, ClusterKey, Port, Rights, Roster};
use common::{
    config::{ClusterEncryption, Secret},
    hub_age::LastHeard,
};
use prost::Message;
use proto::hub::v1::{
    Alive, AliveAsked, AskAlive, AskLead, Author, CachesFollowed, ChangesConfirmed, ChangesTold,
    ConfirmChanges, Event, FollowCaches, HeartbeatNoted, Leads, LoadedSession, MemberAdminSet,
    MemberHeartbeat, MemberList, MemberLoad, MemberLoads, MemberStateSet, NoRoom, RegisterMember, Registered,
    SaveSession, SessionMoved, SessionOutcome, SessionOutcomes, SetMemberState, Snapshot, TellChanges,
    TouchSession, WatchEvents, WriteSessions, event,
    members_server::{Members, MembersServer},
    sessions_server::{Sessions, SessionsServer},
    watch_server::{Watch as WatchService, WatchServer},
};
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, service::Routes};

const DEADLINE: Duration = Duration::from_secs(20);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Where a watcher's events go.
type Events = mpsc::Sender<Result<Event, Status>>;

/// A hub server of the test's.
#[derive(Debug, Default)]
struct FakeServer {
    /// Answers everything with a redirect to this server.
    redirect: Option<&'static str>,
    /// Refuses a call with a write to this session.
    refuses: Option<&'static str>,
    /// Has no memory for this session.
    full: Option<&'static str>,
    /// The first call waits for this, so that others gather behind it.
    gate: Option<Notify>,
    calls: AtomicUsize,
    /// Bytes of the largest call.
    largest: AtomicUsize,
    written: Mutex<Vec<String>>,
    watches: Mutex<Vec<u64>>,
    /// A stream of events does not end, and goes on with loads all the time.
    talks: bool,
    /// Gives a sign of life when it is asked for one, on the last stream.
    vouches: Option<Mutex<Option<Events>>>,
    /// Does not lead yet.
    waits: AtomicBool,
    /// The loads of all heartbeats.
    heartbeats: Mutex<Vec<Option<u32>>>,
    beaten: Notify,
    /// How often it was asked whether it leads.
    asked: AtomicUsize,
}

impl FakeServer {
    fn check(&self) -> Result<(), Status> {
        if self.waits.load(Ordering::SeqCst) {
            return Err(Status::unavailable("the hub has no leader at the moment"));
        }
        let Some(leader) = self.redirect else { return Ok(()) };
        let mut status = Status::failed_precondition("not the leader");
        status.metadata_mut().insert("copal-leader", leader.parse().unwrap());
        Err(status)
    }
}

#[tonic::async_trait]
impl Sessions for FakeServer {
    async fn write(&self, request: Request<WriteSessions>) -> Result<Response<SessionOutcomes>, Status> {
        self.check()?;
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(gate) = &self.gate
        {
            gate.notified().await;
        }
        self.largest.fetch_max(request.get_ref().encoded_len(), Ordering::SeqCst);
        let ids: Vec<_> = request.into_inner().writes.into_iter().map(|it| id(it.write.unwrap())).collect();
        if let Some(refused) = ids.iter().find(|id| Some(id.as_str()) == self.refuses) {
            return Err(Status::invalid_argument(format!("bad session {refused}")));
        }
        self.written.lock().unwrap().extend(ids.clone());
        // The version that is answered tells which write it is for.
        let outcome = |id: String| match self.full {
            Some(full) if full == id => SessionOutcome { outcome: Some(Outcome::NoRoom(NoRoom {})) },
            _ => SessionOutcome { outcome: Some(Outcome::Version(id[1..].parse().unwrap())) },
        };
        Ok(Response::new(SessionOutcomes { outcomes: ids.into_iter().map(outcome).collect() }))
    }

    async fn load(&self, _: Request<LoadSession>) -> Result<Response<LoadedSession>, Status> {
        self.check()?;
        Ok(Response::new(LoadedSession { session: None }))
    }
}

#[tonic::async_trait]
impl WatchService for FakeServer {
    type EventsStream = ReceiverStream<Result<Event, Status>>;

    async fn follow(&self, _: Request<FollowCaches>) -> Result<Response<CachesFollowed>, Status> {
        Ok(Response::new(CachesFollowed {}))
    }

    async fn tell(&self, _: Request<TellChanges>) -> Result<Response<ChangesTold>, Status> {
        Ok(Response::new(ChangesTold {}))
    }

    async fn confirm(&self, _: Request<ConfirmChanges>) -> Result<Response<ChangesConfirmed>, Status> {
        Ok(Response::new(ChangesConfirmed {}))
    }

    async fn ask(&self, request: Request<AskAlive>) -> Result<Response<AliveAsked>, Status> {
        let stream = self.vouches.as_ref().and_then(|it| it.lock().unwrap().clone());
        if let Some(stream) = stream {
            let alive = Alive { number: request.into_inner().number };
            let _gone = stream.send(Ok(Event { revision: 1, event: Some(event::Event::Alive(alive)) })).await;
        }
        Ok(Response::new(AliveAsked {}))
    }

    /// Sends one event, then ends, or goes on with what means nothing; what was asked is noted.
    async fn events(&self, request: Request<WatchEvents>) -> Result<Response<Self::EventsStream>, Status> {
        self.check()?;
        let after = request.into_inner().after_revision;
        let round = {
            let mut watches = self.watches.lock().unwrap();
            watches.push(after);
            watches.len() as u64
        };
        let (sender, events) = mpsc::channel(4);
        let first = match after {
            0 => event::Event::Snapshot(Snapshot {
                members: vec![Member { id: "app-a".into(), ..Member::default() }],
                ..Snapshot::default()
            }),
            _ => event::Event::SessionMoved(SessionMoved { key: None, owner: round.to_string() }),
        };
        sender.send(Ok(Event { revision: round * 10, event: Some(first) })).await.unwrap();
        sender
            .send(Ok(Event { revision: round * 10, event: Some(event::Event::Alive(Alive { number: 0 })) }))
            .await
            .unwrap();
        if let Some(vouches) = &self.vouches {
            *vouches.lock().unwrap() = Some(sender.clone());
        }
        if self.talks {
            tokio::spawn(async move {
                loop {
                    let loads = event::Event::MemberLoads(MemberLoads { loads: Vec::new() });
                    if sender.send(Ok(Event { revision: 1, event: Some(loads) })).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(20 * MILLISECOND).await;
                }
            });
        }
        Ok(Response::new(ReceiverStream::new(events)))
    }
}

/// Registers all, and knows `app-a` alone.
#[tonic::async_trait]
impl Members for FakeServer {
    async fn register(&self, _: Request<RegisterMember>) -> Result<Response<Registered>, Status> {
        self.check()?;
        Ok(Response::new(Registered::default()))
    }

    async fn heartbeat(&self, request: Request<MemberHeartbeat>) -> Result<Response<HeartbeatNoted>, Status> {
        self.heartbeats.lock().unwrap().push(request.into_inner().cpu_load);
        self.beaten.notify_one();
        Ok(Response::new(HeartbeatNoted::default()))
    }

    async fn set_state(&self, _: Request<SetMemberState>) -> Result<Response<MemberStateSet>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn set_admin(&self, request: Request<SetMemberAdmin>) -> Result<Response<MemberAdminSet>, Status> {
        self.check()?;
        let SetMemberAdmin { id, admin, .. } = request.into_inner();
        if id != "app-a" {
            return Err(Status::invalid_argument(format!("id is {id:?}: expected one of app-a")));
        }
        Ok(Response::new(MemberAdminSet { member: Some(Member { id, admin, ..Member::default() }) }))
    }

    async fn list(&self, _: Request<ListMembers>) -> Result<Response<MemberList>, Status> {
        self.check()?;
        Ok(Response::new(MemberList::default()))
    }

    async fn lead(&self, _: Request<AskLead>) -> Result<Response<Leads>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        Ok(Response::new(Leads {}))
    }
}

fn id(write: Write) -> String {
    match write {
        Write::Touch(touch) => touch.key.unwrap().id,
        Write::Save(save) => save.key.unwrap().id,
        other => panic!("{other:?}"),
    }
}

fn touch(id: &str) -> Write {
    Write::Touch(TouchSession { key: Some(key(id)) })
}

fn key(id: &str) -> SessionKey {
    SessionKey { app: "test".into(), id: id.into() }
}

async fn hub(servers: Vec<(&'static str, Arc<FakeServer>)>) -> Hub {
    Hub::new(serve(servers).await)
}

/// What loopback addresses need.
fn no_key() -> Credentials {
    Credentials::new(ClusterKey::new(&Secret::default()), ClusterEncryption::BeyondLoopback)
}

/// Serves each server on a cluster port of its own; how to reach them.
async fn serve(servers: Vec<(&'static str, Arc<FakeServer>)>) -> HubConfig {
    let key = ClusterKey::new(&Secret::from(&b"a key of sixteen"[..]));
    let credentials = Credentials::new(key, ClusterEncryption::BeyondLoopback);
    let roster: Roster = [("test".into(), Rights::ALL)].into_iter().collect();
    let mut addresses = Vec::new();
    for (id, server) in servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push((ServerId::from(id), listener.local_addr().unwrap().to_string()));
        let (address, credentials) = (addresses[addresses.len() - 1].1.clone(), credentials.clone());
        let port = Port { me: id.into(), address, credentials, roster: roster.clone().fixed() };
        let mut acceptor = Acceptor::start(listener, port);
        let routes = Routes::new(SessionsServer::from_arc(server.clone()))
            .add_service(WatchServer::from_arc(server.clone()))
            .add_service(MembersServer::from_arc(server))
            .prepare();
        tokio::spawn(async move {
            while let Some(accepted) = acceptor.next().await {
                tokio::spawn(triad::serve_grpc(accepted.stream, accepted.peer, routes.clone()));
            }
        });
    }
    HubConfig { me: "test".into(), credentials, servers: addresses }
}

#[tokio::test]
async fn a_follower_names_the_leader_and_is_not_asked_again() {
    let follower = Arc::new(FakeServer { redirect: Some("b"), ..FakeServer::default() });
    let leader = Arc::new(FakeServer::default());
    let hub = hub(vec![("a", follower.clone()), ("b", leader.clone())]).await;
    assert_eq!(hub.write(touch("s1"), DEADLINE).await.unwrap(), Outcome::Version(1));
    assert_eq!(hub.write(touch("s2"), DEADLINE).await.unwrap(), Outcome::Version(2));
    assert_eq!(hub.load(key("s3"), DEADLINE).await.unwrap(), None);
    assert_eq!(*leader.written.lock().unwrap(), ["s1", "s2"]);
}

#[tokio::test]
async fn a_server_that_names_itself_and_refuses_is_passed_over() {
    let ending = Arc::new(FakeServer { redirect: Some("a"), ..FakeServer::default() });
    let hub = hub(vec![("a", ending), ("b", Arc::default())]).await;
    assert_eq!(hub.write(touch("s1"), DEADLINE).await.unwrap(), Outcome::Version(1));
}

/// Less than a call is given that is not answered, so that nothing but another leader's word helps.
const IMPATIENT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_silent_leader_is_left_when_another_one_leads() {
    let silent = Arc::new(FakeServer { gate: Some(Notify::new()), ..FakeServer::default() });
    let (follower, next) = (FakeServer { redirect: Some("a"), ..FakeServer::default() }, Arc::default());
    let hub = hub(vec![("a", silent.clone()), ("b", Arc::new(follower)), ("c", Arc::clone(&next))]).await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 1..4 {
        let hub = hub.clone();
        writes.spawn(async move { (n, hub.write(touch(&format!("s{n}")), IMPATIENT).await.unwrap()) });
    }
    for (n, outcome) in writes.join_all().await {
        assert_eq!(outcome, Outcome::Version(n));
    }
    let mut written = next.written.lock().unwrap().clone();
    written.extend(silent.written.lock().unwrap().clone());
    written.sort();
    assert_eq!(written, ["s1", "s2", "s3"]);
}

#[tokio::test]
async fn a_slow_leader_is_waited_for_while_nobody_else_leads() {
    let slow = Arc::new(FakeServer { gate: Some(Notify::new()), ..FakeServer::default() });
    let follower = Arc::new(FakeServer { redirect: Some("a"), ..FakeServer::default() });
    let hub = hub(vec![("a", slow.clone()), ("b", follower.clone())]).await;
    let writing = tokio::spawn(async move { hub.write(touch("s1"), DEADLINE).await });
    while follower.asked.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(MILLISECOND).await;
    }
    slow.gate.as_ref().unwrap().notify_one();
    assert_eq!(writing.await.unwrap().unwrap(), Outcome::Version(1));
    assert_eq!(slow.calls.load(Ordering::SeqCst), 1, "it was asked again");
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    // Bound and dropped: nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let mut config = serve(vec![("b", Arc::default())]).await;
    config.servers.insert(0, ("a".into(), dead));
    assert_eq!(Hub::new(config).write(touch("s1"), DEADLINE).await.unwrap(), Outcome::Version(1));
}

#[tokio::test]
async fn writes_that_wait_travel_together_and_each_gets_its_own_outcome() {
    let server = Arc::new(FakeServer { gate: Some(Notify::new()), ..FakeServer::default() });
    let hub = hub(vec![("a", server.clone())]).await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..500 {
        let hub = hub.clone();
        writes.spawn(async move { (n, hub.write(touch(&format!("s{n}")), DEADLINE).await.unwrap()) });
    }
    while server.calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.gate.as_ref().unwrap().notify_one();
    for (n, outcome) in writes.join_all().await {
        assert_eq!(outcome, Outcome::Version(n));
    }
    let calls = server.calls.load(Ordering::SeqCst);
    assert!(calls < 50, "500 writes in {calls} calls");
}

#[tokio::test]
async fn a_write_that_is_refused_harms_no_other() {
    let server =
        Arc::new(FakeServer { gate: Some(Notify::new()), refuses: Some("s13"), ..FakeServer::default() });
    let hub = hub(vec![("a", server.clone())]).await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..40 {
        let hub = hub.clone();
        writes.spawn(async move { (n, hub.write(touch(&format!("s{n}")), DEADLINE).await) });
    }
    while server.calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.gate.as_ref().unwrap().notify_one();
    for (n, outcome) in writes.join_all().await {
        match outcome {
            Ok(outcome) => assert_eq!(outcome, Outcome::Version(n)),
            Err(HubError::Refused(why)) => assert!(n == 13 && why.contains("bad session s13"), "{n}: {why}"),
            Err(other) => panic!("{n}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_session_that_the_hub_has_no_memory_for_is_told_apart() {
    let server = FakeServer { gate: Some(Notify::new()), full: Some("s3"), ..FakeServer::default() };
    let server = Arc::new(server);
    server.gate.as_ref().unwrap().notify_one();
    let hub = hub(vec![("a", server)]).await;
    let refused = hub.write(touch("s3"), DEADLINE).await;
    assert!(matches!(refused, Err(HubError::NoRoom)), "{refused:?}");
    assert_eq!(hub.write(touch("s4"), DEADLINE).await.unwrap(), Outcome::Version(4));
}

#[tokio::test]
async fn a_full_call_stays_below_what_the_hub_takes() {
    /// What the hub refuses a call beyond.
    const HUB_MAX: usize = 4 << 20;
    let server = Arc::new(FakeServer { gate: Some(Notify::new()), ..FakeServer::default() });
    let hub = hub(vec![("a", server.clone())]).await;
    let value = bytes::Bytes::from(vec![b'v'; 4096]);
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..3000 {
        let (hub, value) = (hub.clone(), value.clone());
        writes.spawn(async move {
            let key = SessionKey { app: "app-tier|www.example.com|/shop".into(), id: format!("s{n}") };
            let set = HashMap::from([("name".to_owned(), value)]);
            let owner = "app-server-number-01".to_owned();
            let save = SaveSession { key: Some(key), set, owner, ..SaveSession::default() };
            (n, hub.write(Write::Save(save), DEADLINE).await.unwrap())
        });
    }
    while server.calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.gate.as_ref().unwrap().notify_one();
    for (n, outcome) in writes.join_all().await {
        assert_eq!(outcome, Outcome::Version(n));
    }
    let largest = server.largest.load(Ordering::SeqCst);
    assert!((HUB_MAX / 2..HUB_MAX).contains(&largest), "{largest} bytes in the largest call");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_what_was_tried() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let hub =
        Hub::new(HubConfig { me: "test".into(), credentials: no_key(), servers: vec![("a".into(), dead)] });
    let deadline = Duration::from_millis(100);
    let save = SaveSession { key: Some(key("s1")), set: HashMap::new(), ..SaveSession::default() };
    let refused = hub.write(Write::Save(save), deadline).await.unwrap_err();
    assert!(refused.to_string().contains("did not answer within 100ms"), "{refused}");
    let refused = hub.load(key("s1"), deadline).await.unwrap_err().to_string();
    assert!(refused.contains("a:"), "{refused}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_cut() {
    let server = Arc::new(FakeServer::default());
    let hub = hub(vec![("a", server.clone())]).await;
    let mut watch = hub.watch();
    let mut revisions = Vec::new();
    while revisions.len() < 6 {
        let event = watch.events.recv().await.unwrap().event;
        revisions.push((event.revision, matches!(event.event, Some(event::Event::Snapshot(_)))));
    }
    assert_eq!(revisions, [(10, true), (10, false), (20, false), (20, false), (30, false), (30, false)]);
    assert_eq!(server.watches.lock().unwrap()[..3], [0, 10, 20]);
    let members: Vec<_> = watch.members.borrow().iter().map(|member| member.id.clone()).collect();
    assert_eq!(members, ["app-a"]);
}

#[tokio::test]
async fn a_leader_that_gives_no_sign_of_life_is_left_though_it_goes_on_talking() {
    let deposed = Arc::new(FakeServer { talks: true, ..FakeServer::default() });
    let elected = FakeServer { talks: true, vouches: Some(Mutex::default()), ..FakeServer::default() };
    elected.waits.store(true, Ordering::SeqCst);
    let elected = Arc::new(elected);
    let hub = hub(vec![("a", deposed.clone()), ("b", elected.clone())]).await;
    let mut watch = hub.watch();
    let mut next = async || tokio::time::timeout(DEADLINE, watch.events.recv()).await.unwrap().unwrap();
    let is_load = |it: &Heard| matches!(it.event.event, Some(event::Event::MemberLoads(_)));
    while !is_load(&next().await) {}
    assert_eq!(watch.heard.age(Instant::now()), None, "loads are no sign of life");
    // It can't prove to anybody new that it leads, and would go on for ever.
    deposed.waits.store(true, Ordering::SeqCst);
    elected.waits.store(false, Ordering::SeqCst);
    let asked_by_then = Instant::now();
    let sent = loop {
        if let Some(sent) = next().await.sent {
            break sent;
        }
    };
    assert!(sent >= asked_by_then, "of the new leader");
    assert_eq!((deposed.watches.lock().unwrap().len(), elected.watches.lock().unwrap().len()), (1, 1));
    assert!(watch.heard.age(Instant::now()).is_some());
    // What is asked of the hub goes there too.
    hub.write(touch("s1"), DEADLINE).await.unwrap();
    assert_eq!(*elected.written.lock().unwrap(), ["s1"]);
}

/// Apps, tokens and purges, of which nobody wants to hear.
fn untold() -> watch::Tables {
    let (apps, tokens) = (tokio::sync::watch::channel(None).0, tokio::sync::watch::channel(None).0);
    watch::Tables {
        apps,
        tokens,
        purges: tokio::sync::watch::channel(None).0,
        leases: tokio::sync::watch::channel(None).0,
        secrets: tokio::sync::watch::channel(None).0,
    }
}

#[tokio::test]
async fn a_reader_that_is_behind_gets_a_snapshot() {
    let (members, _) = tokio::sync::watch::channel(Arc::default());
    let (events, mut read) = mpsc::channel(2);
    let leader =
        Arc::new(Leader::new(HubConfig { me: "test".into(), credentials: no_key(), servers: Vec::new() }));
    let heard = LastHeard::never();
    let mut follower =
        watch::Follower::new(leader, members, untold(), events, (heard.clone(), WatchStream::default()));
    let alive = |revision, number| Event { revision, event: Some(event::Event::Alive(Alive { number })) };
    let start = Instant::now();
    follower.pass_on(alive(5, 9), start).unwrap();
    assert_eq!(heard.age(start), None, "nobody has asked that");
    let number = follower.pulse.ask(start);
    follower.pass_on(alive(6, number), start + MILLISECOND * 900).unwrap();
    let age = heard.age(start + MILLISECOND * 1_000).unwrap();
    assert!(
        (MILLISECOND * 1_000..=MILLISECOND * 1_001).contains(&age),
        "sent after it was asked for: {age:?}"
    );
    assert_eq!(follower.revision, 6);
    assert!(follower.pass_on(alive(7, 0), start).is_err());
    assert_eq!(follower.revision, 0, "the next watch asks for a snapshot");
    assert_eq!(read.recv().await.unwrap().event.revision, 5);
}

#[tokio::test]
async fn an_administrators_word_goes_to_the_leader_and_a_refusal_comes_back() {
    let follower = Arc::new(FakeServer { redirect: Some("b"), ..FakeServer::default() });
    let hub = hub(vec![("a", follower), ("b", Arc::default())]).await;
    let member =
        hub.set_admin(&"app-a".into(), MemberAdmin::DisabledSoft, Author::default(), DEADLINE).await.unwrap();
    assert_eq!((member.id.as_str(), member.admin()), ("app-a", MemberAdmin::DisabledSoft));
    let refused =
        hub.set_admin(&"app-z".into(), MemberAdmin::Disabled, Author::default(), DEADLINE).await.unwrap_err();
    assert!(matches!(&refused, HubError::Refused(why) if why.contains("app-z")), "{refused}");
}

#[tokio::test]
async fn heartbeats_carry_the_load_from_the_second_on() {
    let server = Arc::new(FakeServer::default());
    let hub = hub(vec![("a", server.clone())]).await;
    let _joined = hub.join(Member::default(), Duration::from_millis(20));
    while server.heartbeats.lock().unwrap().len() < 2 {
        tokio::time::timeout(DEADLINE, server.beaten.notified()).await.unwrap();
    }
    let loads = server.heartbeats.lock().unwrap().clone();
    assert_eq!(loads[0], None, "there is nothing to compare with yet");
    assert!(loads.iter().flatten().all(|load| *load <= 1000), "{loads:?}");
}

#[tokio::test]
async fn loads_are_filled_in_and_stay_until_the_process_is_another_one() {
    let (members, watched) = tokio::sync::watch::channel(Arc::default());
    let (events, _read) = mpsc::channel(20);
    let config = HubConfig { me: "test".into(), credentials: no_key(), servers: Vec::new() };
    let leader = Arc::new(Leader::new(config));
    let mut follower =
        watch::Follower::new(leader, members, untold(), events, (LastHeard::never(), WatchStream::default()));
    let mut hear = |event| {
        follower.pass_on(Event { revision: 1, event: Some(event) }, Instant::now()).unwrap();
        watched.borrow().iter().map(|it| it.cpu_load).collect::<Vec<_>>()
    };
    let member = |started_ms| Member { id: "app-a".into(), started_ms, ..Member::default() };
    let load = |id: &str, cpu_load| {
        let loads = vec![MemberLoad { id: id.into(), cpu_load }];
        event::Event::MemberLoads(MemberLoads { loads })
    };
    assert_eq!(hear(load("app-a", 100)), [], "not a member");
    assert_eq!(hear(event::Event::Member(member(5))), [None]);
    assert_eq!(hear(load("app-a", 100)), [Some(100)]);
    assert_eq!(hear(load("app-b", 200)), [Some(100)]);
    let changed = Member { admin: MemberAdmin::Disabled.into(), ..member(5) };
    assert_eq!(hear(event::Event::Member(changed)), [Some(100)]);
    let snapshot = event::Event::Snapshot(Snapshot { members: vec![member(5)], ..Snapshot::default() });
    assert_eq!(hear(snapshot), [Some(100)]);
    assert_eq!(hear(event::Event::Member(member(6))), [None], "another process");
}

#[tokio::test]
async fn secrets_that_were_heard_stay_until_a_snapshot_tells_of_them_again() {
    let (members, _) = tokio::sync::watch::channel(Arc::default());
    let (events, _read) = mpsc::channel(20);
    let (secrets, heard) = tokio::sync::watch::channel(None);
    let config = HubConfig { me: "test".into(), credentials: no_key(), servers: Vec::new() };
    let (tables, unheard) =
        (watch::Tables { secrets, ..untold() }, (LastHeard::never(), WatchStream::default()));
    let mut follower = watch::Follower::new(Arc::new(Leader::new(config)), members, tables, events, unheard);
    assert!(!follower.wanted(1).with_secrets);
    for (names, with_secrets, expected) in [
        (&[][..], false, &[][..]),
        (&["a", "b"], true, &["a", "b"]),
        // Of a server that knows of no right of ours: we have them still, and ask one that does for all.
        (&[], false, &["a", "b"]),
        (&["c"], true, &["c"]),
        (&[], true, &[]),
        // Of a server of a version that does not say so.
        (&["d"], false, &["d"]),
    ] {
        let secret = |name: &&str| proto::hub::v1::Secret { name: (*name).to_owned(), ..Default::default() };
        let secrets = names.iter().map(secret).collect();
        let snapshot = event::Event::Snapshot(Snapshot { secrets, with_secrets, ..Snapshot::default() });
        follower.pass_on(Event { revision: 5, event: Some(snapshot) }, Instant::now()).unwrap();
        let known: Vec<_> = heard.borrow().as_ref().unwrap().keys().cloned().collect();
        assert_eq!(known, expected);
        let wanted = follower.wanted(7);
        assert_eq!((wanted.with_secrets, wanted.after_revision, wanted.watch), (with_secrets, 5, 7));
    }
}

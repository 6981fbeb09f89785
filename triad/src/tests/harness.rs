//! A hub of in-process servers, each behind a real cluster port on loopback; servers can be killed, wiped and started again.

use super::network::{CLIENT, Network};
use crate::{
    HubServerConfig, SessionLimits, Triad, TriadError, disk::sim::SimDisk, raft::node::Disks, serve_grpc,
};
use cluster_port::{Acceptor, ClusterKey, Credentials, Port, Protocol, Rights, Roster, dial};
use common::{
    clock::{Clock, SystemClock},
    config::{ClusterEncryption, Secret},
    id::ServerId,
};
use hyper_util::rt::TokioIo;
use proto::hub::v1::{
    AskAlive, LoadSession, Member, SaveSession, SessionKey, SessionRecord, SessionWrite, WatchEvents,
    WriteSessions, audits_client::AuditsClient, caches_client::CachesClient, lead_client::LeadClient,
    leases_client::LeasesClient, members_client::MembersClient, queues_client::QueuesClient,
    secrets_client::SecretsClient, session_outcome::Outcome, session_write::Write,
    sessions_client::SessionsClient, tokens_client::TokensClient, watch_client::WatchClient,
};
use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, transport::Channel};

pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Bytes under way on a connection, at most.
const BUFFER: usize = 16 << 20;

pub(super) struct Server {
    pub(super) triad: Triad,
    port: Option<DropGuard>,
    runtime: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) struct TestHub {
    pub(super) folder: tempfile::TempDir,
    pub(super) names: Vec<(ServerId, String)>,
    ports: Vec<TcpListener>,
    pub(super) servers: Vec<Option<Server>>,
    pub(super) clock: Arc<dyn Clock>,
    /// A server whose clock is another one.
    pub(super) odd_clock: Option<(usize, Arc<dyn Clock>)>,
    pub(super) heartbeat_interval: Duration,
    /// Of each server.
    pub(super) session_limits: Vec<SessionLimits>,
    pub(super) network: Network,
    /// Disks that stand in for the folders of the servers.
    pub(super) sims: Vec<SimDisks>,
    /// Each server has a thread of its own, so that it can be paused.
    pub(super) threads: bool,
    /// A server that says it reads only old commands, and up to which version.
    pub(super) old: Option<usize>,
    pub(super) old_reads: u32,
}

/// Memory enough for any test.
pub(super) const ROOMY: SessionLimits =
    SessionLimits { max: 1 << 40, app_max: None, first_timeout: Duration::from_secs(120) };

/// A server's simulated disks.
#[derive(Debug, Clone, Default)]
pub(super) struct SimDisks {
    root: SimDisk,
    pub(super) log: SimDisk,
    pub(super) snapshots: SimDisk,
}

impl SimDisks {
    /// The disks as they are found after a loss of power. Nothing more is acknowledged by those who still use the old ones.
    fn crash(&self, keep: u8) -> Self {
        for disk in [&self.root, &self.log, &self.snapshots] {
            disk.power_off();
        }
        Self { root: self.root.crash(keep), log: self.log.crash(keep), snapshots: self.snapshots.crash(keep) }
    }
}

pub(super) fn credentials() -> Credentials {
    let key = ClusterKey::new(&Secret::from(&b"a key of the tests"[..]));
    Credentials::new(key, ClusterEncryption::BeyondLoopback)
}

/// Everybody that tests speak of.
fn roster() -> Roster {
    let apps = (0..100).map(|number| format!("app-{number}"));
    let others = [CLIENT, "web-a"].map(str::to_owned);
    let of_one_role = [
        ("just-web", Rights { listens: true, ..Rights::default() }),
        ("just-app", Rights { apps: true, ..Rights::default() }),
    ];
    let all = apps.chain(others).map(|id| (id.into(), Rights::ALL));
    all.chain(of_one_role.map(|(id, rights)| (id.into(), rights))).collect()
}

impl TestHub {
    /// A hub of `count` servers, none of them started. The ports are held from now on.
    pub(super) fn new(count: usize) -> Self {
        let ports: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let name = |(at, port): (usize, &TcpListener)| {
            (ServerId::from(format!("app-{at}")), port.local_addr().unwrap().to_string())
        };
        let names = ports.iter().enumerate().map(name).collect();
        let servers = (0..count).map(|_| None).collect();
        let folder = tempfile::tempdir().unwrap();
        let (clock, heartbeat_interval) = (Arc::new(SystemClock), Duration::from_secs(10));
        let network = Network::default();
        Self {
            folder,
            names,
            ports,
            servers,
            clock,
            odd_clock: None,
            heartbeat_interval,
            session_limits: vec![ROOMY; count],
            network,
            sims: Vec::new(),
            threads: false,
            old: None,
            old_reads: 1,
        }
    }

    /// A hub whose servers are all ready.
    pub(super) async fn started(count: usize) -> Self {
        let mut hub = Self::new(count);
        hub.start_all().await;
        hub
    }

    pub(super) async fn start_all(&mut self) {
        for at in 0..self.servers.len() {
            self.start(at).await;
        }
        for at in 0..self.servers.len() {
            self.ready(at).await;
        }
    }

    pub(super) fn data(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("app-{at}"))
    }

    pub(super) async fn start(&mut self, at: usize) {
        let one_thread = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = self.threads.then(one_thread);
        let handle = runtime.as_ref().map_or_else(Handle::current, |it| it.handle().clone());
        let triad = handle.spawn(self.starting(at)).await.unwrap().unwrap();
        if self.old == Some(at) {
            triad.hub.node().pretend_to_read(self.old_reads);
        }
        let port = self.serve(at, &triad, &handle);
        self.servers[at] = Some(Server { triad, port: Some(port), runtime });
    }

    pub(super) async fn try_start(&self, at: usize) -> Result<Triad, TriadError> {
        self.starting(at).await
    }

    fn starting(&self, at: usize) -> impl Future<Output = Result<Triad, TriadError>> + Send + use<> {
        let data_dir = self.data(at);
        std::fs::create_dir_all(&data_dir).unwrap();
        let config = HubServerConfig {
            cache_memory_max: 64 << 20,
            queue_memory_max: 64 << 20,
            me: self.names[at].0.clone(),
            servers: self.names.clone(),
            credentials: credentials(),
            data_dir,
            heartbeat_interval: self.heartbeat_interval,
            session_limits: self.session_limits[at],
            clock: self.clock_of(at),
        };
        let sims = self.sims.get(at).cloned();
        async move {
            let Some(sims) = sims else { return Triad::start(config).await };
            let disks = Disks {
                root: Arc::new(sims.root),
                log: Arc::new(sims.log),
                snapshots: Arc::new(sims.snapshots),
            };
            Triad::start_on(config, disks).await
        }
    }

    /// Nothing of a server that has its own thread runs for so long, as if its process was stopped.
    pub(super) fn pause(&self, at: usize, length: Duration) {
        let runtime = self.servers[at].as_ref().unwrap().runtime.as_ref().unwrap();
        runtime.spawn(async move { std::thread::sleep(length) });
    }

    fn clock_of(&self, at: usize) -> Arc<dyn Clock> {
        match &self.odd_clock {
            Some((odd, clock)) if *odd == at => clock.clone(),
            _ => self.clock.clone(),
        }
    }

    /// Makes a server the leader.
    pub(super) async fn make_leader(&self, at: usize) {
        let made = async {
            loop {
                let leader = self.leader().await;
                if leader == at {
                    return;
                }
                self.triad(leader).hub.node().transfer(at as u64).await;
                self.triad(at).hub.node().changed_role(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, made).await.expect("a hand-over");
    }

    fn serve(&self, at: usize, triad: &Triad, handle: &Handle) -> DropGuard {
        let port = self.ports[at].try_clone().unwrap();
        port.set_nonblocking(true).unwrap();
        let (me, routes, network) = (self.names[at].0.clone(), triad.routes(), self.network.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        handle.spawn(async move {
            let port = tokio::net::TcpListener::from_std(port).unwrap();
            let own = Port {
                me: me.clone(),
                address: port.local_addr().unwrap().to_string(),
                credentials: credentials(),
                roster: roster().fixed(),
            };
            let mut acceptor = Acceptor::start(port, own);
            loop {
                let connection = tokio::select! {
                    Some(connection) = acceptor.next() => connection,
                    () = stopped.cancelled() => return,
                };
                let (network, me, stopped) = (network.clone(), me.clone(), stopped.clone());
                let routes = routes.clone();
                tokio::spawn(async move {
                    let peer = connection.peer;
                    let (near, far) = tokio::io::duplex(BUFFER);
                    // What is cut is not served at all, not even what came with the connection's first bytes.
                    tokio::select! {
                        biased;
                        () = stopped.cancelled() => {}
                        () = network.cuts(&peer.id, &me) => {}
                        () = network.relay(connection.stream, near, &peer.id, &me) => {}
                        () = serve_grpc(far, peer.clone(), routes) => {}
                    }
                });
            }
        });
        stop.drop_guard()
    }

    pub(super) async fn ready(&self, at: usize) {
        assert!(self.triad(at).ready(LIMIT).await, "server {at} is not ready: {:?}", self.triad(at).status());
    }

    pub(super) fn triad(&self, at: usize) -> &Triad {
        &self.servers[at].as_ref().unwrap().triad
    }

    /// Cuts a server's connections and ends it without a hand-over.
    pub(super) async fn kill(&mut self, at: usize) {
        let mut server = self.servers[at].take().unwrap();
        server.port = None;
        server.triad.stop.cancel();
        server.triad.hub.node().kill().await;
    }

    /// A server's machine loses power: of what was not synced, `keep` of 256 parts are found.
    pub(super) async fn crash(&mut self, at: usize, keep: u8) {
        self.sims[at] = self.sims[at].crash(keep);
        self.kill(at).await;
    }

    /// Puts simulated disks under servers that are still to start.
    pub(super) fn simulate_disks(&mut self) {
        self.sims = self.names.iter().map(|_| SimDisks::default()).collect();
    }

    /// The machines of all servers lose power at once: of what was not synced, `keep` of 256 parts are found.
    pub(super) async fn crash_all(&mut self, keep: u8) {
        self.sims = self.sims.iter().map(|it| it.crash(keep)).collect();
        for at in 0..self.servers.len() {
            self.kill(at).await;
        }
    }

    /// Stops a server as it should be.
    pub(super) async fn stop(&mut self, at: usize) -> bool {
        let server = self.servers[at].take().unwrap();
        server.triad.stop().await
    }

    /// The leader, once one is known to itself and confirmed.
    pub(super) async fn leader(&self) -> usize {
        let found = async {
            loop {
                let leads = |it: &Option<Server>| {
                    it.as_ref().is_some_and(|it| it.triad.hub.node().is_confirmed(Duration::from_secs(1)))
                };
                if let Some(at) = self.servers.iter().position(leads) {
                    return at;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("a leader")
    }

    /// Parts a server from all others, and from nobody else with `None`.
    pub(super) fn part(&self, at: Option<usize>) {
        self.network.change(|links| links.cut = at.map(|at| self.names[at].0.clone()));
    }

    /// Holds what the other hub servers send to `deaf`, and what `mute` sends to them, until it is told otherwise. What clients and
    /// servers say to each other passes.
    pub(super) fn hold(&self, deaf: Option<usize>, mute: Option<usize>) {
        let name = |at: usize| self.names[at].0.clone();
        self.network.change(|links| (links.deaf, links.mute) = (deaf.map(name), mute.map(name)));
    }

    fn channel(&self, at: usize, me: &str) -> Channel {
        let me = ServerId::from(me);
        let (to, address) = self.names[at].clone();
        let connect = move |_| {
            let (me, to, address) = (me.clone(), to.clone(), address.clone());
            async move {
                dial(&address, &credentials(), &me, &to, Protocol::Grpc, Duration::from_secs(1))
                    .await
                    .map(TokioIo::new)
            }
        };
        tonic::transport::Endpoint::from_static("http://hub")
            .connect_with_connector_lazy(tower::service_fn(connect))
    }

    pub(super) fn sessions(&self, at: usize) -> SessionsClient<Channel> {
        SessionsClient::new(self.channel(at, CLIENT)).max_decoding_message_size(64 << 20)
    }

    pub(super) fn caches(&self, at: usize) -> CachesClient<Channel> {
        CachesClient::new(self.channel(at, CLIENT))
    }

    pub(super) fn leases(&self, at: usize) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel(at, CLIENT))
    }

    /// The queues' service as `me`.
    pub(super) fn queues(&self, at: usize, me: &str) -> QueuesClient<Channel> {
        QueuesClient::new(self.channel(at, me))
    }

    /// The members' service as `me`.
    pub(super) fn members(&self, at: usize, me: &str) -> MembersClient<Channel> {
        MembersClient::new(self.channel(at, me))
    }

    /// The audit log's service as `me`.
    pub(super) fn audits(&self, at: usize, me: &str) -> AuditsClient<Channel> {
        AuditsClient::new(self.channel(at, me))
    }

    /// The service that hands the lead over, as `me`.
    pub(super) fn lead(&self, at: usize, me: &str) -> LeadClient<Channel> {
        LeadClient::new(self.channel(at, me))
    }

    /// The tokens' service as `me`.
    pub(super) fn secrets(&self, at: usize, me: &str) -> SecretsClient<Channel> {
        SecretsClient::new(self.channel(at, me))
    }

    /// The leases' service as `me`.
    pub(super) fn leases_as(&self, at: usize, me: &str) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel(at, me))
    }

    /// The tokens' service as `me`.
    pub(super) fn tokens(&self, at: usize, me: &str) -> TokensClient<Channel> {
        TokensClient::new(self.channel(at, me))
    }

    pub(super) async fn watch(
        &self,
        at: usize,
        server: &str,
        after: u64,
    ) -> tonic::Streaming<proto::hub::v1::Event> {
        let with_secrets = server != "just-app";
        let watch = WatchEvents { server: server.into(), after_revision: after, watch: 0, with_secrets };
        self.try_watch(at, watch).await.unwrap()
    }

    pub(super) async fn try_watch(
        &self,
        at: usize,
        watch: WatchEvents,
    ) -> Result<tonic::Streaming<proto::hub::v1::Event>, Status> {
        let channel = self.channel(at, &watch.server);
        Ok(WatchClient::new(channel).events(watch).await?.into_inner())
    }

    /// Asks for a sign of life.
    pub(super) async fn ask(&self, at: usize, server: &str, question: AskAlive) {
        WatchClient::new(self.channel(at, server)).ask(question).await.unwrap();
    }

    /// Writes through whoever leads, again and again until it is acknowledged.
    pub(super) async fn write(&self, write: Write) -> Outcome {
        let write = WriteSessions { writes: vec![SessionWrite { write: Some(write) }] };
        let written = self.retry(async |at| {
            let answered = self.sessions(at).write(write.clone()).await?.into_inner();
            Ok(answered.outcomes.into_iter().next().unwrap().outcome.unwrap())
        });
        written.await
    }

    pub(super) async fn load(&self, id: &str) -> Option<SessionRecord> {
        let load = LoadSession { key: Some(session_key(id)) };
        self.retry(async |at| Ok(self.sessions(at).load(load.clone()).await?.into_inner().session)).await
    }

    /// Registers a member whose cluster port is there.
    pub(super) async fn register(&self, id: &str, started_ms: u64) -> Vec<Member> {
        self.register_at(id, started_ms, &self.names[0].1).await
    }

    pub(super) async fn register_at(&self, id: &str, started_ms: u64, address: &str) -> Vec<Member> {
        let member = Member {
            id: id.into(),
            cluster: "app".into(),
            address: address.into(),
            started_ms,
            ..Member::default()
        };
        let register = proto::hub::v1::RegisterMember { member: Some(member) };
        self.retry(async |at| Ok(self.members(at, id).register(register.clone()).await?.into_inner().members))
            .await
    }

    async fn retry<T>(&self, call: impl AsyncFn(usize) -> Result<T, Status>) -> T {
        let tried = async {
            let mut at = self.leader().await;
            loop {
                match tokio::time::timeout(Duration::from_secs(6), call(at)).await {
                    Ok(Ok(done)) => return done,
                    Ok(Err(status)) => assert!(
                        matches!(
                            status.code(),
                            Code::FailedPrecondition
                                | Code::Unavailable
                                | Code::Unknown
                                | Code::Cancelled
                                | Code::Internal
                                | Code::DeadlineExceeded
                        ),
                        "{status:?}"
                    ),
                    Err(_late) => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                at = self.leader().await;
            }
        };
        tokio::time::timeout(LIMIT, tried).await.expect("an answer in time")
    }
}

pub(super) fn session_key(id: &str) -> SessionKey {
    SessionKey { app: "shop".into(), id: id.into() }
}

pub(super) fn save(id: &str, base_version: u64, save_id: u64, value: &str) -> Write {
    Write::Save(SaveSession {
        key: Some(session_key(id)),
        base_version,
        save_id,
        set: [("value".to_owned(), value.to_owned().into())].into(),
        removed: Vec::new(),
        owner: "app-0".into(),
        timeout_ms: 0,
    })
}

pub(super) fn value(record: &SessionRecord) -> String {
    String::from_utf8(record.attributes["value"].to_vec()).unwrap()
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waited).await.is_ok(), "not in time: {what}");
}

//! A whole small cluster: one web tier before backends.

use super::{
    backend::{Backend, OnConnection},
    client::{Answer, Client},
};
use crate::{Inherited, WebTier, WebTierConfig, bind};
use cluster_port::{ClusterKey, Credentials};
use common::{
    config::{
        Action, Cluster as ClusterConfig, ClusterEncryption, Config, Deployments, HealthChecks, Host,
        HttpListener, LoadBalance, RequestLimits, Rule, Secret, Server, ServicesMemory, SessionMemory,
        StickyCookie, Strategy,
    },
    hub_age::LastHeard,
    id::{ServerId, ServerIndex},
};
use proto::hub::v1::{Member, MemberState};
use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The ids of backends, in the order of their indices.
pub(crate) const IDS: [&str; 3] = ["app-a", "app-b", "app-c"];

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) web: WebTier,
    pub(crate) backends: Vec<Option<Backend>>,
    pub(crate) members: watch::Sender<Arc<Vec<Member>>>,
    pub(crate) heard: LastHeard,
}

impl Cluster {
    /// Starts backends, and a web tier with one worker that balances all paths over them.
    pub(crate) async fn start(backends: impl IntoIterator<Item = OnConnection>) -> Self {
        Self::start_with(backends, |_| {}).await
    }

    /// The same, with a configuration that is changed first.
    pub(crate) async fn start_with(
        backends: impl IntoIterator<Item = OnConnection>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_limited(backends, usize::MAX, change).await
    }

    /// The same, with so many connections of clients at most.
    pub(crate) async fn start_limited(
        backends: impl IntoIterator<Item = OnConnection>,
        clients_max: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_on(Inherited::default(), backends, clients_max, change).await
    }

    /// The same, with what ACME brings.
    pub(crate) async fn start_acme(
        live: acme::Live,
        backends: impl IntoIterator<Item = OnConnection>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_all((Inherited::default(), live), backends, usize::MAX, change).await
    }

    /// The same, on sockets that there are already.
    pub(crate) async fn start_on(
        inherited: Inherited,
        backends: impl IntoIterator<Item = OnConnection>,
        clients_max: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_all((inherited, acme::Live::default()), backends, clients_max, change).await
    }

    async fn start_all(
        (mut inherited, acme): (Inherited, acme::Live),
        backends: impl IntoIterator<Item = OnConnection>,
        clients_max: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut started = Vec::new();
        for (id, on_connection) in IDS.into_iter().zip(backends) {
            started.push(Some(Backend::start(id, 0, on_connection).await));
        }
        let ports: Vec<_> = started.iter().flatten().map(|backend| backend.port).collect();
        let mut config = config(&ports);
        change(&mut config);
        let (members, watched) = watch::channel(Arc::default());
        let me = ServerId::from("web-a");
        let bound = bind(&config, &me, &mut inherited).unwrap();
        let heard = LastHeard::never();
        let credentials = credentials(config.cluster_encryption);
        let config = WebTierConfig {
            acme,
            config: Arc::new(config),
            me,
            bound,
            clients_max,
            credentials,
            members: watched,
            heard: heard.clone(),
            traces: None,
        };
        Self { web: WebTier::start(config).unwrap(), backends: started, members, heard }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.web.addresses()[0]
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, line: &str, headers: &str) -> Answer {
        self.client().await.ask(line, headers).await
    }

    /// Kills a backend; its port is returned.
    pub(crate) async fn kill(&mut self, index: usize) -> u16 {
        self.backends[index].take().expect("it runs").kill().await
    }

    /// Starts a backend again on its port.
    pub(crate) async fn revive(&mut self, index: usize, port: u16, on_connection: OnConnection) {
        self.backends[index] = Some(Backend::start(IDS[index], port, on_connection).await);
    }

    /// Tells the web tier of a member.
    pub(crate) fn member(&self, index: usize, state: MemberState, started_ms: u64) {
        let mut member = Member { id: IDS[index].to_owned(), started_ms, ..Member::default() };
        member.set_state(state);
        self.members.send_replace(Arc::new(vec![member]));
    }
}

pub(crate) fn credentials(encryption: ClusterEncryption) -> Credentials {
    Credentials::new(ClusterKey::new(&Secret::from(&b"a key for tests only"[..])), encryption)
}

/// Those of servers on loopback.
pub(crate) fn plain() -> Credentials {
    credentials(ClusterEncryption::BeyondLoopback)
}

/// A web tier `web-a` on a port of the system's choice, and an app tier with a server on each of `ports`.
pub(crate) fn config(ports: &[u16]) -> Config {
    let servers = ports.iter().zip(IDS).enumerate();
    let servers = servers.map(|(index, (port, id))| server(id, index, *port)).collect();
    let mut web = server("web-a", 0, 6800);
    web.http = vec![HttpListener::plain("127.0.0.1", 0)];
    let balance = LoadBalance {
        cluster: "app-tier".into(),
        strategy: Strategy::RoundRobin,
        hash_by: None,
        sticky_sessions: true,
        session_url: false,
        cookie: StickyCookie::None,
    };
    let rule = Rule {
        regexp: None,
        condition: None,
        cache: true,
        compression: true,
        action: Action::LoadBalance(balance),
    };
    let host = Host { dispatch: vec![rule], ..host("") };
    Config {
        services_memory: ServicesMemory { caches: 1 << 30, queues: 1 << 30 },
        traces: None,
        file: "cluster.yaml".into(),
        effective: Arc::default(),
        cluster_key: Secret::default(),
        cluster_key_also: Secret::default(),
        cluster_encryption: ClusterEncryption::default(),
        cluster_tls: None,
        secret_variables: Arc::default(),
        triad: Vec::new(),
        data_dir: "data".into(),
        heartbeat_interval: Duration::from_secs(10),
        dependency_check_interval: None,
        session_memory: SessionMemory { max: None, app_max: None, first_timeout: Duration::from_secs(120) },
        app_users: Vec::new(),
        private_files: Vec::new(),
        admin_users: Vec::new(),
        health: HealthChecks::default(),
        deployments: Deployments::default(),
        clusters: vec![cluster("app-tier", servers, Vec::new()), cluster("web-tier", vec![web], vec![host])],
    }
}

pub(crate) fn cluster(id: &str, servers: Vec<Server>, hosts: Vec<Host>) -> ClusterConfig {
    ClusterConfig {
        acme: None,
        id: id.into(),
        servers,
        session_cookie: "JSESSIONID".to_owned(),
        proxy_cache: None,
        compression: None,
        outlier_detection: None,
        trusted_proxies: Vec::new(),
        workers: NonZeroUsize::new(1),
        access_log: None,
        caches: Vec::new(),
        hosts,
    }
}

pub(crate) fn host(id: &str) -> Host {
    Host { id: id.to_owned(), ..Host::default() }
}

pub(crate) fn server(id: &str, index: usize, port: u16) -> Server {
    Server {
        id: id.into(),
        index: ServerIndex(u16::try_from(index).unwrap()),
        address: "127.0.0.1".to_owned(),
        port,
        http: Vec::new(),
        tcp: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        balance_socket_timeout: Duration::from_secs(60),
        balance_idle_time: Duration::from_secs(5),
        recover_time: Duration::from_secs(15),
        busy_recover_time: Duration::from_secs(15),
        warmup_time: Duration::from_secs(60),
        connection_max: 1024,
        queue_timeout: Duration::from_secs(5),
        weight: 100,
        keepalive_timeout: Duration::from_secs(15),
        socket_timeout: Duration::from_secs(65),
        request_header_timeout: Duration::from_secs(10),
        request_limits: RequestLimits::default(),
        shutdown_wait_max: Duration::from_secs(15),
        metrics: None,
    }
}

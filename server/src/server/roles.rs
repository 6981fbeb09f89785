//! What a server starts of each role.

use super::*;

pub(super) async fn bind(server: &Server, given: &mut Given) -> anyhow::Result<TcpListener> {
    let address = server.cluster_address();
    given
        .listener(address.as_str())
        .await
        .with_context(|| format!("server {}: cluster port {address} can't be bound", server.id))
}

pub(super) fn start_acceptor(
    listener: TcpListener,
    server: &Server,
    credentials: &Credentials,
    config: &Config,
) -> (Acceptor, watch::Sender<Arc<Roster>>) {
    let (roster, current) = watch::channel(Arc::new(Roster::of(config)));
    let (me, address) = (server.id.clone(), server.cluster_address());
    let port = Port { me, address, credentials: credentials.clone(), roster: current };
    (Acceptor::start(listener, port), roster)
}

pub(super) async fn start_triad(
    config: &Config,
    id: &ServerId,
    credentials: &Credentials,
    data: &DataFolder,
) -> anyhow::Result<Option<Triad>> {
    if !config.triad.contains(id) {
        return Ok(None);
    }
    let triad = Triad::start(HubServerConfig {
        me: id.clone(),
        servers: hub_addresses(config),
        credentials: credentials.clone(),
        data_dir: data.path().to_owned(),
        heartbeat_interval: config.heartbeat_interval,
        session_limits: session_limits(config, id),
        cache_memory_max: config.services_memory.caches,
        queue_memory_max: config.services_memory.queues,
        clock: Arc::new(SystemClock),
    });
    Ok(Some(triad.await?))
}

/// A handle on the hub.
pub(super) fn hub(config: &Config, id: &ServerId, credentials: &Credentials) -> Hub {
    let servers = hub_addresses(config);
    Hub::new(HubConfig { me: id.clone(), credentials: credentials.clone(), servers })
}

/// What sessions take when the system does not say how much memory there is.
const SESSION_MEMORY: u64 = 1 << 30;

/// As the file says, or a quarter of what this process may use: the server has other work, a snapshot takes some more, and beside it
/// there may be apps.
fn session_limits(config: &Config, id: &ServerId) -> SessionLimits {
    let memory = config.session_memory;
    let machine = machine_memory();
    let max = memory.max.unwrap_or_else(|| machine.map_or(SESSION_MEMORY, |machine| machine / 4));
    if let Some(machine) = machine.filter(|machine| max > machine / 2) {
        tracing::warn!(
            server = %id,
            max,
            machine,
            "session-memory-max is more than half of the memory that this server may use: the hub may run out of it"
        );
    }
    tracing::info!(server = %id, max, "bytes that the hub's sessions may take here (session-memory-max)");
    SessionLimits { max, app_max: memory.app_max, first_timeout: memory.first_timeout }
}

pub(super) fn start_admin(
    config: &Arc<Config>,
    id: &ServerId,
    credentials: &Credentials,
    (hub, members, tokens, heard): (&Hub, &Members, Tokens, LastHeard),
    deployed: Option<&Deployed>,
) -> Admin {
    administration::warn_without_users(config);
    Admin::new(AdminConfig {
        config: config.clone(),
        me: id.clone(),
        credentials: credentials.clone(),
        hub: hub.clone(),
        members: members.clone(),
        tokens,
        heard,
        deployments: deployed.map(Deployed::administered),
        clock: Arc::new(SystemClock),
    })
}

/// What it shows other servers, and what it has found as the hub's leader.
pub(super) fn watched(config: &Config, id: &ServerId, admin: &Admin) -> (Option<FilePath>, HealthView) {
    (config.cluster_tls.as_ref().map(|it| it.of(id).cert), admin.health_view())
}

/// The hub's leader watches the cluster's health.
pub(super) fn watch_health(admin: &Admin, triad: &Arc<Triad>) -> AbortOnDropHandle<()> {
    let triad = triad.clone();
    AbortOnDropHandle::new(tokio::spawn(admin.watch_health(move || triad.leads())))
}

pub(super) fn start_app_tier(
    config: &Arc<Config>,
    id: &ServerId,
    data: &DataFolder,
    ((leases, stream, members), hub, admin): ((Leases, WatchStream, Members), &Hub, &Admin),
    (deploy, started_ms, spans): (Option<DeployConfig>, u64, &Spans),
) -> anyhow::Result<Option<Arc<AppTier>>> {
    let Some((cluster, _)) = config.server(id) else { return Ok(None) };
    let deploy = deploy.filter(|_| config.app_clusters().contains(&cluster.id));
    if deploy.is_none() && cluster.hosts.iter().all(|host| host.web_apps.is_empty()) {
        return Ok(None);
    }
    let app_tier = AppTier::start(
        AppTierConfig {
            config: config.clone(),
            me: id.clone(),
            data_dir: data.path().to_owned(),
            hub: Some(hub.clone()),
            leases: Some(ServicesConfig { hub: hub.clone(), heard: leases, stream, members, started_ms }),
            admin: Some(administration::service(admin.clone())),
            deploy,
            traces: spans.exporter.clone(),
            clock: Arc::new(SystemClock),
            launcher: Some(launcher()),
        },
        CancellationToken::new(),
    )?;
    Ok(Some(Arc::new(app_tier)))
}

/// A server of the hub goes on without its apps: the hub does not need them.
pub(super) fn or_without_apps(
    started: anyhow::Result<Option<Arc<AppTier>>>,
    is_hub: bool,
) -> anyhow::Result<(Option<Arc<AppTier>>, Option<anyhow::Error>)> {
    match started {
        Err(cause) if is_hub => Ok((None, Some(cause))),
        started => Ok((started?, None)),
    }
}

/// This very program, whatever has taken its place on the disk meanwhile.
fn launcher() -> Launcher {
    Launcher { program: "/proc/self/exe".into(), landlock: launch_app::landlock_version() }
}

/// Who answers calls at the cluster port.
pub(super) type Serves<'a> =
    (Option<&'a WebTier>, Option<Arc<AppTier>>, Option<&'a Deployed>, Option<&'a Kept>);

/// The gRPC services of the roles that this server plays.
pub(super) fn routes(
    knows: &Arc<Knows>,
    (web_tier, app_tier, deployed, history): Serves<'_>,
    admin: &Admin,
) -> Routes {
    let triad = knows.triad.clone();
    let status = status::service(knows.clone());
    let mut routes = match &triad {
        Some(triad) => triad.routes().add_service(status),
        None => Routes::new(status),
    };
    // Objects are the hub's: other servers have copies.
    if let Some(deployed) = deployed.filter(|_| triad.is_some()) {
        routes = routes.add_service(deployed.objects());
    }
    if let Some(kept) = history {
        routes = routes.add_service(kept.service());
    }
    if let Some(web_tier) = web_tier {
        routes = routes.add_service(web_tier::balancer(web_tier.picture().clone()));
    }
    inquiry::add(routes, admin, web_tier.map(WebTier::view), app_tier).prepare()
}

/// What start-up prints of the listeners, the cluster port last.
pub(super) fn lines(id: &ServerId, server: &Server, public: &Bound) -> Vec<String> {
    let http =
        public.addresses().iter().zip(server.listeners()).map(|(at, listener)| line(id, *at, &listener));
    let metrics =
        server.metrics.iter().map(|it| format!("{id}  metrics http://{}:{}/metrics", it.address, it.port));
    http.chain(metrics).chain([format!("{id}  cluster port {}", server.cluster_address())]).collect()
}

/// A listener as start-up prints it.
fn line(id: &ServerId, at: SocketAddr, listener: &PublicListener) -> String {
    match listener {
        PublicListener::Http(_) if listener.http3() => format!("{id}  https://{at}/  and HTTP/3"),
        PublicListener::Http(_) => format!("{id}  {}://{at}/", listener.scheme()),
        PublicListener::Tcp(_) => format!("{id}  tcp://{at}"),
    }
}

/// A server without public listeners is no web-tier.
pub(super) fn start_web_tier(
    config: &Arc<Config>,
    id: &ServerId,
    bound: Bound,
    credentials: &Credentials,
    members: &Members,
    (heard, spans, apps, purged, acme): (&LastHeard, &Spans, Apps, Purges, acme::Live),
) -> anyhow::Result<Option<WebTier>> {
    if bound.addresses().is_empty() {
        return Ok(None);
    }
    let web_tier = WebTier::start(WebTierConfig {
        config: config.clone(),
        me: id.clone(),
        bound,
        clients_max: open_files::clients_max(),
        credentials: credentials.clone(),
        members: members.clone(),
        heard: heard.clone(),
        traces: spans.exporter.clone(),
        acme,
    })?;
    app_purge::follow(apps, web_tier.view());
    purges::follow(purged, web_tier.view());
    Ok(Some(web_tier))
}

fn hub_addresses(config: &Config) -> Vec<(ServerId, String)> {
    config.hub().into_iter().map(|server| (server.id.clone(), server.cluster_address())).collect()
}

pub(super) fn member(config: &Config, cluster: &Cluster, server: &Server, started_ms: u64) -> Member {
    Member {
        id: server.id.as_str().to_owned(),
        cluster: cluster.id.as_str().to_owned(),
        index: server.index.0.into(),
        address: server.cluster_address(),
        started_ms,
        state: MemberState::Active.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: common::config::topology_hash(config),
        since_ms: started_ms,
        stage: config.deployments.stage.clone(),
        ..Member::default()
    }
}

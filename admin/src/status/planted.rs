//! A cluster for tests: three app servers of which two are hub servers that answer, a web-tier, and names that would be scripts.

use super::collect::{Answer, Asked, Silent, Snapshot};
use crate::{
    app_caches::{AppCacheRecord, AppCachesRecord, ServerAppCachesRecord},
    ask::{Answers, SilentServer},
    cache::{CacheEntryRecord, CacheRecord, LatelyRecord, NotKeptRecord, WebTierCacheRecord},
    jobs::{JobRecord, JobsRecord},
    logs::{LineRecord, LogQuery, LogsRecord},
    pipelines::{PipelineRecord, PipelinesRecord, RunRecord, RunsRecord, StepRecord},
    queues::{MessageRecord, QueueConsumerRecord, QueueRecord, QueuesRecord},
    sessions::{FoundRecord, HeldSessionRecord, HubSessionRecord},
    timestamp,
};
use common::config::{Config, LoadOptions, load_str};
use proto::{
    config::v1::EffectiveConfiguration,
    hub::v1::{
        App as HubApp, AppServer, AppServerState, AppSessions, FoundAttribute, FoundSession, Member,
        MemberAdmin, MemberState,
    },
    logs::v1::{LogLevel, LogLine, LogTail},
    requests::v1::{NotableRequest, NotableRequests},
    session::v1::{HeldAttribute, HeldSession},
    status::v1::{
        App, AppKind, AppTier, Caches, Daemon, DaemonState, Exemplar, Histogram, Hub, HubFollower, HubRole,
        Instance, InstanceState, Limit, Listener, Process, RefusedCount, RefusedKey, ServerStatus, Sessions,
        Standing, TcpListener, Traffic, Trouble, Upstream, UpstreamKind, UpstreamServer, WebTier, WorkerView,
    },
};
use std::{path::Path, sync::Arc};

/// 2026-03-01T09:00:00Z.
pub(crate) const NOW_MS: u64 = 1_772_355_600_000;

/// What must never come out as it is.
pub(crate) const EVIL: &str = "<script>alert(1)</script>\"'&";

/// A secret that must never come out at all.
pub(crate) const SECRET: &str = "planted-secret-0123456789abcdef";

pub(crate) fn config() -> Config {
    let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let text = format!(
        "cluster-key: {SECRET}\n\
         admin: {{users: [{{name: ops, password: \"{hash}\", roles: [deploy, operate]}}]}}\n\
         clusters:\n\
         - id: app-tier\n  servers:\n\
         \x20 - {{id: app-a, address: 127.0.0.1, port: 6800}}\n\
         \x20 - {{id: app-b, address: 127.0.0.1, port: 6801}}\n\
         \x20 - {{id: app-c, address: 127.0.0.1, port: 6802}}\n\
         - id: web-tier\n  servers:\n\
         \x20 - {{id: web-a, address: 127.0.0.1, port: 6803, http: [{{port: 8080}}]}}\n\
         \x20 hosts: [{{id: \"\", dispatch: [{{load-balance: {{regexp: \"\", cluster: app-tier}}}}]}}]\n"
    );
    load_str(&text, Path::new("copal.yaml"), &LoadOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

fn member(id: &str, cluster: &str, state: MemberState, admin: MemberAdmin) -> Member {
    Member {
        id: id.into(),
        cluster: cluster.into(),
        state: state.into(),
        admin: admin.into(),
        started_ms: NOW_MS - 3_600_000,
        since_ms: NOW_MS - 60_000,
        admin_since_ms: if admin == MemberAdmin::Enabled { 0 } else { NOW_MS - 30_000 },
        version: "0.1.0".into(),
        config_hash: common::config::topology_hash(&config()),
        address: "127.0.0.1:6800".into(),
        ..Member::default()
    }
}

fn traffic(requests: u64) -> Traffic {
    Traffic {
        connections: 120,
        connections_open: 12,
        requests,
        requests_active: 3,
        answers: vec![0, 0, requests * 97 / 100, requests * 2 / 100, requests / 100, 0],
        sent_bytes: 5_000_000,
        compressed: requests / 2,
        compressed_plain_bytes: 4_000_000,
        compressed_bytes: 1_000_000,
        latency: Some(Histogram {
            bounds_us: vec![1000, 2000, 4000],
            counts: vec![requests / 2, requests / 4, requests / 4, 0],
            sum_us: requests * 1500,
            exemplars: vec![Exemplar {
                bucket: 1,
                request_id: "4a\"b".into(),
                taken_us: 1500,
                time_ms: 1_784_548_800_250,
            }],
        }),
        ..Traffic::default()
    }
}

fn upstream() -> Upstream {
    let view = |standing: Standing, active| WorkerView {
        standing: standing.into(),
        active,
        idle: 2,
        warmup: 16,
        answers: 300,
        latency_us: Some(1200),
        ..WorkerView::default()
    };
    let server = |id: &str, workers| UpstreamServer { id: id.into(), workers, check: String::new() };
    let failing = WorkerView {
        worker: 1,
        trouble: Trouble::Unreachable.into(),
        trouble_ago_ms: Some(1500),
        probe_in_ms: Some(500),
        troubles: 4,
        ..view(Standing::Failing, 0)
    };
    let warming = WorkerView { warmup: 7, ..view(Standing::Well, 1) };
    Upstream {
        name: "app-tier".into(),
        kind: UpstreamKind::Cluster.into(),
        servers: vec![
            server("app-a", vec![view(Standing::Well, 1), view(Standing::Well, 2)]),
            server("app-b", vec![view(Standing::Down, 0), failing]),
            server("app-c", vec![warming]),
        ],
    }
}

fn app_tier() -> AppTier {
    let instance = |state: InstanceState, why: &str| Instance {
        state: state.into(),
        pid: 4711,
        restarts: 2,
        why: why.into(),
    };
    AppTier {
        caches: Some(Caches { near_hits: 900, hub_hits: 90, misses: 10, ..Caches::default() }),
        connections: 4,
        apps: vec![
            App { name: "default/".into(), kind: AppKind::Static.into(), ..App::default() },
            App {
                tag: "production/webapp/default/shop-1.2.0".into(),
                name: "default/shop".into(),
                kind: AppKind::Process.into(),
                commit: vec![0xaa; 20].into(),
                tree: vec![0xbb; 20].into(),
                instances: vec![instance(InstanceState::Ready, ""), instance(InstanceState::Down, EVIL)],
                sessions: Some(Sessions { held: 42, bytes: 10_000, unsaved: 1, ..Sessions::default() }),
                daemons: vec![
                    daemon("counter", DaemonState::Running, 7, ""),
                    daemon("mailer", DaemonState::Failed, 0, EVIL),
                ],
            },
        ],
    }
}

fn daemon(name: &str, state: DaemonState, token: u64, why: &str) -> Daemon {
    let failures = if state == DaemonState::Failed { 5 } else { 0 };
    Daemon {
        name: name.into(),
        state: state.into(),
        token,
        why: why.into(),
        since_ms: NOW_MS - 90_000,
        failures,
        failed_ms: if failures > 0 { NOW_MS - 90_000 } else { 0 },
    }
}

fn hub(id: &str) -> Hub {
    let leads = id == "app-a";
    let follower = |id: &str, matched, heard_ms| HubFollower { id: id.into(), matched, heard_ms };
    Hub {
        role: if leads { HubRole::Leader } else { HubRole::Follower }.into(),
        leader: "app-a".into(),
        term: 7,
        last_log: Some(1234),
        committed: Some(1234),
        applied: Some(1234),
        snapshot: Some(1000),
        snapshot_bytes: 5000,
        disk_bytes: 70_000,
        quorum_ack_ms: leads.then_some(40),
        followers: if leads {
            vec![follower("app-b", Some(1000), Some(60_000)), follower("app-c", Some(1234), Some(40))]
        } else {
            Vec::new()
        },
        sessions: 99,
        session_bytes: 123_456,
        ..Hub::default()
    }
}

/// What a server says.
pub(crate) fn status(id: &str) -> ServerStatus {
    let is_web = id.starts_with("web");
    ServerStatus {
        id: id.into(),
        version: "0.1.0".into(),
        started_ms: NOW_MS - 3_600_000,
        now_ms: NOW_MS,
        process: Some(Process {
            pid: 4700,
            cpu_us: 36_000_000,
            resident_bytes: 64 << 20,
            open_files: 100,
            open_files_max: 1000,
            threads: 8,
            disk_free_bytes: if id == "app-c" { 3 << 30 } else { 60 << 30 },
            disk_total_bytes: 100 << 30,
            memory_free_bytes: 2 << 30,
            memory_total_bytes: 8 << 30,
            cores: 2,
            load_per_mille: 750,
        }),
        web_tier: is_web.then(|| WebTier {
            workers: 2,
            listeners: vec![Listener { address: "0.0.0.0:8080".into(), ..Listener::default() }],
            total: Some(traffic(1000)),
            recent: Some(traffic(600)),
            recent_ms: 60_000,
            upstreams: vec![upstream()],
            limits: vec![limit()],
            tcp: vec![tcp()],
            ..WebTier::default()
        }),
        app_tier: (!is_web).then(app_tier),
        hub: (!is_web).then(|| hub(id)),
        hub_heard_ms: Some(40),
        ..ServerStatus::default()
    }
}

fn tcp() -> TcpListener {
    TcpListener {
        name: "0.0.0.0:5432".into(),
        connections: 40,
        connections_open: 3,
        refused: vec![
            RefusedCount { why: "denied".into(), count: 2 },
            RefusedCount { why: "no-server".into(), count: 0 },
        ],
        connects_failed: 1,
        timed_out: 5,
        received_bytes: 1 << 20,
        sent_bytes: 7 << 20,
    }
}

/// Somebody has sent markup for a key.
fn limit() -> Limit {
    Limit {
        name: "api".into(),
        kind: "rate-limit".into(),
        allows: "100/s, burst 100".into(),
        passed: 1234,
        refused: 56,
        keys: 7,
        most_refused: vec![RefusedKey { key: EVIL.into(), count: 50 }],
    }
}

/// `app-b` is dead, `app-c` disabled and short of disk.
pub(crate) fn snapshot() -> Snapshot {
    let asked = |id: &str| {
        let answer = Answer { status: status(id), clock_ahead_ms: 3 };
        Asked { id: id.into(), answer: Ok(Box::new(answer)) }
    };
    let silent = Silent { why: "connection refused".into(), since_ms: NOW_MS - 50_000 };
    let on = |server: &str| AppServer {
        server: server.into(),
        started_ms: NOW_MS - 3_600_000,
        commit: vec![0xaa; 20].into(),
        tree: vec![0xbb; 20].into(),
        state: AppServerState::Running.into(),
        text: String::new(),
    };
    let app = HubApp {
        tag: "production/webapp/default/shop-1.2.0".into(),
        commit: vec![0xaa; 20].into(),
        tree: vec![0xbb; 20].into(),
        user: "ops".into(),
        message: EVIL.into(),
        time_ms: NOW_MS - 86_400_000,
        clusters: vec!["app-tier".into()],
        servers: vec![on("app-a"), on("app-b"), on("app-c")],
        ..HubApp::default()
    };
    let (up, down) = (MemberState::Active, MemberState::Down);
    Snapshot {
        taken_ms: NOW_MS,
        me: "web-a".into(),
        members: Arc::new(vec![
            member("app-a", "app-tier", up, MemberAdmin::Enabled),
            member("app-b", "app-tier", down, MemberAdmin::Enabled),
            member("app-c", "app-tier", up, MemberAdmin::Disabled),
            member("web-a", "web-tier", up, MemberAdmin::Enabled),
            member(EVIL, "app-tier", down, MemberAdmin::Enabled),
        ]),
        apps: Arc::new([(app.tag.clone(), app)].into()),
        servers: vec![
            asked("app-a"),
            Asked { id: "app-b".into(), answer: Err(silent) },
            asked("app-c"),
            asked("web-a"),
        ],
    }
}

fn silent() -> Vec<SilentServer> {
    vec![SilentServer { server: EVIL.into(), why: EVIL.into() }]
}

/// A filter that is itself a script.
pub(crate) const LOG_QUERY: &str = "level=warn&text=disk&app=%3Cscript%3Ealert(1)%3C/script%3E";

/// Log lines of two servers.
pub(crate) fn logs() -> LogsRecord {
    let line = |sequence, text: &str| LogLine {
        sequence,
        time_ms: NOW_MS - 1000,
        level: LogLevel::Warn.into(),
        target: EVIL.into(),
        app: EVIL.into(),
        text: text.into(),
    };
    let tail = |first, lines| LogTail { lines, first, last: first + 2 };
    let said = vec![
        ("app-a".to_owned(), tail(10, vec![line(10, "the disk is full"), line(11, EVIL)])),
        (EVIL.to_owned(), tail(20, vec![line(20, EVIL)])),
    ];
    let logs = LogsRecord::of(Answers { said, silent: silent(), invalid: None }, &LogQuery::default());
    assert!(logs.lines.iter().all(|it: &LineRecord| it.level == "warn"));
    logs
}

/// Requests that failed or took long.
pub(crate) fn notable() -> Answers<NotableRequests> {
    let request = |status, why: &str| NotableRequest {
        id: EVIL.into(),
        method: EVIL.into(),
        host: EVIL.into(),
        path: format!("/cart/{EVIL}"),
        server: EVIL.into(),
        status,
        why: why.into(),
        taken_us: 1_500_000,
        time_ms: NOW_MS - 3000,
    };
    let told = NotableRequests {
        failed: vec![request(503, "no server can take the request now"), request(500, EVIL)],
        slow: vec![request(200, "")],
        slow_ms: 1000,
        workers: 2,
        silent_workers: 0,
    };
    Answers { said: vec![("web-a".into(), told)], silent: silent(), invalid: None }
}

/// Sessions on the hub, by app.
pub(crate) fn session_counts() -> Vec<AppSessions> {
    vec![AppSessions { app: EVIL.into(), sessions: 99, bytes: 123_456 }]
}

/// A session that is on the hub and in a server's memory.
pub(crate) fn found_session() -> FoundRecord {
    let on_hub = FoundSession {
        app: EVIL.into(),
        owner: EVIL.into(),
        version: 3,
        created_ago_ms: 60_000,
        used_ago_ms: 1000,
        timeout_ms: 1_800_000,
        bytes: 13,
        attribute_count: 2,
        attributes: vec![
            FoundAttribute { name: "count".into(), bytes: 8 },
            FoundAttribute { name: EVIL.into(), bytes: 5 },
        ],
    };
    let held = HeldSession {
        app: EVIL.into(),
        attributes: vec![HeldAttribute { name: EVIL.into(), bytes: 8 }],
        attribute_count: 1,
        unsaved: true,
        ..HeldSession::default()
    };
    FoundRecord {
        hub: vec![HubSessionRecord::of(on_hub)],
        servers: vec![HeldSessionRecord::of(EVIL, held)],
        silent: silent(),
    }
}

/// What servers say of their configurations: one differs.
pub(crate) fn configurations() -> Answers<EffectiveConfiguration> {
    let text = config().effective.replace("port: 8080", "port: 9090");
    let other = EffectiveConfiguration { file: EVIL.into(), text, hash: 1, topology_hash: 2 };
    let said = vec![("app-a".to_owned(), other.clone()), (EVIL.to_owned(), other)];
    Answers { said, silent: silent(), invalid: None }
}

/// What web-tiers keep, with names that would be scripts.
pub(crate) fn cache() -> CacheRecord {
    let entry = || CacheEntryRecord {
        url: format!("h/{EVIL}"),
        status: 200,
        bytes: 10,
        hits: 3,
        age_s: 1,
        lifetime_s: 60,
    };
    let web_tier = WebTierCacheRecord {
        server: EVIL.into(),
        hits: 3,
        misses: 1,
        hit_ratio: Some(0.75),
        not_kept: vec![NotKeptRecord { why: "private".into(), count: 2 }],
        largest: vec![entry()],
        hottest: vec![entry()],
        lately_not_kept: vec![LatelyRecord { url: EVIL.into(), why: EVIL.into() }],
        ..WebTierCacheRecord::default()
    };
    CacheRecord { web_tiers: vec![web_tier], silent: Vec::new() }
}

/// Queues of each kind; names of the hub are plain, and whoever takes over a server of it may have others.
pub(crate) fn queues() -> QueuesRecord {
    let consumer = QueueConsumerRecord { server: EVIL.into(), app: EVIL.into(), window: 4, assigned: 1 };
    let queue = |name: &str| QueueRecord { name: name.into(), ..QueueRecord::default() };
    let orders = QueueRecord {
        paused: true,
        ready: 1234,
        dead: 2,
        bytes: 5 << 10,
        oldest_ms: Some(61_000),
        published: 2000,
        published_per_s: Some(12.5),
        took_ms: Some(3.25),
        consumers: vec![consumer],
        ..queue("orders")
    };
    let runs = QueueRecord { assigned: 1, dead: 3, settled: 17, failed: 4, ..queue("job:report") };
    let queues = vec![queue(EVIL), runs, orders, queue("topic:orders:billing")];
    QueuesRecord { bytes: Some(1 << 20), capacity_bytes: Some(512 << 20), queues, unknown: None }
}

/// Messages of a queue that are scripts.
pub(crate) fn messages() -> Vec<MessageRecord> {
    let message = |id: &str, text: Option<&str>, base64: Option<&str>| MessageRecord {
        id: id.into(),
        attempts: 10,
        published_ms: NOW_MS - 120_000,
        priority: 4,
        group: EVIL.into(),
        run: Some("7".into()),
        app: EVIL.into(),
        content_type: EVIL.into(),
        bytes: 5000,
        text: text.map(str::to_owned),
        base64: base64.map(str::to_owned),
        at_ms: NOW_MS - 60_000,
        server: EVIL.into(),
        why: format!("500 Internal Server Error: {EVIL}\u{1b}[31m"),
    };
    vec![
        message("17", Some(&format!("{EVIL}\u{202e}{}", "x".repeat(1000))), None),
        message("18", None, Some("AP8=")),
    ]
}

/// Pipelines with and without steps.
pub(crate) fn pipelines() -> PipelinesRecord {
    let step = StepRecord {
        step: "first".into(),
        queue: "pipe:album:first".into(),
        ready: 7,
        dead: 2,
        ..StepRecord::default()
    };
    let album = PipelineRecord {
        name: "album".into(),
        going_on: 17,
        done: 1234,
        halted: 2,
        failed: 1,
        steps: vec![step],
    };
    let evil = PipelineRecord { name: EVIL.into(), ..PipelineRecord::default() };
    PipelinesRecord { pipelines: vec![evil, album], unknown: None }
}

/// Runs, one of which has failed of a script.
pub(crate) fn runs() -> RunsRecord {
    let going_on = RunRecord {
        id: "17".into(),
        app: EVIL.into(),
        state: "going-on",
        begun: timestamp::format(NOW_MS - 120_000),
        parts: 3,
        ..RunRecord::default()
    };
    let failed = RunRecord {
        id: "18".into(),
        app: EVIL.into(),
        state: "failed",
        ended: timestamp::format(NOW_MS - 60_000),
        why: format!("at first, message 9: {EVIL}\u{1b}[31m"),
        dead: 1,
        ..RunRecord::default()
    };
    RunsRecord { runs: vec![going_on, failed], next: Some("18".into()) }
}

/// Jobs, of an app and made by one.
pub(crate) fn jobs() -> JobsRecord {
    let report = JobRecord {
        name: "report".into(),
        app: EVIL.into(),
        declared: true,
        times: "30 2 * * * Europe/Berlin".into(),
        missed: "once",
        next: Some("2026-03-01T10:00:00.000Z".into()),
        last: Some("2026-03-01T08:58:59.000Z".into()),
        fired: 17,
        overlapped: 1,
        ..JobRecord::default()
    };
    let made = JobRecord {
        name: EVIL.into(),
        queue: Some("orders".into()),
        times: EVIL.into(),
        missed: "skip",
        paused: true,
        ..JobRecord::default()
    };
    JobsRecord { jobs: vec![report, made], total: 2, unknown: None }
}

/// Caches of apps.
pub(crate) fn app_caches() -> AppCachesRecord {
    let cache = AppCacheRecord { name: EVIL.into(), entries: 5120, bytes: 4 << 20, evicted: 7 };
    let server = ServerAppCachesRecord {
        server: EVIL.into(),
        near: 75,
        hub: 15,
        misses: 10,
        stale: 0,
        writes: 3,
        copies: 2,
        copied_bytes: 1024,
    };
    AppCachesRecord {
        bytes: Some(4 << 20),
        capacity_bytes: Some(512 << 20),
        caches: vec![cache],
        unknown: None,
        servers: vec![server],
    }
}

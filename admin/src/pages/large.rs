//! A simulated cluster of 64 servers and 500 apps: pages stay of a bounded size. How long each takes is printed, and measured by
//! `bench/run status`.

use super::*;
use crate::{
    history,
    jobs::{JobRecord, JobsRecord},
    queues::{QueueConsumerRecord, QueueRecord, QueuesRecord},
    status::{
        collect::{Answer, Asked, Snapshot},
        planted,
    },
};
use common::config::{LoadOptions, load_str};
use proto::{
    hub::v1::{AppServer, Member},
    status::v1::{App, AppKind, Instance, InstanceState, Sessions},
};
use std::{
    fmt::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const APP_SERVERS: usize = 60;
const WEB_SERVERS: usize = 4;
const APPS: usize = 500;

fn tag(number: usize) -> String {
    format!("production/webapp/default/app-{number:03}")
}

fn config() -> Config {
    let mut text =
        "cluster-key: planted-secret-0123456789abcdef\nclusters:\n- id: app-tier\n  servers:\n".to_owned();
    for number in 0..APP_SERVERS {
        writeln!(text, "  - {{id: app-{number}, address: 127.0.0.1, port: {}}}", 7000 + number).unwrap();
    }
    text.push_str("- id: web-tier\n  servers:\n");
    for number in 0..WEB_SERVERS {
        let (port, http) = (7100 + number, 8080 + number);
        writeln!(
            text,
            "  - {{id: web-{number}, address: 127.0.0.1, port: {port}, http: [{{port: {http}}}]}}"
        )
        .unwrap();
    }
    text.push_str("  hosts: [{id: \"\", dispatch: [{load-balance: {regexp: \"\", cluster: app-tier}}]}]\n");
    let loaded = load_str(&text, Path::new("copal.yaml"), &LoadOptions::default());
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config
}

/// What a server that runs all apps says; of the planted one's other roles some.
fn status(id: &str) -> proto::status::v1::ServerStatus {
    let mut status = planted::status(if id.starts_with("web") { "web-a" } else { "app-a" });
    status.id = id.to_owned();
    let instance = |number: usize| Instance {
        state: InstanceState::Ready.into(),
        pid: u32::try_from(4000 + number).unwrap(),
        ..Instance::default()
    };
    let app = |number: usize| App {
        tag: tag(number),
        name: format!("default/app-{number:03}"),
        kind: AppKind::Process.into(),
        commit: vec![0xaa; 20].into(),
        tree: vec![0xbb; 20].into(),
        instances: vec![instance(number)],
        sessions: Some(Sessions { held: 42, bytes: 10_000, ..Sessions::default() }),
        daemons: Vec::new(),
    };
    if let Some(app_tier) = &mut status.app_tier {
        app_tier.apps = (0..APPS).map(app).collect();
    }
    if !["app-0", "app-1", "app-2"].contains(&id) {
        status.hub = None;
    }
    for upstream in status.web_tier.iter_mut().flat_map(|it| &mut it.upstreams) {
        let one = upstream.servers[0].clone();
        let server =
            |number: usize| proto::status::v1::UpstreamServer { id: format!("app-{number}"), ..one.clone() };
        upstream.servers = (0..APP_SERVERS).map(server).collect();
    }
    status
}

fn snapshot(config: &Config) -> Snapshot {
    let planted = planted::snapshot();
    let member = |(cluster, server): (&common::config::Cluster, &common::config::Server)| Member {
        id: server.id.to_string(),
        cluster: cluster.id.to_string(),
        config_hash: common::config::topology_hash(config),
        ..planted.members[0].clone()
    };
    let on = |number: usize| AppServer {
        server: format!("app-{number}"),
        ..planted.apps.values().next().unwrap().servers[0].clone()
    };
    let app = |number: usize| proto::hub::v1::App {
        tag: tag(number),
        servers: (0..APP_SERVERS).map(on).collect(),
        ..planted.apps.values().next().unwrap().clone()
    };
    let asked =
        |id: String| Asked { answer: Ok(Box::new(Answer { status: status(&id), clock_ahead_ms: 3 })), id };
    Snapshot {
        members: Arc::new(config.servers().map(member).collect()),
        apps: Arc::new((0..APPS).map(|number| (tag(number), app(number))).collect()),
        servers: config.servers().map(|(_, it)| asked(it.id.to_string())).collect(),
        ..planted
    }
}

#[test]
fn a_cluster_of_64_servers_and_500_apps_has_pages_that_a_browser_can_show() {
    let (config, user) = (config(), planted::config().admin_users[0].clone());
    let visitor = Visitor { user, token: Some("the-token".to_owned()), done: String::new() };
    let snapshot = snapshot(&config);
    let mut sizes = Vec::new();
    let mut measure = |name: &'static str, make: &dyn Fn(&ClusterRecord) -> String| {
        let mut best = Duration::MAX;
        let mut text = String::new();
        for _ in 0..3 {
            let begun = Instant::now();
            text = make(&ClusterRecord::of(&snapshot, &config));
            best = best.min(begun.elapsed());
        }
        println!("| {name} | {:.1} ms | {} kB |", best.as_secs_f64() * 1000.0, text.len() / 1000);
        sizes.push((name, text));
    };
    let contents: [fn() -> Content; 5] = [
        || Content::Overview(graph::Graphs::default()),
        || Content::Servers,
        || Content::Balancer,
        || Content::Triad,
        || Content::Apps(list::ListQuery::default()),
    ];
    for content in contents {
        measure(content().page().name(), &|cluster| render("/admin", content(), &visitor, cluster));
    }
    let graphs = |server: Option<&str>, kinds: &[&[graph::Kind]]| {
        let question = graph::question(Range::Hour, server, kinds);
        let past = history::planted::past(&question, planted::NOW_MS / 1000);
        graph::Graphs::new("/admin", &question, kinds, Ok(&past))
    };
    measure("Overview with graphs", &|cluster| {
        let frame = Frame::new("/admin", Page::Overview, &visitor, cluster);
        text(&overview::Overview::new(frame, cluster).with(graphs(None, &[graph::OVERVIEW])))
    });
    measure("One server", &|cluster| {
        let (frame, it) = (Frame::new("/admin", Page::Servers, &visitor, cluster), &cluster.servers[0]);
        server::render(frame, it, cluster, graphs(Some("app-0"), &server::kinds(it)))
    });
    measure("JSON of all", &|cluster| serde_json::to_string(cluster).unwrap());
    let of = |name: &str| &sizes.iter().find(|(it, _)| *it == name).unwrap().1;
    assert_eq!(of("Servers").matches("href=\"/admin/servers/").count(), 64);
    assert_eq!(of("Balancer").matches("<tr><th scope=\"row\">").count(), WEB_SERVERS * (APP_SERVERS + 2));
    let apps = of("Apps");
    assert_eq!(apps.matches("actions/apps/").count(), 2 * 40, "each app can be rolled back and restarted");
    assert!(
        apps.contains("1 to 40 of 500") && apps.contains("and 48 more") && apps.contains("and 2300 more")
    );
    assert!(of("One server").contains("and 300 more"));
    for (name, text) in sizes.iter().filter(|(name, _)| *name != "JSON of all") {
        // With the style sheet, the scripts and uPlot it is under 150 kB, but for the graphs of a server that runs 500 apps.
        let max = if *name == "One server" { 150_000 } else { 110_000 };
        assert!(text.len() < max, "{name}: {} bytes", text.len());
    }
}

#[test]
fn apps_are_shown_a_page_at_a_time_and_found_by_name() {
    let (config, user) = (config(), planted::config().admin_users[0].clone());
    let visitor = Visitor { user, token: Some("the-token".to_owned()), done: String::new() };
    let cluster = ClusterRecord::of(&snapshot(&config), &config);
    let shown = |query: &str| {
        let content = Content::Apps(list::ListQuery::read(query));
        let page = render("/admin", content, &visitor, &cluster);
        let tags = page.split("<th scope=\"row\">production/webapp/default/app-").skip(1);
        (tags.map(|it| it[..3].to_owned()).collect::<Vec<_>>(), page)
    };
    assert_eq!(shown("find=app-49&page=1").0.len(), 10);
    assert_eq!(shown("page=2").0.first().map(String::as_str), Some("040"));
    let (last, page) = shown("page=99999999");
    assert_eq!((last.len(), last.last().map(String::as_str)), (20, Some("499")));
    assert!(page.contains("481 to 500 of 500") && page.contains("?find=&#38;page=12"));
    assert!(shown("find=%3Cb%3E&page=x").1.contains("No app has such a name"));
}

#[test]
fn a_thousand_queues_and_50_000_jobs_are_shown_a_hundred_at_a_time() {
    let user = planted::config().admin_users[0].clone();
    let visitor = Visitor { user, token: Some("the-token".to_owned()), done: String::new() };
    let cluster = ClusterRecord::of(&planted::snapshot(), &planted::config());
    let consumer = |number: usize| QueueConsumerRecord {
        server: format!("app-{number}"),
        app: "app-tier||/a-shop-with-a-long-name".to_owned(),
        window: 1000,
        assigned: 999,
    };
    let queue = |number: usize| QueueRecord {
        name: format!("job:a-queue-with-a-name-that-is-not-short-{number:04}"),
        ready: number as u64,
        dead: (1000 - number) as u64,
        oldest_ms: (number == 700).then_some(1),
        consumers: (0..100).map(consumer).collect(),
        ..QueueRecord::default()
    };
    let all = || QueuesRecord {
        queues: (0..1000).map(queue).collect(),
        bytes: Some(1),
        capacity_bytes: Some(2),
        unknown: None,
    };
    let queues = |query: &str| {
        let page = render("/admin", Content::Queues(list::ListQuery::read(query), all()), &visitor, &cluster);
        println!("| Queues | {} kB |", page.len() / 1000);
        assert!(page.len() < 200_000, "{}", page.len());
        page
    };
    let first = |page: &str| page.split("short-").nth(1).unwrap()[..4].to_owned();
    let page = queues("");
    assert!(page.contains("1 to 100 of 1000") && page.contains("and 97 more") && first(&page) == "0000");
    assert_eq!(page.matches("<th scope=\"row\">").count(), 100);
    assert_eq!(
        ["order=ready", "order=dead&page=2", "order=oldest", "order=x", "find=-0017"]
            .map(|it| first(&queues(it))),
        ["0999", "0100", "0700", "0000", "0017"]
    );
    let back = "name=\"list\" value=\"find=short&#38;order=dead&#38;page=2\"";
    assert!(queues("order=dead&page=2&find=short").contains(back));
    assert!(queues("find=nobodys").contains("No queue has such a name"));

    let job = |number: usize| JobRecord {
        name: format!("a-queue-with-a-name-that-is-not-short-{number:04}"),
        app: "app-tier||/a-shop-with-a-long-name".to_owned(),
        declared: true,
        times: "30 2 * * * Europe/Berlin".to_owned(),
        ..JobRecord::default()
    };
    let jobs = JobsRecord { jobs: (100..200).map(job).collect(), total: 50_000, unknown: None };
    let content = Content::Jobs(list::ListQuery::read("page=2"), jobs, all());
    let page = render("/admin", content, &visitor, &cluster);
    assert!(page.contains("101 to 200 of 50000") && page.contains("nobody to run it"), "{page}");
    println!("| Jobs | {} kB |", page.len() / 1000);
    assert!(page.len() < 250_000, "{}", page.len());
}

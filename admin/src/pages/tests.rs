//! The pages of the planted cluster: what they say, that nothing of it is a script, and that no secret is in them.

use super::*;
use crate::{
    audit::{AuditQuery, AuditRecord},
    configuration::ConfigurationRecord,
    health::record::HealthRecord,
    history,
    logs::LogQuery,
    requests::RequestsRecord,
    sessions::SessionsRecord,
    status::planted::{self, EVIL, SECRET},
};
use list::ListQuery;
use sessions::{Found, SessionsContent};
use std::collections::BTreeSet;

fn visitor(token: Option<&str>) -> Visitor {
    let user = planted::config().admin_users[0].clone();
    Visitor { user, token: token.map(str::to_owned), done: String::new() }
}

fn cluster() -> ClusterRecord {
    ClusterRecord::of(&planted::snapshot(), &planted::config())
}

fn all_pages() -> Vec<String> {
    let (cluster, visitor) = (cluster(), visitor(Some("the-token")));
    let pages = planted_contents().into_iter().map(|it| render("/admin", it, &visitor, &cluster));
    let queue = ["dead", "assigned"].map(|which| queue_page(&cluster, &visitor, which));
    let pipeline = [pipeline_page(&cluster, &visitor, "all")];
    pages.chain(with_graphs(&cluster, &visitor)).chain(queue).chain(pipeline).collect()
}

/// The page of a pipeline with runs.
fn pipeline_page(cluster: &ClusterRecord, visitor: &Visitor, which: &str) -> String {
    let pipelines = planted::pipelines();
    let looked = pipeline::Looked {
        pipeline: pipelines.pipelines.iter().find(|it| it.name == "album").unwrap(),
        query: pipeline::runs_query(&form::Form::read(&format!("which={which}"))),
        runs: Ok(planted::runs()),
    };
    pipeline::render(Frame::new("/admin", Page::Pipelines, visitor, cluster), cluster, &looked)
}

/// The page of a queue with messages.
fn queue_page(cluster: &ClusterRecord, visitor: &Visitor, which: &str) -> String {
    let queues = planted::queues();
    let looked = queue::Looked {
        queue: queues.queues.iter().find(|it| it.name == "orders").unwrap(),
        query: queue::messages_query(&form::Form::read(&format!("which={which}"))),
        messages: Ok(planted::messages()),
    };
    queue::render(Frame::new("/admin", Page::Queues, visitor, cluster), cluster, &looked)
}

/// The first page, and the page of each server.
fn with_graphs(cluster: &ClusterRecord, visitor: &Visitor) -> Vec<String> {
    let frame = |page| Frame::new("/admin", page, visitor, cluster);
    let graphs = |server: Option<&str>, kinds: &[&[graph::Kind]]| {
        let question = graph::question(Range::Hour, server, kinds);
        let past = history::planted::past(&question, planted::NOW_MS / 1000);
        graph::Graphs::new("/admin", &question, kinds, Ok(&past))
    };
    let first =
        overview::Overview::new(frame(Page::Overview), cluster).with(graphs(None, &[graph::OVERVIEW]));
    let servers = cluster.servers.iter().map(|it| {
        let graphs = match it.known.id.as_str() {
            EVIL => graph::Graphs::default(),
            id => graphs(Some(id), &server::kinds(it)),
        };
        server::render(frame(Page::Servers), it, cluster, graphs)
    });
    [text(&first)].into_iter().chain(servers).collect()
}

/// Of each page, in the order of [`Page::ALL`]; at the end the page of sessions with one that was looked for.
fn planted_contents() -> Vec<Content> {
    let (snapshot, config) = (planted::snapshot(), planted::config());
    let sessions = || SessionsRecord::of(&snapshot, Ok(planted::session_counts()));
    let found = Found { id: "aaSession-1".into(), found: planted::found_session() };
    vec![
        Content::Overview(graph::Graphs::default()),
        Content::Servers,
        Content::Balancer,
        Content::Triad,
        Content::Apps(ListQuery::default()),
        Content::Queues(ListQuery::default(), planted::queues()),
        Content::Pipelines(ListQuery::default(), planted::pipelines()),
        Content::Jobs(ListQuery::default(), planted::jobs(), planted::queues()),
        Content::Daemons(ListQuery::default()),
        Content::AppCaches(ListQuery::default(), planted::app_caches()),
        Content::Requests(RequestsRecord::of(&snapshot, planted::notable())),
        Content::Sessions(SessionsContent { sessions: sessions(), found: None }),
        Content::Cache(planted::cache()),
        Content::Logs(LogQuery::read(planted::LOG_QUERY).unwrap(), planted::logs()),
        Content::Health(HealthRecord::default()),
        Content::Audit(AuditQuery::newest(), Ok(AuditRecord::default())),
        Content::Configuration(ConfigurationRecord::of(&config, "web-a", planted::configurations())),
        Content::Sessions(SessionsContent { sessions: sessions(), found: Some(found) }),
    ]
}

#[test]
fn each_page_has_its_content() {
    let pages: Vec<_> = planted_contents().iter().map(Content::page).collect();
    assert_eq!(pages[..Page::ALL.len()], Page::ALL);
}

#[test]
fn nothing_that_others_named_is_a_script_and_no_secret_is_told() {
    let mut shown = 0;
    for page in all_pages() {
        assert!(!page.contains("<script>alert") && !page.contains(EVIL), "{page}");
        shown += page.matches("alert(1)").count();
        let (scripts, ours) =
            (page.matches("<script").count(), page.matches("<script src=\"/admin/assets/").count());
        assert!(scripts == ours && scripts > 0, "our own alone");
        assert!(!page.contains(SECRET) && !page.contains("argon2"));
        // Nothing that the policy would not let a browser do.
        assert!(!page.contains(" style=") && !page.contains(" onclick=") && !page.contains("javascript:"));
    }
    assert!(shown >= 30, "names, messages, paths, lines and reasons are told: {shown}");
    let json = serde_json::to_string(&cluster()).unwrap();
    assert!(!json.contains(SECRET) && !json.contains("argon2"));
}

#[test]
fn the_first_page_says_what_is_wrong_since_when_and_what_to_do() {
    let page = &all_pages()[0];
    for words in [
        "app-b is down",
        "for 1 min 0 s",
        "copal start --server app-b",
        "app-c has 3 % of its disk free",
        "The hub has no server to spare: 2 of 3 answer",
        "app-c is disabled: web-tiers send it nothing",
        "<dd>10.0<small> /s</small></dd>",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("<title>(") && page.contains("things are wrong"));
}

#[test]
fn each_page_shows_what_it_is_for() {
    let pages = all_pages();
    let has = |page: usize, words: &[&str]| {
        for word in words {
            assert!(pages[page].contains(word), "{word}: {}", pages[page]);
        }
    };
    has(
        1,
        &["app-a", "64.0 MiB", "1.00 %", "1 h 0 min", "actions/servers/app-a/disable", "connection refused"],
    );
    has(2, &["Cluster app-tier", "failing", "in 500 ms", "7 of 16", "1 s ago", "0: down, 1: failing"]);
    has(3, &["app-a", "leader", "1\u{202f}234", "234", "silent"]);
    has(
        4,
        &["production/webapp/default/shop-1.2.0", "aaaaaaaaaa", "✓", "1 d 0 h ago", "pid 4711, 2 restarts"],
    );
    has(
        10,
        &["web-a", "up to 2.00 ms: 150", "no server can take the request now", "503", "1.50 s", "97.0 %"],
    );
    has(11, &["On the hub", "99", "121 KiB", "default/shop", "42", "actions/sessions", "name=\"id\""][..5]);
    has(13, &["the disk is full", "08:59:59.000", "<option selected>warn</option>", "value=\"disk\""]);
    has(
        16,
        &["cluster-key: (hidden)", "port: 8080", "other servers", "+    - port: 9090", "does not answer"],
    );
    has(
        17,
        &[
            "aaSe…",
            "count (8 B)",
            "has changes that the hub lacks",
            "actions/sessions/invalidate",
            "data-still",
        ],
    );
}

#[test]
fn the_pages_of_what_apps_share_show_it() {
    let pages = all_pages();
    let has = |page: usize, words: &[&str]| {
        for word in words {
            assert!(pages[page].contains(word), "{word}: {}", pages[page]);
        }
    };
    has(
        5,
        &[
            "orders",
            "1.00 MiB",
            "of 512 MiB",
            "1 min 1 s",
            "1\u{202f}234",
            "paused",
            "actions/queues/orders/resume",
        ],
    );
    has(
        5,
        &[
            "runs of the job report",
            "durable subscription billing of the topic orders",
            "job%3Areport?which=dead",
        ],
    );
    has(6, &["album", "1\u{202f}234", "pipelines/album?which=failed", "<td class=\"n\">7</td>"]);
    has(
        7,
        &[
            "30 2 * * * Europe/Berlin",
            "in 1 h 0 min",
            "1 min 1 s ago",
            "running",
            "a queue<small>",
            "never again",
        ],
    );
    has(
        7,
        &[
            "actions/jobs/report/run",
            "actions/jobs/report/pause",
            "queues/job%3Areport?which=dead",
            "2026-03-01 10:00:00",
        ],
    );
    has(8, &["counter", "default/shop", "running", "1 min 30 s", "mailer", "failing", "app-tier"]);
    has(9, &["5\u{202f}120", "4.00 MiB", "of 512 MiB", "90.0 %", "1.00 KiB"]);
}

#[test]
fn a_message_is_shown_as_text_and_not_all_of_it() {
    let page = queue_page(&cluster(), &visitor(Some("the-token")), "dead");
    for words in [
        "&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;\\u{202e}xxx",
        "500 Internal Server Error: &#60;script&#62;",
        "\\u{1b}[31m",
        "base64: AP8=…",
        "<a id=\"which-dead\" href=\"/admin/queues/orders?which=dead\" aria-current=\"true\">dead 2</a>",
        "2 min 0 s ago",
        "1 min 0 s ago",
        "4.88 KiB",
        "name=\"id\" value=\"17\"",
        "actions/queues/orders/purge",
        "<th scope=\"row\">&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;</th>",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains(&"x".repeat(400)) && !page.contains(['\u{1b}', '\u{202e}']));
    let page = queue_page(&cluster(), &visitor(Some("the-token")), "assigned");
    assert!(page.contains("in 0 s, &#60;script") && !page.contains("name=\"id\""), "{page}");
}

#[test]
fn a_pipeline_shows_its_steps_and_runs() {
    let page = pipeline_page(&cluster(), &visitor(Some("the-token")), "failed");
    for words in [
        "queues/pipe%3Aalbum%3Afirst?which=dead",
        "aria-current=\"true\">failed 1</a>",
        "all 1\u{202f}254",
        "<span class=\"chip bad\">failed</span>",
        "2 min 0 s ago",
        "at first, message 9: &#60;script&#62;",
        "which=failed&amp;after=18",
        "actions/pipelines/album/end",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains('\u{1b}'));
}

#[test]
fn forms_are_for_those_who_may_and_each_brings_its_token() {
    let cluster = cluster();
    let page = render("/admin", Content::Servers, &visitor(Some("the-token")), &cluster);
    assert_eq!(page.matches("<form").count(), page.matches("name=\"token\" value=\"the-token\"").count());
    assert!(page.matches("<form").count() > 3);
    let page = render("/admin", Content::Servers, &visitor(None), &cluster);
    assert_eq!(page.matches("<form").count(), 0, "a tool sends none");
    let mut viewer = visitor(Some("t"));
    viewer.user.roles = vec![Role::View];
    for page in [Content::Servers, Content::Apps(ListQuery::default())] {
        assert_eq!(render("/admin", page, &viewer, &cluster).matches("<form").count(), 1, "to sign out");
    }
    // Who may look sees queues and jobs, and changes none.
    for page in [5, 7].map(|it| render("/admin", planted_contents().swap_remove(it), &viewer, &cluster)) {
        assert!(page.contains("report") && !page.contains("/actions/"), "{page}");
    }
    assert!(!queue_page(&cluster, &viewer, "dead").contains("/actions/"));
    assert!(!pipeline_page(&cluster, &viewer, "all").contains("/actions/"));
    // Who may look may look a session up, and end none.
    let page = render("/admin", planted_contents().swap_remove(17), &viewer, &cluster);
    assert!(page.contains("action=\"/admin/sessions\"") && !page.contains("sessions/invalidate"), "{page}");
    // All forms that send something bring the token; the filter of the log lines only looks.
    for page in all_pages() {
        assert_eq!(
            page.matches("method=\"post\"").count(),
            page.matches("name=\"token\" value=\"the-token\"").count()
        );
    }
}

/// What a screen reader and a keyboard need: landmarks, one first heading, headed tables, names for what scrolls, ids once.
#[test]
fn pages_are_accessible() {
    for page in all_pages() {
        for (mark, count) in
            [("<main", 1), ("<nav", 1), ("<h1", 1), ("<header", 1), ("lang=\"en\"", 1), ("class=\"skip\"", 1)]
        {
            assert_eq!(page.matches(mark).count(), count, "{mark}");
        }
        assert_eq!(page.matches("aria-current=\"page\"").count(), 1);
        assert_eq!(page.matches("<th ").count(), page.matches("scope=").count());
        assert!(!page.contains("<th>"));
        assert_eq!(page.matches("class=\"scroll\"").count(), page.matches("role=\"region\"").count());
        let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
        let once: BTreeSet<_> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "{ids:?}");
    }
}

#[test]
fn a_large_cluster_has_pages_of_a_bounded_size() {
    let mut cluster = cluster();
    for number in 0..64 {
        let mut known = cluster.servers[1].known.clone();
        known.id = format!("more-{number}");
        let silent = cluster.servers[1].silent.clone();
        cluster.servers.push(crate::status::record::ServerRecord {
            known,
            roles: Vec::new(),
            listens: false,
            cpu_per_mille: None,
            silent,
            answer: None,
        });
    }
    let page = render("/admin", Content::Overview(graph::Graphs::default()), &visitor(None), &cluster);
    assert!(page.contains("and 52 more"), "{page}");
    assert!(page.len() < 150_000);
    assert!(render("/admin", Content::Servers, &visitor(None), &cluster).len() < 150_000);
}

#[test]
fn a_page_is_wanted_by_browsers() {
    let accepts = |value: &'static str| {
        is_wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
    };
    assert!(accepts("text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(!accepts("*/*") && !accepts("application/json") && !is_wanted(&HeaderMap::new()));
}

#[test]
fn graphs_are_lines_and_tables_and_the_script_finds_the_same_numbers() {
    let (cluster, visitor) = (cluster(), visitor(None));
    let pages = with_graphs(&cluster, &visitor);
    let page = &pages[0];
    assert!(page.contains("<h2 id=\"graphs-heading\">The last hour</h2>"));
    assert!(
        page.contains("<a href=\"?range=1h\" aria-current=\"true\" aria-label=\"1h, the last hour\">1h</a>")
    );
    assert_eq!(page.matches("<figure").count(), 4);
    // A drawing and a table each; a line for each row.
    assert_eq!(
        (page.matches("<svg class=\"plot\"").count(), page.matches("class=\"legend\"").count()),
        (4, 4)
    );
    assert_eq!(
        (page.matches("<tr data-series=").count(), page.matches("<path class=\"line ").count()),
        (9, 9)
    );
    // 2 of 3 steps are known, so it is not known what is now; requests went from 0 to 239 by one.
    let row = "<tr data-series=\"requests_per_s\"><th scope=\"row\"><span class=\"mark s1\" aria-hidden=\"true\"></span>all</th>\
               <td class=\"n\">–</td><td class=\"n\">0 /s</td><td class=\"n\">239 /s</td></tr>";
    assert!(page.contains(row), "{page}");
    let source = "data-source=\"/admin/api/v1/history?range=1h&#38;series=requests_per_s,errors_4xx_per_s,";
    assert!(page.contains(source), "{page}");
    assert!(page.len() < 60_000, "{}", page.len());
    for (server, page) in cluster.servers.iter().zip(&pages[1..]) {
        let figures = match server.known.id.as_str() {
            "app-a" | "app-c" | "web-a" => 8,
            // It does not answer, and may have been anything.
            "app-b" => 12,
            _ => 0,
        };
        assert_eq!(page.matches("<figure").count(), figures, "{}", server.known.id);
        assert!(page.len() < 80_000, "{}", page.len());
    }
}

#[test]
fn a_page_of_a_server_says_all_of_it() {
    let (cluster, visitor) = (cluster(), visitor(Some("the-token")));
    let pages = with_graphs(&cluster, &visitor);
    for (place, words) in [
        (
            1,
            &[
                "app-a <span class=\"chip ok\">up</span>",
                "leader",
                "production/webapp/default/shop-1.2.0",
                "pid 4711",
                "actions/servers/app-a/disable",
            ][..],
        ),
        (
            2,
            &[
                "app-b <span class=\"chip bad\">down</span>",
                "for 1 min 0 s: connection refused",
                "app-b is down",
            ],
        ),
        (3, &["app-c has 3 % of its disk free", "3.00 GiB free of 100 GiB"]),
        (4, &["http://0.0.0.0:8080/", "<dd>10.0<small> /s</small></dd>"]),
    ] {
        for word in words {
            assert!(pages[place].contains(word), "{word}: {}", pages[place]);
        }
    }
    let list = render("/admin", Content::Servers, &visitor, &cluster);
    assert!(
        list.contains("href=\"/admin/servers/app-a\"") && list.contains("href=\"/admin/servers/%3Cscript%3E")
    );
}

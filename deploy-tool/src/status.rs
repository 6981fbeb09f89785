//! `status --watch`: the status page in a terminal, from its JSON.

use crate::{
    clean, client, complain, say,
    table::{self, millis},
    target::Target,
};
use http::Method;
use serde::Deserialize;
use std::{fmt::Write, io::IsTerminal, time::Duration};

/// Between two looks, as the page has it.
const PERIOD: Duration = Duration::from_secs(2);

/// `GET /api/v1/status`, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Cluster {
    taken: Option<String>,
    asked_by: String,
    problems: Vec<Problem>,
    traffic: Rate,
    connections_open: u64,
    sessions: u64,
    servers: Vec<Server>,
    hub: Hub,
    apps: Vec<App>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    severity: String,
    what: String,
    remedy: String,
    since: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Rate {
    requests_per_s: f64,
    errors_per_s: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Server {
    id: String,
    cluster: String,
    state: String,
    admin: String,
    silent: Option<Silent>,
    answer: Option<Answer>,
}

#[derive(Debug, Deserialize)]
struct Silent {
    why: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    process: Process,
    web_tier: Option<WebTier>,
}

#[derive(Debug, Deserialize)]
struct Process {
    cpu_per_mille: u64,
    resident_bytes: u64,
    open_files: u64,
    disk_free_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct WebTier {
    connections_open: u64,
    rate: Rate,
}

#[derive(Debug, Deserialize)]
struct Hub {
    leader: Option<String>,
    term: u64,
    servers: Vec<HubServer>,
}

#[derive(Debug, Deserialize)]
struct HubServer {
    id: String,
    role: Option<String>,
    applied: Option<u64>,
    lag: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct App {
    tag: String,
    commit: Option<String>,
    servers: Vec<OnServer>,
}

#[derive(Debug, Deserialize)]
struct OnServer {
    server: String,
    same: bool,
}

/// Shows the cluster again and again until the command is ended; on something that is no terminal, or as JSON, one after the other.
///
/// # Errors
/// The first look fails. Later ones that do are told, and it goes on.
pub(crate) async fn watch(target: &Target, json: bool) -> anyhow::Result<bool> {
    // Home and clear (ECMA-48): in place of the last one.
    let clear = if std::io::stdout().is_terminal() && !json { "\u{1b}[H\u{1b}[2J" } else { "" };
    let mut first = true;
    loop {
        match look(target, json).await {
            Ok(shown) => say(&format!("{clear}{shown}")),
            Err(error) if first => return Err(error),
            Err(error) => complain(&error),
        }
        first = false;
        tokio::time::sleep(PERIOD).await;
    }
}

async fn look(target: &Target, json: bool) -> anyhow::Result<String> {
    let answer = client::ask(target, Method::GET, "/api/v1/status", client::Body::none()).await?;
    if json { Ok(answer.text().to_owned()) } else { Ok(shown(&answer.read()?)) }
}

/// All of it.
fn shown(cluster: &Cluster) -> String {
    let mut text = String::new();
    let when = cluster.taken.as_deref().map_or(String::new(), table::seconds);
    let wrong = cluster.problems.iter().filter(|it| it.severity != "notice").count();
    let verdict = if wrong == 0 { "all is well".to_owned() } else { format!("{wrong} wrong") };
    let _ = writeln!(text, "{when}  {verdict}  (asked by {})\n", clean(&cluster.asked_by));
    for it in &cluster.problems {
        let since =
            it.since.as_deref().map_or(String::new(), |it| format!(" (since {})", table::seconds(it)));
        let _ =
            writeln!(text, "{}: {}{since}\n  {}", clean(&it.severity), clean(&it.what), clean(&it.remedy));
    }
    if !cluster.problems.is_empty() {
        text.push('\n');
    }
    let Rate { requests_per_s, errors_per_s, .. } = cluster.traffic;
    let _ = writeln!(
        text,
        "{requests_per_s:.1} requests/s, {errors_per_s:.1} errors/s, p50 {}, p99 {}, {} clients, {} sessions\n",
        millis(cluster.traffic.p50_ms),
        millis(cluster.traffic.p99_ms),
        cluster.connections_open,
        cluster.sessions
    );
    for rows in [servers(cluster), hub(cluster), apps(cluster)] {
        if rows.len() > 1 {
            let _ = writeln!(text, "{}\n", table::lines(&rows).join("\n"));
        }
    }
    text.trim_end().to_owned()
}

fn servers(cluster: &Cluster) -> Vec<Vec<String>> {
    let heading = [
        "SERVER",
        "CLUSTER",
        "STATE",
        "ADMIN",
        "CPU",
        "MEMORY",
        "FILES",
        "DISK FREE",
        "CLIENTS",
        "REQ/S",
        "P99",
    ];
    let row = |it: &Server| {
        let process = it.answer.as_ref().map(|it| &it.process);
        let web = it.answer.as_ref().and_then(|it| it.web_tier.as_ref());
        let of = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let state = match &it.silent {
            Some(silent) if it.state == "up" => format!("silent: {}", silent.why),
            _ => it.state.clone(),
        };
        vec![
            it.id.clone(),
            it.cluster.clone(),
            state,
            it.admin.clone(),
            of(process.map(|it| format!("{:.1}%", it.cpu_per_mille as f64 / 10.0))),
            of(process.map(|it| mebibytes(it.resident_bytes))),
            of(process.map(|it| it.open_files.to_string())),
            of(process.map(|it| mebibytes(it.disk_free_bytes))),
            of(web.map(|it| it.connections_open.to_string())),
            of(web.map(|it| format!("{:.1}", it.rate.requests_per_s))),
            of(web.map(|it| millis(it.rate.p99_ms))),
        ]
    };
    [heading.map(str::to_owned).to_vec()].into_iter().chain(cluster.servers.iter().map(row)).collect()
}

fn hub(cluster: &Cluster) -> Vec<Vec<String>> {
    let leader = cluster.hub.leader.as_deref().unwrap_or("no leader");
    let heading = [
        format!("HUB ({leader}, term {})", cluster.hub.term),
        "ROLE".into(),
        "APPLIED".into(),
        "BEHIND".into(),
    ];
    let number = |it: Option<u64>| it.map_or("-".to_owned(), |it| it.to_string());
    let row = |it: &HubServer| {
        let role = it.role.clone().unwrap_or_else(|| "silent".to_owned());
        vec![it.id.clone(), role, number(it.applied), number(it.lag)]
    };
    [heading.to_vec()].into_iter().chain(cluster.hub.servers.iter().map(row)).collect()
}

fn apps(cluster: &Cluster) -> Vec<Vec<String>> {
    let row = |it: &App| {
        let version = it.commit.as_deref().unwrap_or("-").chars().take(10).collect();
        let mark = |it: &OnServer| format!("{} {}", if it.same { "✓" } else { "✗" }, it.server);
        vec![it.tag.clone(), version, it.servers.iter().map(mark).collect::<Vec<_>>().join(" ")]
    };
    let heading = ["APP", "VERSION", "SERVERS"].map(str::to_owned).to_vec();
    [heading].into_iter().chain(cluster.apps.iter().map(row)).collect()
}

fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{
        "taken": "2026-03-01T09:00:00.123Z", "asked_by": "web-a",
        "problems": [{"severity": "fault", "server": "app-b", "what": "app-b is down\u001b[31m", "remedy": "Start it again.", "since": "2026-03-01T08:59:00.000Z"}],
        "traffic": {"seconds": 60.0, "requests_per_s": 12.345, "errors_per_s": 0.0, "sent_bytes_per_s": 1.0, "p50_ms": 1.25, "p99_ms": null},
        "connections_open": 3, "sessions": 7, "session_bytes": 100,
        "servers": [
            {"id": "app-a", "cluster": "app-tier", "state": "up", "admin": "enabled", "silent": null,
             "answer": {"process": {"cpu_per_mille": 15, "resident_bytes": 67108864, "open_files": 40, "disk_free_bytes": 1073741824}, "web_tier": null}},
            {"id": "app-b", "cluster": "app-tier", "state": "down", "admin": "enabled", "silent": {"why": "refused", "since": null}, "answer": null}],
        "hub": {"leader": "app-a", "term": 2, "sessions": 7, "session_bytes": 100, "servers": [{"id": "app-a", "role": "leader", "applied": 9, "lag": null}]},
        "apps": [{"tag": "production/webapp/default/site", "commit": "86eae0b3af00", "servers": [{"server": "app-a", "same": true}, {"server": "app-b", "same": false}]}]
    }"#;

    #[test]
    fn the_whole_cluster_is_on_a_screen() {
        let cluster: Cluster = serde_json::from_str(STATUS).unwrap();
        let text = shown(&cluster);
        assert_eq!(
            text,
            "2026-03-01T09:00:00Z  1 wrong  (asked by web-a)\n\n\
             fault: app-b is down[31m (since 2026-03-01T08:59:00Z)\n  Start it again.\n\n\
             12.3 requests/s, 0.0 errors/s, p50 1.2ms, p99 -, 3 clients, 7 sessions\n\n\
             SERVER  CLUSTER   STATE  ADMIN    CPU   MEMORY  FILES  DISK FREE  CLIENTS  REQ/S  P99\n\
             app-a   app-tier  up     enabled  1.5%  64M     40     1024M      -        -      -\n\
             app-b   app-tier  down   enabled  -     -       -      -          -        -      -\n\n\
             HUB (app-a, term 2)  ROLE    APPLIED  BEHIND\n\
             app-a                leader  9        -\n\n\
             APP                             VERSION     SERVERS\n\
             production/webapp/default/site  86eae0b3af  ✓ app-a ✗ app-b"
        );
    }
}

//! What web-tiers count, in the form of HAProxy's `stats;csv` (HAProxy's management guide §9.1), for collectors that read that. A column of
//! which nothing is known is empty.

use super::{
    collect::Snapshot,
    upstream::{UpstreamRecord, UpstreamServerRecord},
};
use common::config::Config;
use proto::status::v1::{Traffic, WebTier};
use std::{collections::BTreeMap, fmt::Write};

/// The columns of HAProxy 2.9, up to those of its TLS; later ones come behind these there too.
const COLUMNS: &str = "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,\
chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,\
check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,\
comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,\
check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,\
conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,\
rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight,agg_server_status,\
agg_server_check_status,agg_check_status,srid,sess_other,h1sess,h2sess,h3sess,req_other,h1req,h2req,h3req,proto,-,ssl_sess,\
ssl_reused_sess,ssl_failed_handshake";

/// A line: the columns that are known.
type Row = BTreeMap<&'static str, String>;

/// The table of all web-tiers that answer.
pub(crate) fn csv(snapshot: &Snapshot, config: &Config) -> String {
    let mut text = format!("# {COLUMNS},\n");
    let web_tiers = snapshot.answers().filter_map(|(id, it)| Some((id, it.status.web_tier.as_ref()?)));
    let mut proxies = 0_usize;
    for (place, (id, web_tier)) in web_tiers.enumerate() {
        let mut rows = vec![("FRONTEND".to_owned(), id.to_owned(), 0, front(web_tier))];
        for upstream in &web_tier.upstreams {
            let upstream = UpstreamRecord::of(upstream, snapshot.taken_ms);
            let name = format!("{id}/{}", upstream.name);
            for (number, server) in upstream.servers.iter().enumerate() {
                rows.push((server.id.clone(), name.clone(), number + 1, one(server, config)));
            }
            rows.push(("BACKEND".to_owned(), name, 0, back(&upstream)));
        }
        for (server, proxy, number, mut row) in rows {
            // Servers stand before their backend, as in HAProxy, and have its number.
            row.insert("pid", (place + 1).to_string());
            row.insert("iid", (proxies + 1).to_string());
            row.insert("sid", number.to_string());
            proxies += usize::from(number == 0);
            row.insert("pxname", proxy);
            row.insert("svname", server);
            line(&mut text, &row);
        }
    }
    text
}

fn line(text: &mut String, row: &Row) {
    for column in COLUMNS.split(',') {
        let value = row.get(column).map(String::as_str).unwrap_or_default();
        let _ = write!(text, "{},", quoted(value));
    }
    text.push('\n');
}

/// As RFC 4180 §2 has it.
fn quoted(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

fn row(columns: impl IntoIterator<Item = (&'static str, u64)>) -> Row {
    columns.into_iter().map(|(column, value)| (column, value.to_string())).collect()
}

/// Clients' side.
fn front(web_tier: &WebTier) -> Row {
    let (total, recent) =
        (web_tier.total.clone().unwrap_or_default(), web_tier.recent.clone().unwrap_or_default());
    let rate = |count: u64| count.saturating_mul(1000).checked_div(web_tier.recent_ms).unwrap_or_default();
    let of = |traffic: &Traffic, class: usize| traffic.answers.get(class).copied().unwrap_or_default();
    let mut found = row([
        ("type", 0),
        ("scur", total.connections_open),
        ("stot", total.connections),
        ("conn_tot", total.connections),
        ("dcon", total.connections_refused),
        ("bin", total.received_bytes),
        ("bout", total.sent_bytes),
        ("rate", rate(recent.connections)),
        ("conn_rate", rate(recent.connections)),
        ("req_rate", rate(recent.requests)),
        ("req_tot", total.requests),
        ("hrsp_other", of(&total, 0)),
        ("ssl_sess", total.handshakes),
        ("ssl_reused_sess", total.handshakes_resumed),
        ("ssl_failed_handshake", total.handshakes_failed),
    ]);
    let classes = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
    found
        .extend(classes.into_iter().enumerate().map(|(at, column)| (column, of(&total, at + 1).to_string())));
    found.extend([("status", "OPEN"), ("mode", "http")].map(|(column, value)| (column, value.to_owned())));
    found
}

/// A server as a web-tier sees it, all its workers together.
fn one(server: &UpstreamServerRecord, config: &Config) -> Row {
    let mut found = row([
        ("type", 2),
        ("qcur", server.waiting),
        ("scur", server.active),
        ("used_conn_cur", server.active),
        ("srv_icur", server.idle),
        ("idle_conn_cur", server.idle),
        ("stot", server.answers),
        ("lbtot", server.answers),
        ("act", u64::from(status(server) == "UP")),
        ("bck", 0),
        ("chkdown", server.troubles),
    ]);
    if server.state == "warming" {
        found.insert("throttle", (u64::from(server.warmup) * 100 / 16).to_string());
    }
    if let Some(ms) = server.latency_ms {
        found.insert("rtime", format!("{ms:.0}"));
    }
    if let Some(ago) = server.trouble_ago_ms {
        found.insert("lastchg", (ago / 1000).to_string());
    }
    let known =
        config.servers().find(|(_, it)| it.id.as_str() == server.id).map(|(_, it)| it.cluster_address());
    found.insert("addr", known.unwrap_or_else(|| server.id.clone()));
    found.insert("status", status(server).to_owned());
    // Some collectors split at every comma.
    found.insert("check_desc", server.why.replace(',', ";"));
    found.insert("mode", "http".to_owned());
    found
}

/// All servers of an upstream together.
fn back(upstream: &UpstreamRecord) -> Row {
    let servers = &upstream.servers;
    let sum = |read: fn(&UpstreamServerRecord) -> u64| servers.iter().map(read).sum::<u64>();
    let up = servers.iter().filter(|it| status(it) == "UP").count() as u64;
    let takes = servers.iter().any(|it| matches!(status(it), "UP" | "DRAIN"));
    let mut found = row([
        ("type", 1),
        ("qcur", sum(|it| it.waiting)),
        ("scur", sum(|it| it.active)),
        ("stot", sum(|it| it.answers)),
        ("lbtot", sum(|it| it.answers)),
        ("act", up),
        ("bck", 0),
        ("chkdown", sum(|it| it.troubles)),
    ]);
    found.insert("status", if takes { "UP" } else { "DOWN" }.to_owned());
    found.insert("mode", "http".to_owned());
    found
}

/// In HAProxy's words.
fn status(server: &UpstreamServerRecord) -> &'static str {
    match server.state {
        "disabled" => "MAINT",
        "disabled-soft" | "draining" => "DRAIN",
        "failing" | "unhealthy" | "ejected" | "down" | "stopping" => "DOWN",
        _ => "UP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;

    /// The rows by proxy and server, each by column, as a collector reads them.
    fn read(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let mut heading = lines.next().unwrap();
        heading[0] = heading[0].trim_start_matches("# ").to_owned();
        lines
            .map(|cells| {
                assert_eq!(cells.len(), heading.len(), "{cells:?}");
                let row: BTreeMap<_, _> = heading.iter().cloned().zip(cells).collect();
                (format!("{} {}", row["pxname"], row["svname"]), row)
            })
            .collect()
    }

    #[test]
    fn the_table_is_as_haproxy_has_it() {
        let text = csv(&planted::snapshot(), &planted::config());
        assert!(text.starts_with("# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,"), "{text}");
        let rows = read(&text);
        assert_eq!(
            rows.keys().collect::<Vec<_>>(),
            [
                "web-a FRONTEND",
                "web-a/app-tier BACKEND",
                "web-a/app-tier app-a",
                "web-a/app-tier app-b",
                "web-a/app-tier app-c"
            ]
        );
        let cell = |row: &str, column: &str| rows[row][column].clone();
        let front = "web-a FRONTEND";
        assert_eq!(
            (cell(front, "status"), cell(front, "type"), cell(front, "req_tot")),
            ("OPEN".into(), "0".into(), "1000".into())
        );
        assert_eq!(
            (cell(front, "hrsp_2xx"), cell(front, "hrsp_5xx"), cell(front, "req_rate")),
            ("970".into(), "0".into(), "10".into())
        );
        let statuses = ["app-a", "app-b", "app-c"].map(|it| cell(&format!("web-a/app-tier {it}"), "status"));
        assert_eq!(statuses, ["UP", "DOWN", "UP"]);
        assert_eq!(
            (cell("web-a/app-tier app-c", "throttle"), cell("web-a/app-tier app-a", "throttle")),
            ("43".into(), String::new())
        );
        let back = "web-a/app-tier BACKEND";
        assert_eq!(
            (cell(back, "status"), cell(back, "act"), cell(back, "iid")),
            ("UP".into(), "2".into(), "2".into())
        );
        assert_eq!(
            (cell("web-a/app-tier app-b", "iid"), cell("web-a/app-tier app-b", "sid")),
            ("2".into(), "2".into())
        );
    }

    #[test]
    fn what_would_break_a_line_is_quoted() {
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("plain"), "plain");
    }
}

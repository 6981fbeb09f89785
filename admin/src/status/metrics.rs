//! What a server says of itself as metrics: Prometheus' text format 0.0.4, or OpenMetrics 1.0. Names after the conventions of both:
//! base units, `_total` on counters. Labels have the file's and the apps' names alone, so their number is bounded by these.

mod hub;
mod tcp;

use proto::status::v1::{
    App, AppTier, DiskTier, Exemplar, Health, Histogram, InstanceState, Limit, Process, ProxyCache,
    ServerStatus, Standing, Traffic, UpstreamKind, WebTier,
};
use std::{
    borrow::Cow,
    fmt::{Display, Write},
};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a scraper's `Accept` asks for.
    pub fn of(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of one server.
pub fn metrics(status: &ServerStatus, format: Format) -> String {
    let mut text = Text { out: String::with_capacity(16 << 10), format, family: "" };
    text.gauge("copal_build_info", "The software's version; always 1.");
    text.sample("", &[("version", &status.version)], 1);
    text.gauge("copal_clock_seconds", "The server's clock, in seconds since 1970.");
    text.sample("", &[], seconds(status.now_ms));
    if let Some(ms) = status.hub_heard_ms {
        text.gauge("copal_hub_heard_age_seconds", "How long ago the server heard the hub's leader.");
        text.sample("", &[], seconds(ms));
    }
    process(&mut text, &status.process.unwrap_or_default(), status.started_ms);
    if let Some(web_tier) = &status.web_tier {
        web(&mut text, web_tier);
    }
    if let Some(app_tier) = &status.app_tier {
        apps(&mut text, app_tier);
    }
    if let Some(it) = &status.hub {
        hub::hub(&mut text, it);
    }
    if !status.certificates.is_empty() {
        text.gauge("copal_certificate_end_seconds", "When a certificate ends, in seconds since 1970.");
        // One that ACME has not brought yet has no end.
        for it in status.certificates.iter().filter(|it| it.not_after_ms > 0 || it.acme.is_none()) {
            text.sample("", &[("file", &it.name)], seconds(it.not_after_ms));
        }
    }
    let orders = || status.certificates.iter().filter_map(|it| Some((it.name.as_str(), it.acme.as_ref()?)));
    if orders().next().is_some() {
        text.gauge(
            "copal_acme_next_order_seconds",
            "When a certificate is ordered next, in seconds since 1970.",
        );
        orders().for_each(|(name, it)| text.sample("", &[("certificate", name)], seconds(it.next_ms)));
        text.gauge(
            "copal_acme_failed_orders",
            "Orders of a certificate that failed since the last one that did not.",
        );
        orders().for_each(|(name, it)| text.sample("", &[("certificate", name)], it.failures));
    }
    if let Some(it) = &status.health {
        health(&mut text, it);
    }
    if format == Format::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

fn process(text: &mut Text, process: &Process, started_ms: u64) {
    text.counter("process_cpu_seconds", "CPU time of the process, in user and kernel mode.");
    text.sample("_total", &[], process.cpu_us as f64 / 1e6);
    let gauges: [(&'static str, &str, u64); 9] = [
        ("process_resident_memory_bytes", "Memory of the process that is in RAM.", process.resident_bytes),
        ("process_open_fds", "Open file descriptors.", process.open_files),
        ("process_max_fds", "File descriptors that may be open.", process.open_files_max),
        ("process_threads", "Threads of the process.", u64::from(process.threads)),
        ("copal_data_disk_free_bytes", "Free space where the data folder is.", process.disk_free_bytes),
        (
            "copal_data_disk_size_bytes",
            "Size of the file system where the data folder is.",
            process.disk_total_bytes,
        ),
        (
            "copal_machine_memory_available_bytes",
            "Memory of the machine that is free or can be freed.",
            process.memory_free_bytes,
        ),
        ("copal_machine_memory_bytes", "Memory of the machine.", process.memory_total_bytes),
        ("copal_machine_cores", "Cores that the process may use.", u64::from(process.cores)),
    ];
    for (name, help, value) in gauges {
        text.gauge(name, help);
        text.sample("", &[], value);
    }
    text.gauge("copal_machine_load1", "The machine's load average of a minute.");
    text.sample("", &[], seconds(process.load_per_mille));
    text.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.");
    text.sample("", &[], seconds(started_ms));
}

fn web(text: &mut Text, web_tier: &WebTier) {
    let traffic = web_tier.total.clone().unwrap_or_default();
    for (name, help, value) in [
        ("copal_http_connections_open", "Clients' connections that are open.", traffic.connections_open),
        ("copal_http_requests_active", "Requests that are being answered.", traffic.requests_active),
        ("copal_web_workers", "Workers of the web-tier.", u64::from(web_tier.workers)),
    ] {
        text.gauge(name, help);
        text.sample("", &[], value);
    }
    for (name, help, value) in counters(&traffic) {
        text.counter(name, help);
        text.sample("_total", &[], value);
    }
    text.counter("copal_http_responses", "Answers, by the class of their status.");
    for (class, count) in traffic.answers.iter().enumerate().skip(1) {
        text.sample("_total", &[("code", &format!("{class}xx"))], count);
    }
    text.counter("copal_tls_handshakes", "TLS handshakes of clients, by what became of them.");
    let full = traffic.handshakes.saturating_sub(traffic.handshakes_resumed);
    for (result, count) in
        [("full", full), ("resumed", traffic.handshakes_resumed), ("failed", traffic.handshakes_failed)]
    {
        text.sample("_total", &[("result", result)], count);
    }
    if let Some(latency) = &traffic.latency {
        text.histogram(
            "copal_http_request_duration_seconds",
            "From a request's head to its answer's.",
            latency,
        );
    }
    if let Some(it) = &web_tier.cache {
        cache(text, it);
    }
    limits(text, &web_tier.limits);
    tcp::listeners(text, &web_tier.tcp);
    upstreams(text, web_tier);
}

fn disk(text: &mut Text, disk: &DiskTier, from_disk: u64) {
    for (name, help, count) in [
        ("copal_cache_disk_hits", "Kept answers that were found on disk.", from_disk),
        ("copal_cache_disk_written", "Kept answers that were written to disk.", disk.written),
        ("copal_cache_disk_damaged", "Kept answers on disk that were not what was written.", disk.damaged),
        ("copal_cache_disk_dropped", "Kept answers that the disk was too slow for.", disk.dropped),
        ("copal_cache_disk_failed", "Times that the disk took nothing.", disk.failed),
    ] {
        text.counter(name, help);
        text.sample("_total", &[], count);
    }
    for (name, help, value) in [
        ("copal_cache_disk_bytes", "Disk that kept answers take.", disk.bytes),
        ("copal_cache_disk_capacity_bytes", "Disk that they may take.", disk.capacity_bytes),
        ("copal_cache_disk_entries", "What is kept on disk.", disk.entries),
    ] {
        text.gauge(name, help);
        text.sample("", &[], value);
    }
}

fn limits(text: &mut Text, limits: &[Limit]) {
    if limits.is_empty() {
        return;
    }
    text.counter("copal_limit_requests", "Requests that limits have counted, by what became of them.");
    for it in limits {
        for (result, count) in [("passed", it.passed), ("refused", it.refused)] {
            text.sample("_total", &[("limit", &it.name), ("kind", &it.kind), ("result", result)], count);
        }
    }
    text.gauge("copal_limit_keys", "Keys that limits tell apart at present.");
    for it in limits {
        text.sample("", &[("limit", &it.name), ("kind", &it.kind)], it.keys);
    }
}

fn cache(text: &mut Text, cache: &ProxyCache) {
    text.counter("copal_cache_requests", "Requests for what can be kept, by what became of them.");
    for (result, count) in [
        ("hit", cache.hits.saturating_sub(cache.stale)),
        ("stale", cache.stale),
        ("miss", cache.misses.saturating_sub(cache.revalidated)),
        ("revalidated", cache.revalidated),
        ("stale_on_error", cache.stale_on_error),
        ("collapsed", cache.collapsed),
        ("passed", cache.passed),
    ] {
        text.sample("_total", &[("result", result)], count);
    }
    text.counter("copal_cache_stored", "Answers that were stored.");
    text.sample("_total", &[], cache.stored);
    text.counter("copal_cache_evicted", "Answers that made room for others.");
    text.sample("_total", &[], cache.evicted);
    text.counter("copal_cache_not_kept", "Answers that were not kept, by why.");
    for it in &cache.not_kept {
        text.sample("_total", &[("why", &it.why)], it.count);
    }
    if let Some(it) = &cache.disk {
        disk(text, it, cache.from_disk);
    }
    for (name, help, value) in [
        ("copal_cache_bytes", "Memory that kept answers take.", cache.bytes),
        ("copal_cache_capacity_bytes", "Memory that they may take.", cache.capacity_bytes),
        ("copal_cache_entries", "What is kept, with what belongs to it.", cache.entries),
    ] {
        text.gauge(name, help);
        text.sample("", &[], value);
    }
}

fn counters(traffic: &Traffic) -> [(&'static str, &'static str, u64); 17] {
    [
        ("copal_http_connections", "Connections that clients opened.", traffic.connections),
        ("copal_http_requests", "Requests that were read.", traffic.requests),
        ("copal_http_retries", "Further tries of requests, on the same or another server.", traffic.retries),
        (
            "copal_http_upstream_failures",
            "Connects that failed, and connections that broke or fell silent during a request.",
            traffic.upstream_failures,
        ),
        (
            "copal_http_queue_refusals",
            "Requests refused because no socket to a server came free in time.",
            traffic.queue_refusals,
        ),
        (
            "copal_http_connections_refused",
            "Connections that ended before a request.",
            traffic.connections_refused,
        ),
        (
            "copal_http_connections_held",
            "Times that a connection waited because as many were open as there may be.",
            traffic.connections_held,
        ),
        (
            "copal_http_connections_shed",
            "Idle connections that ended to make room.",
            traffic.connections_shed,
        ),
        ("copal_http_received_bytes", "Bytes of requests' bodies.", traffic.received_bytes),
        ("copal_http_sent_bytes", "Bytes of answers.", traffic.sent_bytes),
        ("copal_http_compressed_answers", "Answers that this server compressed.", traffic.compressed),
        (
            "copal_http_compressed_plain_bytes",
            "Bytes of their bodies before.",
            traffic.compressed_plain_bytes,
        ),
        ("copal_http_compressed_bytes", "Bytes of their bodies as they were sent.", traffic.compressed_bytes),
        ("copal_mirrored", "Copies of requests that went to a mirror.", traffic.mirrored),
        ("copal_mirrors_left_out", "Copies of requests that did not.", traffic.mirrors_left_out),
        ("copal_quic_connections", "Connections over QUIC that came to HTTP/3.", traffic.quic_connections),
        (
            "copal_quic_retries",
            "Clients over QUIC that had to prove their addresses first.",
            traffic.quic_retries,
        ),
    ]
}

fn upstreams(text: &mut Text, web_tier: &WebTier) {
    type Read = fn(&proto::status::v1::WorkerView) -> u64;
    let sums: [(&'static str, &str, bool, Read); 6] = [
        ("copal_upstream_requests_active", "Requests that a server has from this web-tier.", false, |it| {
            u64::from(it.active)
        }),
        ("copal_upstream_connections_idle", "Sockets to a server that wait for a request.", false, |it| {
            u64::from(it.idle)
        }),
        ("copal_upstream_requests_waiting", "Requests that wait for a socket to a server.", false, |it| {
            u64::from(it.waiting)
        }),
        ("copal_upstream_responses", "Answers of a server.", true, |it| it.answers),
        (
            "copal_upstream_troubles",
            "Times that a worker took a server out because it failed or answered 503.",
            true,
            |it| it.troubles,
        ),
        (
            "copal_upstream_ejections",
            "Times that a worker ejected a server because more of its requests failed than of others.",
            true,
            |it| it.ejections,
        ),
    ];
    for (name, help, is_counter, read) in sums {
        let suffix = text.begin(name, help, is_counter);
        for (upstream, server) in all_servers(web_tier) {
            let sum: u64 = server.workers.iter().map(read).sum();
            text.sample(suffix, &[("upstream", &upstream), ("server", &server.id)], sum);
        }
    }
    text.gauge("copal_upstream_up", "The part of the workers that send a server requests, from 0 to 1.");
    for (upstream, server) in all_servers(web_tier) {
        let well = server.workers.iter().filter(|it| it.standing() == Standing::Well).count();
        let part = well as f64 / server.workers.len().max(1) as f64;
        text.sample("", &[("upstream", &upstream), ("server", &server.id)], part);
    }
}

/// Each server with the name of its upstream. A rule and a listener of `tcp-proxy` may begin with the same server: their names differ.
fn all_servers(
    web_tier: &WebTier,
) -> impl Iterator<Item = (Cow<'_, str>, &proto::status::v1::UpstreamServer)> {
    web_tier.upstreams.iter().flat_map(|it| {
        let name = match it.kind() {
            UpstreamKind::Tcp => Cow::Owned(format!("tcp:{}", it.name)),
            _ => Cow::Borrowed(it.name.as_str()),
        };
        it.servers.iter().map(move |server| (name.clone(), server))
    })
}

/// What apps have asked of their caches on this server.
fn app_caches(text: &mut Text, caches: &proto::status::v1::Caches) {
    text.counter(
        "copal_app_cache_reads",
        "Values that apps have asked their caches for, by where they were.",
    );
    let reads = [
        ("near", caches.near_hits),
        ("hub", caches.hub_hits),
        ("nowhere", caches.misses),
        ("stale", caches.stale),
    ];
    reads.into_iter().for_each(|(from, count)| text.sample("_total", &[("from", from)], count));
    text.counter("copal_app_cache_writes", "Writes of apps to their caches.");
    text.sample("_total", &[], caches.writes);
    text.gauge("copal_app_cache_copies", "Values of caches in this server's memory.");
    text.sample("", &[], caches.copies);
    text.gauge("copal_app_cache_copies_bytes", "Bytes that they take.");
    text.sample("", &[], caches.copied_bytes);
}

fn apps(text: &mut Text, app_tier: &AppTier) {
    let ready = |app: &App| app.instances.iter().filter(|it| it.state() == InstanceState::Ready).count();
    text.gauge("copal_app_connections_open", "Web-tiers' connections that are open.");
    text.sample("", &[], app_tier.connections);
    let with_processes = || app_tier.apps.iter().filter(|it| !it.instances.is_empty());
    text.gauge("copal_app_processes", "Processes that an app is to have.");
    with_processes().for_each(|it| text.of_app("", it, it.instances.len() as u64));
    text.gauge("copal_app_processes_ready", "Processes of an app that take requests.");
    with_processes().for_each(|it| text.of_app("", it, ready(it) as u64));
    text.counter("copal_app_restarts", "Starts of an app's processes beyond the first of each.");
    with_processes()
        .for_each(|it| text.of_app("_total", it, it.instances.iter().map(|it| it.restarts).sum()));
    text.gauge(
        "copal_daemon_running",
        "Whether this server runs a daemon of an app: one server of a cluster does.",
    );
    for (app, daemon) in app_tier.apps.iter().flat_map(|app| app.daemons.iter().map(move |it| (app, it))) {
        let is_here = daemon.state() == proto::status::v1::DaemonState::Running;
        text.sample("", &[("app", &app.name), ("daemon", &daemon.name)], u64::from(is_here));
    }
    if let Some(caches) = &app_tier.caches {
        app_caches(text, caches);
    }
    type Read = fn(&proto::status::v1::Sessions) -> u64;
    let sessions: [(&'static str, &str, bool, Read); 7] = [
        ("copal_sessions", "Sessions in this server's memory.", false, |it| it.held),
        ("copal_sessions_bytes", "Bytes of their attributes.", false, |it| it.bytes),
        ("copal_sessions_unsaved", "Sessions with changes that the hub does not have yet.", false, |it| {
            it.unsaved
        }),
        ("copal_session_saves", "Saves that the hub acknowledged.", true, |it| it.saves),
        (
            "copal_session_conflicts",
            "Saves that met another server's change of the same attribute.",
            true,
            |it| it.stale + it.superseded,
        ),
        (
            "copal_sessions_lost",
            "Sessions that were gone from the hub when their changes arrived.",
            true,
            |it| it.lost,
        ),
        (
            "copal_session_unsaved_answers",
            "Answers that left before their changes were on the hub.",
            true,
            |it| it.unsaved_answers,
        ),
    ];
    for (name, help, is_counter, read) in sessions {
        let suffix = text.begin(name, help, is_counter);
        for app in &app_tier.apps {
            if let Some(sessions) = &app.sessions {
                text.of_app(suffix, app, read(sessions));
            }
        }
    }
}

/// Of the server that watches: the hub's leader.
fn health(text: &mut Text, health: &Health) {
    text.gauge("copal_problem", "1 for each problem that has begun and not ended; on the hub's leader.");
    for it in &health.problems {
        let labels = [
            ("check", it.check.as_str()),
            ("server", &it.server),
            ("subject", &it.subject),
            ("severity", &it.severity),
        ];
        text.sample("", &labels, 1);
    }
    text.gauge("copal_problems", "Problems that have begun and not ended, by severity; on the hub's leader.");
    for severity in ["fault", "warning", "notice"] {
        let count = health.problems.iter().filter(|it| it.severity == severity).count();
        text.sample("", &[("severity", severity)], count);
    }
    text.counter("copal_health_webhook_words", "Words to webhooks, by what became of them.");
    for (result, count) in [
        ("delivered", health.webhooks_delivered),
        ("failed", health.webhooks_failed),
        ("dropped", health.webhooks_dropped),
    ] {
        text.sample("_total", &[("result", result)], count);
    }
    text.counter("copal_health_restarts", "Apps that health checks have started anew.");
    text.sample("_total", &[], health.restarts);
}

/// Milliseconds, or thousandths, as a whole and its parts.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Metrics that are being written.
struct Text {
    out: String,
    format: Format,
    family: &'static str,
}

impl Text {
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// `name` is without `_total`.
    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    /// One of both kinds; what its samples' names end with is returned.
    fn begin(&mut self, name: &'static str, help: &str, is_counter: bool) -> &'static str {
        self.family(name, if is_counter { "counter" } else { "gauge" }, help);
        if is_counter { "_total" } else { "" }
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let suffix = if kind == "counter" && self.format == Format::Prometheus { "_total" } else { "" };
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
    }

    /// A sample of the family that was begun last.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.family);
        for (number, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{name}=\"{}\"", if number == 0 { '{' } else { ',' }, escaped(value));
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Of an app: its place, and what is deployed there.
    fn of_app(&mut self, suffix: &str, app: &App, value: u64) {
        self.sample(suffix, &[("app", &app.name), ("tag", &app.tag)], value);
    }

    /// With an example of each bucket where there is one; only OpenMetrics has words for it.
    fn bucket(&mut self, bucket: usize, le: &str, below: u64, exemplars: &[Exemplar]) {
        self.sample("_bucket", &[("le", le)], below);
        let here = |it: &&Exemplar| it.bucket as usize == bucket;
        let example = exemplars.iter().find(here).filter(|_| self.format == Format::OpenMetrics);
        if let Some(Exemplar { request_id, taken_us, time_ms, .. }) = example {
            self.out.pop();
            let (id, taken) = (escaped(request_id), *taken_us as f64 / 1e6);
            let _ = writeln!(self.out, " # {{request_id=\"{id}\"}} {taken} {}", seconds(*time_ms));
        }
    }

    fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let mut below = 0;
        for (place, (bound, count)) in histogram.bounds_us.iter().zip(&histogram.counts).enumerate() {
            below += count;
            let le = format!("{:?}", *bound as f64 / 1e6);
            self.bucket(place, &le, below, &histogram.exemplars);
        }
        let all: u64 = histogram.counts.iter().sum();
        self.bucket(histogram.bounds_us.len(), "+Inf", all, &histogram.exemplars);
        self.sample("_sum", &[], histogram.sum_us as f64 / 1e6);
        self.sample("_count", &[], all);
    }
}

/// A label's value, as both formats want it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;
    use std::collections::HashMap;

    /// The samples by their names with labels.
    fn samples(text: &str) -> HashMap<&str, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" # ").next().unwrap().rsplit_once(' ').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn every_family_is_told_once_and_every_sample_belongs_to_one() {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = metrics(&planted::status("web-a"), format);
            let mut families = Vec::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    let (name, _) = rest.split_once(' ').unwrap();
                    assert!(!families.contains(&name), "{name} twice");
                    families.push(name);
                } else if !line.starts_with('#') {
                    let name = line.split(['{', ' ']).next().unwrap();
                    assert!(name.starts_with(families.last().unwrap()), "{line}");
                }
            }
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }

    #[test]
    fn numbers_are_those_that_the_server_said() {
        let text = metrics(&planted::status("web-a"), Format::Prometheus);
        let samples = samples(&text);
        assert_eq!(samples["copal_http_responses_total{code=\"2xx\"}"], 970.0);
        assert_eq!(samples["copal_http_request_duration_seconds_count"], 1000.0);
        assert_eq!(samples["copal_http_request_duration_seconds_bucket{le=\"+Inf\"}"], 1000.0);
        assert_eq!(samples["copal_upstream_requests_active{upstream=\"app-tier\",server=\"app-a\"}"], 3.0);
        assert!(text.contains("# TYPE copal_http_requests_total counter"));
        let open = metrics(&planted::status("web-a"), Format::OpenMetrics);
        assert!(open.contains("# TYPE copal_http_requests counter"));
        let bucket = "copal_http_request_duration_seconds_bucket{le=\"0.002\"} 750";
        let example = format!("{bucket} # {{request_id=\"4a\\\"b\"}} 0.0015 1784548800.25\n");
        assert!(open.contains(&example), "{open}");
        assert!(!text.contains(" # ") && text.contains(&format!("{bucket}\n")));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert_eq!(Format::of("application/openmetrics-text;version=1.0.0,*/*;q=0.1"), Format::OpenMetrics);
        assert_eq!(Format::of("text/plain"), Format::Prometheus);
    }
}

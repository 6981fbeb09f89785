//! `health`: what the cluster's health checks take for a problem, and what is done about one.

use super::{
    decode::{Context, Fields},
    file_path::FilePath,
    keys,
    node::Node,
    secret::Secret,
};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// The checks by the names that the file, the pages, the metrics and the webhooks have for them.
pub const CHECKS: [&str; 25] = [
    "no-leader",
    "no-spare",
    "lag",
    "never",
    "down",
    "silent",
    "disabled",
    "disk",
    "memory",
    "files",
    "load",
    "cpu",
    "clock",
    "deaf",
    "certificate",
    "app",
    "daemon",
    "unsaved",
    "errors",
    "workers",
    "upstream",
    "file",
    "stranger",
    "versions",
    "deployed",
];

/// The fewest bytes of a webhook's secret.
const SECRET_MIN: usize = 16;

/// The most webhooks.
const WEBHOOKS_MAX: usize = 8;

/// The longest URL of a webhook, in bytes.
const URL_MAX: usize = 2000;

/// What `health` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChecks {
    /// `interval` (10 s): how often the hub's leader looks.
    pub interval: Duration,
    /// `for` (30 s): how long a problem has to last before anything is done about it, and how long it has to be gone.
    pub lasts: Duration,
    /// `off`: checks that find nothing.
    pub off: Vec<&'static str>,
    /// Where a problem begins.
    pub thresholds: Thresholds,
    /// `webhooks`: who is told.
    pub webhooks: Vec<Webhook>,
    /// `restart-apps`: how often in an hour an app that is down is started anew; `None`: never.
    pub restarts_per_hour: Option<u32>,
}

/// Where a problem begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// `disk-free-min` (10, 5): hundredths of a disk that are free; less is a warning, less than the second a fault.
    pub disk_free_min: [u64; 2],
    /// `memory-free-min` (10, 5): the same of a machine's memory.
    pub memory_free_min: [u64; 2],
    /// `files-open-max` (80): hundredths of the files that a process may have open.
    pub files_open_max: u64,
    /// `load-max` (400): the load average of a minute, in hundredths of the cores.
    pub load_max: u64,
    /// `cpu-max` (none): hundredths of a machine's CPU time between two heartbeats.
    pub cpu_max: Option<u64>,
    /// `clock-skew-max` (2 s).
    pub clock_skew_max: Duration,
    /// `hub-silent-max` (5 s): a server that has not heard the hub for so long is cut off.
    pub hub_silent_max: Duration,
    /// `hub-lag-max` (10 000): entries that a hub server is behind.
    pub hub_lag_max: u64,
    /// `error-rate-max` (5): hundredths of a minute's answers that are 5xx.
    pub error_rate_max: u64,
    /// `error-requests-min` (20): with fewer answers it says nothing.
    pub error_requests_min: u64,
    /// `certificate-days` (30, 7, 1): fewer days left are a notice, a warning, a fault.
    pub certificate_days: [u64; 3],
}

impl Default for HealthChecks {
    fn default() -> Self {
        let (interval, lasts) = (Duration::from_secs(10), Duration::from_secs(30));
        let thresholds = Thresholds::default();
        Self { interval, lasts, off: Vec::new(), thresholds, webhooks: Vec::new(), restarts_per_hour: None }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            disk_free_min: [10, 5],
            memory_free_min: [10, 5],
            files_open_max: 80,
            load_max: 400,
            cpu_max: None,
            clock_skew_max: Duration::from_secs(2),
            hub_silent_max: Duration::from_secs(5),
            hub_lag_max: 10_000,
            error_rate_max: 5,
            error_requests_min: 20,
            certificate_days: [30, 7, 1],
        }
    }
}

/// Who is told of problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `webhook-url`.
    pub url: WebhookUrl,
    /// `secret`: signs what is sent.
    pub secret: Secret,
    /// `severity` (warning): of this, and of worse.
    pub severity: LeastSeverity,
    /// `checks`: of these alone; all unless given.
    pub checks: Vec<&'static str>,
    /// `timeout` (5 s): for one try.
    pub timeout: Duration,
    /// `retries` (5): further tries.
    pub retries: u32,
    /// `ca`: whom to believe for https, in PEM; those that the machine believes unless given.
    pub ca: Option<FilePath>,
}

/// The least severe problem that somebody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeastSeverity {
    /// Faults alone.
    Fault,
    /// Warnings too.
    Warning,
    /// All.
    Notice,
}

/// Where a webhook is. Its path may be a secret, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    /// `https`, else `http`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl WebhookUrl {
    /// # Errors
    /// What is expected; the text is not repeated.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "expected http://HOST:PORT/PATH or https://HOST:PORT/PATH, with neither a user nor a fragment"
                .to_owned()
        };
        let (scheme, rest) = text.split_once("://").filter(|_| text.len() <= URL_MAX).ok_or_else(wrong)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | ':' | '_');
        let visible = path.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
        if host.is_empty() || port == 0 || !host.chars().all(fits) || !visible {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, host: host.to_owned(), port, path })
    }

    /// Where it is, without its path.
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// `host:port`, or `host` with the usual port.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}/…)", self.shown())
    }
}

/// Reads the root's key.
pub(super) fn decode(fields: &Fields<'_>) -> HealthChecks {
    let node = fields.get("health").filter(|node| !node.is_null());
    let opened = node.and_then(|node| Fields::open(fields.context, node, &keys::HEALTH_CHECKS));
    let Some(fields) = opened else { return HealthChecks::default() };
    let defaults = HealthChecks::default();
    HealthChecks {
        interval: fields
            .duration("interval", Duration::from_millis(100)..=Duration::from_secs(3600))
            .unwrap_or(defaults.interval),
        lasts: fields.duration("for", Duration::ZERO..=Duration::from_secs(86_400)).unwrap_or(defaults.lasts),
        off: fields.get("off").map(|node| checks(&fields, node)).unwrap_or_default(),
        thresholds: thresholds(&fields),
        webhooks: webhooks(&fields),
        restarts_per_hour: fields.integer("restart-apps", 1..=60),
    }
}

fn thresholds(fields: &Fields<'_>) -> Thresholds {
    let defaults = Thresholds::default();
    let percent = |key: &str| fields.integer::<u64>(key, 1..=100);
    let seconds = |key: &str| fields.duration(key, Duration::from_millis(100)..=Duration::from_secs(86_400));
    Thresholds {
        disk_free_min: falling(fields, "disk-free-min", 0..=100).unwrap_or(defaults.disk_free_min),
        memory_free_min: falling(fields, "memory-free-min", 0..=100).unwrap_or(defaults.memory_free_min),
        files_open_max: percent("files-open-max").unwrap_or(defaults.files_open_max),
        load_max: fields.integer("load-max", 1..=1_000_000).unwrap_or(defaults.load_max),
        cpu_max: percent("cpu-max"),
        clock_skew_max: seconds("clock-skew-max").unwrap_or(defaults.clock_skew_max),
        hub_silent_max: seconds("hub-silent-max").unwrap_or(defaults.hub_silent_max),
        hub_lag_max: fields.integer("hub-lag-max", 1..=1_000_000_000).unwrap_or(defaults.hub_lag_max),
        error_rate_max: percent("error-rate-max").unwrap_or(defaults.error_rate_max),
        error_requests_min: fields
            .integer("error-requests-min", 1..=1_000_000)
            .unwrap_or(defaults.error_requests_min),
        certificate_days: falling(fields, "certificate-days", 0..=1000).unwrap_or(defaults.certificate_days),
    }
}

/// So many numbers, none greater than the one before it.
fn falling<const N: usize>(fields: &Fields<'_>, key: &str, bounds: RangeInclusive<u64>) -> Option<[u64; N]> {
    let node = fields.get(key)?;
    let items = fields.context.items(node);
    let numbers: Vec<u64> =
        items.iter().filter_map(|item| fields.context.integer(item, bounds.clone())).collect();
    if numbers.len() < items.len() || items.is_empty() {
        return None;
    }
    let found: Option<[u64; N]> = numbers.try_into().ok();
    if found.is_none_or(|it| !it.is_sorted_by(|a, b| a >= b)) {
        fields.context.error(node.span, format!("expected a list of {N} numbers, the greatest first"));
        return None;
    }
    found
}

/// Names of checks.
fn checks(fields: &Fields<'_>, node: &Node) -> Vec<&'static str> {
    let names = CHECKS.map(|it| (it, it));
    let items = fields.context.one_or_more(node);
    items.iter().filter_map(|item| fields.context.choice(item, &names)).collect()
}

fn webhooks(fields: &Fields<'_>) -> Vec<Webhook> {
    let items = fields.items("webhooks");
    if let Some(more) = items.get(WEBHOOKS_MAX) {
        let message = format!("`webhooks` has {} entries: expected at most {WEBHOOKS_MAX}", items.len());
        fields.context.error(more.span, message);
    }
    items.iter().take(WEBHOOKS_MAX).filter_map(|item| webhook(fields, item)).collect()
}

fn webhook(fields: &Fields<'_>, node: &Node) -> Option<Webhook> {
    let fields = Fields::open(fields.context, node, &keys::WEBHOOK)?;
    let url = fields.required("webhook-url", "say where it is, such as https://hooks.example.com/copal");
    let url = url.and_then(|node| url_of(fields.context, node));
    let secret =
        fields.required("secret", "give it 16 bytes or more, such as `openssl rand -base64 32` makes");
    let secret = secret.and_then(|node| secret_of(&fields, node));
    let severities = [
        ("fault", LeastSeverity::Fault),
        ("warning", LeastSeverity::Warning),
        ("notice", LeastSeverity::Notice),
    ];
    let timeout = fields.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(60));
    Some(Webhook {
        severity: fields.choice("severity", &severities).unwrap_or(LeastSeverity::Warning),
        checks: fields.get("checks").map(|node| checks(&fields, node)).unwrap_or_default(),
        timeout: timeout.unwrap_or(Duration::from_secs(5)),
        retries: fields.integer("retries", 0..=10).unwrap_or(5),
        ca: fields.get("ca").and_then(|node| fields.context.file_path(node)),
        url: url?,
        secret: secret?,
    })
}

/// Its errors never repeat it: it may hold a token.
fn url_of(context: Context<'_>, node: &Node) -> Option<WebhookUrl> {
    let text = context.scalar(node, "a URL")?;
    let url = WebhookUrl::parse(&text).map_err(|message| context.error(node.span, message)).ok()?;
    if !url.tls && !matches!(url.host.as_str(), "localhost" | "127.0.0.1" | "::1") {
        let message = "a webhook by http: what it is told can be read, and held back, on the way";
        context.report.warning(node.span, message);
    }
    Some(url)
}

fn secret_of(fields: &Fields<'_>, node: &Node) -> Option<Secret> {
    let text = fields.context.scalar(node, "a text of 16 bytes or more")?;
    if text.len() < SECRET_MIN {
        let message = format!("the secret has {} bytes: expected at least {SECRET_MIN}", text.len());
        fields.context.error(node.span, message);
        return None;
    }
    Some(Secret::from(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_never_shows_its_path() {
        let of = |text: &str| WebhookUrl::parse(text).map(|it| (it.tls, it.authority(), it.path));
        assert_eq!(of("https://h.example/x?y=1").unwrap(), (true, "h.example".into(), "/x?y=1".into()));
        assert_eq!(of("http://127.0.0.1:9000").unwrap(), (false, "127.0.0.1:9000".into(), "/".into()));
        assert_eq!(of("http://[::1]:90?x").unwrap(), (false, "[::1]:90".into(), "/?x".into()));
        assert_eq!(of("https://[::1]/").unwrap(), (true, "[::1]".into(), "/".into()));
        for wrong in [
            "",
            "h.example",
            "ftp://h/",
            "https://",
            "https:///x",
            "https://u:p@h/",
            "https://h:0/",
            "https://h:x/",
            "https://h/#x",
            "https://h/a b",
            "https://h/\u{e9}",
            "https://h\r\nx/",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of(&format!("https://h/{}", "x".repeat(2000))).is_err());
        let url = WebhookUrl::parse("https://h.example:8443/services/T0KEN").unwrap();
        assert_eq!(format!("{url:?}"), "WebhookUrl(https://h.example:8443/…)");
    }
}

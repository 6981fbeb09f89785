//! `proxy-cache`: answers that a web-tier keeps for all of its clients.

use super::{
    bounds::WAIT,
    decode::{Context, Fields},
    keys,
    node::Node,
    quoted::quoted,
};
use crate::id::ServerId;
use regex::Regex;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The largest sizes that are taken for meant.
const SIZE_MAX: u64 = 1 << 50;

/// The bounds of `max-age` and its like.
const AGES: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 366 * 86_400);

/// `proxy-cache`.
#[derive(Debug, Clone)]
pub struct ProxyCache {
    /// `memory-size` (256 MiB): bytes of one server's memory for all that it keeps.
    pub memory_size: u64,
    /// `disk-size` (none) and `path` (`proxy-cache` in the server's data folder): a second tier on disk.
    pub disk: Option<DiskTier>,
    /// `max-entry-size` (1 MiB): the longest body that is kept, in bytes.
    pub max_entry_size: u64,
    /// `enable-range` (true): parts of what is kept are served.
    pub enable_range: bool,
    /// `rewrite-vary-as-private` (false): answers that depend on more than the encoding are for one client alone.
    pub vary_is_private: bool,
    /// `store-set-cookie` (false): answers that set cookies are kept, cookies and all.
    pub store_set_cookie: bool,
    /// `ignore-request-directives` (false): `Cache-Control` and `Pragma` of requests say nothing.
    pub ignore_request_directives: bool,
    /// `error-max-age` (10 s): the longest time that an error is fresh.
    pub error_max_age: Duration,
    /// `stale-if-error` (0): how long a stale answer serves on when its server fails, where the answer does not say.
    pub stale_if_error: Duration,
    /// `stale-keep` (10 min): how long a stale answer is kept that its server can be asked about.
    pub stale_keep: Duration,
    /// `collapse-timeout` (5 s): how long a request waits for another one's answer.
    pub collapse_timeout: Duration,
    /// `cache-mapping`, the first that matches counts.
    pub mappings: Vec<CacheMapping>,
}

/// `disk-size` and `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTier {
    /// Bytes of files.
    pub size: u64,
    /// The folder that has a folder for each server.
    pub path: Option<PathBuf>,
}

impl DiskTier {
    /// The folder of a server, whose data folder is in `data_dir`.
    pub fn folder(&self, data_dir: &Path, server: &ServerId) -> PathBuf {
        match &self.path {
            Some(path) => path.join(server.as_str()),
            None => Self::own_folder(data_dir, server),
        }
    }

    /// The same where no `path` is said.
    pub fn own_folder(data_dir: &Path, server: &ServerId) -> PathBuf {
        data_dir.join(server.as_str()).join("proxy-cache")
    }
}

/// A mapping of `cache-mapping`: what answers with a validator are that do not say how long they are fresh.
#[derive(Debug, Clone)]
pub struct CacheMapping {
    /// `regexp`: is searched in the path; `None` matches any.
    pub regexp: Option<Regex>,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `heuristic`: in hundredths of the time since `Last-Modified`.
    pub heuristic: Option<u32>,
    /// `heuristic-max` (1 day).
    pub heuristic_max: Duration,
    /// `ignore-query` (none): parameters of the query that choose no answer.
    pub ignore_query: Vec<QueryName>,
}

/// A name of a parameter, or, with `*` at its end, all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryName(String);

impl QueryName {
    /// Whether a parameter has it.
    pub fn is(&self, name: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == name, |begin| name.starts_with(begin))
    }
}

impl Default for ProxyCache {
    fn default() -> Self {
        Self {
            memory_size: 256 << 20,
            disk: None,
            max_entry_size: 1 << 20,
            enable_range: true,
            vary_is_private: false,
            store_set_cookie: false,
            ignore_request_directives: false,
            error_max_age: Duration::from_secs(10),
            stale_if_error: Duration::ZERO,
            stale_keep: Duration::from_secs(600),
            collapse_timeout: Duration::from_secs(5),
            mappings: Vec::new(),
        }
    }
}

/// Reads `proxy-cache` of a cluster; `None` if it has none.
pub(super) fn decode(cluster: &Fields<'_>) -> Option<ProxyCache> {
    let fields = Fields::open(cluster.context, cluster.get("proxy-cache")?, &keys::PROXY_CACHE)?;
    let default = ProxyCache::default();
    let flag = |key: &str, default| fields.boolean(key).unwrap_or(default);
    let age = |key: &str, default| fields.duration(key, AGES).unwrap_or(default);
    let memory_size = fields.size("memory-size", 1 << 20..=SIZE_MAX).unwrap_or(default.memory_size);
    let max_entry_size = fields.size("max-entry-size", 1..=1 << 30).unwrap_or(default.max_entry_size);
    if max_entry_size > memory_size / 4 {
        let message = "`max-entry-size` is more than a quarter of `memory-size`: a few answers would fill it";
        fields.context.error(fields.span("max-entry-size"), message);
    }
    let mappings =
        fields.items("cache-mapping").iter().filter_map(|it| mapping(fields.context, it)).collect();
    let cache = ProxyCache {
        memory_size,
        disk: disk(&fields),
        max_entry_size,
        enable_range: flag("enable-range", default.enable_range),
        vary_is_private: flag("rewrite-vary-as-private", default.vary_is_private),
        store_set_cookie: flag("store-set-cookie", default.store_set_cookie),
        ignore_request_directives: flag("ignore-request-directives", default.ignore_request_directives),
        error_max_age: age("error-max-age", default.error_max_age),
        stale_if_error: age("stale-if-error", default.stale_if_error),
        stale_keep: age("stale-keep", default.stale_keep),
        collapse_timeout: fields.duration("collapse-timeout", WAIT).unwrap_or(default.collapse_timeout),
        mappings,
    };
    flag("enable", true).then_some(cache)
}

fn disk(fields: &Fields<'_>) -> Option<DiskTier> {
    let (size, path) = (fields.size("disk-size", 16 << 20..=SIZE_MAX), fields.path("path"));
    if path.is_some() && fields.get("disk-size").is_none() {
        let message =
            "`path` is the place of what is kept on disk: say how much that may be, with `disk-size`";
        fields.context.error(fields.span("path"), message);
    }
    size.map(|size| DiskTier { size, path })
}

fn mapping(context: Context<'_>, node: &Node) -> Option<CacheMapping> {
    let fields = Fields::open(context, node, &keys::CACHE_MAPPING)?;
    let regexp = match fields.get("regexp") {
        Some(node) => context.regexp(node)?.0,
        None => None,
    };
    let max_age = fields.duration("max-age", AGES);
    let heuristic = fields.integer("heuristic", 1..=100);
    let ignore_query: Vec<_> =
        fields.items("ignore-query").iter().filter_map(|it| query_name(fields.context, it)).collect();
    if ["max-age", "heuristic", "ignore-query"].into_iter().all(|it| fields.get(it).is_none()) {
        let hint = "say how long answers are fresh: `max-age: 15D`, or `heuristic: 10` for a tenth of the time since they were modified; or \
            which parameters choose no answer: `ignore-query: [utm_*]`";
        context.error(
            node.span,
            format!("a mapping of `cache-mapping` has neither `max-age` nor `heuristic` nor `ignore-query`: {hint}"),
        );
    }
    let heuristic_max = fields.duration("heuristic-max", AGES).unwrap_or(Duration::from_secs(86_400));
    Some(CacheMapping { regexp, max_age, heuristic, heuristic_max, ignore_query })
}

fn query_name(context: Context<'_>, node: &Node) -> Option<QueryName> {
    let is_byte = |it: u8| it.is_ascii_alphanumeric() || b"-._~%[]".contains(&it);
    let text = context.checked(node, |text| {
        let name = text.strip_suffix('*').unwrap_or(text);
        if !name.is_empty() && name.bytes().all(is_byte) {
            return Ok(());
        }
        Err(format!("expected a parameter's name such as `fbclid` or `utm_*`, found {}", quoted(text)))
    })?;
    Some(QueryName(text))
}

//! `error-pages` of a host, and the rule `maintenance`: answers with a body out of a file.

use super::{
    bounds::WAIT,
    decode::{Context, Fields},
    file_path::FilePath,
    node::Node,
    quoted::quoted,
};
use std::{ops::RangeInclusive, time::Duration};

/// Statuses that have a page.
const STATUSES: RangeInclusive<u16> = 400..=599;

/// `status` of `maintenance`.
const MAINTENANCE_STATUS: u16 = 503;

/// `retry-after` of `maintenance`.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// `error-pages` and `error-pages-for`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// The first and the last status that each is for, single ones before `4xx` and `5xx`.
    pub pages: Vec<(RangeInclusive<u16>, FilePath)>,
    /// `error-pages-for: all`: for answers of servers too, not only for those of the web-tier's own.
    pub for_servers: bool,
}

impl ErrorPages {
    /// The file for a status.
    pub fn file(&self, status: u16) -> Option<&FilePath> {
        self.pages.iter().find(|(statuses, _)| statuses.contains(&status)).map(|(_, file)| file)
    }
}

/// `maintenance`: the site is closed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// `file`: what is shown.
    pub file: FilePath,
    /// `status` (503), 400 to 599.
    pub status: u16,
    /// `retry-after` (10 m): what clients are told to wait; zero: nothing is said of it.
    pub retry_after: Duration,
}

/// Reads the keys of a host.
pub(super) fn decode(fields: &Fields<'_>) -> ErrorPages {
    let context = fields.context;
    let for_servers = fields.choice("error-pages-for", &[("own", false), ("all", true)]).unwrap_or(false);
    let Some(node) = fields.get("error-pages").filter(|node| !node.is_null()) else {
        if fields.get("error-pages-for").is_some() && !context.in_default {
            let message = "`error-pages-for` has no effect without `error-pages`";
            context.error(fields.span("error-pages-for"), message);
        }
        return ErrorPages::default();
    };
    let Some(entries) = node.entries() else {
        context.error(node.span, "expected a mapping of statuses to files, such as {404: pages/404.html}");
        return ErrorPages::default();
    };
    let mut pages = Vec::new();
    for entry in entries {
        let file = context.file_path(&entry.value);
        match statuses(&entry.key) {
            Ok(statuses) => pages.extend(file.map(|file| (statuses, file))),
            Err(message) => context.error(entry.key_span, message),
        }
    }
    pages.sort_by_key(|(statuses, _)| statuses.len());
    ErrorPages { pages, for_servers }
}

fn statuses(key: &str) -> Result<RangeInclusive<u16>, String> {
    let one = || key.parse().ok().filter(|it| key.len() == 3 && STATUSES.contains(it));
    match key {
        "4xx" => Ok(400..=499),
        "5xx" => Ok(500..=599),
        _ => one().map(|it| it..=it).ok_or_else(|| {
            format!(
                "expected a status from {} to {}, `4xx` or `5xx`, found {}",
                STATUSES.start(),
                STATUSES.end(),
                quoted(key)
            )
        }),
    }
}

/// Reads the rule.
pub(super) fn maintenance(fields: &Fields<'_>) -> Option<Maintenance> {
    let file = fields.required("file", "name the file that is shown, such as pages/closed.html");
    let file = file.and_then(|node: &Node| Context::file_path(fields.context, node));
    let bounds = u64::from(*STATUSES.start())..=u64::from(*STATUSES.end());
    let status = fields.integer("status", bounds).unwrap_or(MAINTENANCE_STATUS);
    let retry_after = fields.duration("retry-after", WAIT).unwrap_or(RETRY_AFTER);
    Some(Maintenance { file: file?, status, retry_after })
}

//! `audit`: who has changed what.

use crate::{client, say, table, target::Target};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// `GET /api/v1/audit`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    time: Option<String>,
    user: Option<String>,
    token: Option<String>,
    address: Option<String>,
    server: Option<String>,
    action: String,
    target: String,
    detail: String,
    outcome: String,
}

/// Prints the newest entries.
///
/// # Errors
/// They could not be had.
pub(crate) async fn list(
    target: &Target,
    limit: u32,
    kind: Option<&str>,
    json: bool,
) -> anyhow::Result<bool> {
    let kind = kind.map(|it| format!("&kind={}", utf8_percent_encode(it, NON_ALPHANUMERIC)));
    let path = format!("/api/v1/audit?limit={limit}{}", kind.unwrap_or_default().replace("%2D", "-"));
    let answer = client::ask(target, Method::GET, &path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let heading = ["TIME", "WHO", "FROM", "ACTION", "ON", "OUTCOME", "DETAIL"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(answer.read::<Log>()?.entries.into_iter().map(row));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

fn row(entry: Entry) -> Vec<String> {
    let dash = || "-".to_owned();
    let token = entry.token.map(|it| format!(" (token {it})")).unwrap_or_default();
    let who = entry.user.map_or_else(dash, |user| format!("{user}{token}"));
    let from = entry.address.or(entry.server).unwrap_or_else(dash);
    let target = Some(entry.target).filter(|it| !it.is_empty()).unwrap_or_else(dash);
    let time = table::seconds(entry.time.as_deref().unwrap_or("-"));
    vec![time, who, from, entry.action, target, entry.outcome, entry.detail]
}

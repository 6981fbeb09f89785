//! `daemon list`: where the daemons of apps run.

use crate::{
    client, say,
    table::{self, or_dash, shown},
    target::Target,
};
use http::Method;
use serde::Deserialize;

/// `GET /api/v1/daemons`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Daemons {
    daemons: Vec<Daemon>,
}

#[derive(Debug, Deserialize)]
struct Daemon {
    name: String,
    app: String,
    cluster: String,
    state: String,
    server: Option<String>,
    since: Option<String>,
    token: Option<u64>,
    failures: u32,
    why: String,
}

/// Prints the table.
///
/// # Errors
/// It could not be had.
pub(crate) async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/daemons", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let told: Daemons = answer.read()?;
    let heading = ["DAEMON", "APP", "CLUSTER", "STATE", "SERVER", "SINCE", "TOKEN", "FAILURES", "WHY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(told.daemons.into_iter().map(|it| {
        let Daemon { name, app, cluster, state, server, since, token, failures, why } = it;
        let since = or_dash(since.map(|it| table::seconds(&it)).unwrap_or_default());
        let token = or_dash(token.map(|it| it.to_string()).unwrap_or_default());
        let server = or_dash(server.unwrap_or_default());
        vec![name, app, cluster, state, server, since, token, failures.to_string(), or_dash(shown(&why))]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

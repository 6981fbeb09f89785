//! `status` and `server …`.

use crate::{cli::ServerArguments, client, complain, say, table, target::Target, tell};
use anyhow::bail;
use http::Method;
use serde::Deserialize;

/// `GET /api/servers`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct List {
    servers: Vec<ServerRecord>,
}

#[derive(Debug, Deserialize)]
struct ServerRecord {
    id: String,
    cluster: String,
    address: String,
    state: String,
    state_since: Option<String>,
    admin: String,
    admin_since: Option<String>,
    same_file: Option<bool>,
    in_file: bool,
}

/// The answer to a change.
#[derive(Debug, Deserialize)]
struct Done {
    server: ServerRecord,
    changed: bool,
    web_tiers: Vec<WebTierRecord>,
}

#[derive(Debug, Deserialize)]
struct WebTierRecord {
    id: String,
    state: String,
    why: Option<String>,
}

/// What is said of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SetAdmin {
    Enable,
    Disable,
    DisableSoft,
}

impl SetAdmin {
    fn verb(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::DisableSoft => "disable-soft",
        }
    }
}

/// Prints the servers.
///
/// # Errors
/// They could not be had.
pub(crate) async fn status(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/servers", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let list: List = answer.read()?;
    let heading = ["SERVER", "CLUSTER", "ADDRESS", "STATE", "SINCE", "ADMIN", "SINCE"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(list.servers.iter().map(row));
    table::lines(&rows).iter().for_each(|line| say(line));
    for it in &list.servers {
        if !it.in_file {
            tell(&format!(
                "note: the hub knows {}, and the file of the server that answered does not",
                it.id
            ));
        } else if it.same_file == Some(false) && it.state != "down" {
            tell(&format!("note: {} was started with a file that has other servers", it.id));
        }
    }
    Ok(true)
}

fn row(it: &ServerRecord) -> Vec<String> {
    let since = |time: &Option<String>| time.as_deref().map_or("-".to_owned(), table::seconds);
    let (state_since, admin_since) = (since(&it.state_since), since(&it.admin_since));
    let cells = [&it.id, &it.cluster, &it.address, &it.state, &state_since, &it.admin, &admin_since];
    cells.map(String::to_owned).to_vec()
}

/// Says `verb` of each server, one after the other. False when one was refused, or may not be in force everywhere yet.
///
/// # Errors
/// The administration could not be reached.
pub(crate) async fn set(
    target: &Target,
    verb: SetAdmin,
    arguments: &ServerArguments,
    json: bool,
) -> anyhow::Result<bool> {
    let usable = |id: &String| {
        !id.is_empty() && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    };
    if let Some(id) = arguments.ids.iter().find(|id| !usable(id)) {
        bail!("{id:?} is no server's id: they are made of A-Z a-z 0-9 . _ -");
    }
    let query = if arguments.force { "?force=true" } else { "" };
    let mut good = true;
    for id in &arguments.ids {
        let path = format!("/api/servers/{id}/{}{query}", verb.verb());
        match client::ask(target, Method::POST, &path, client::Body::none()).await {
            Ok(answer) => {
                let done: Done = answer.read()?;
                if json {
                    say(answer.text());
                } else {
                    say(&told(&done));
                }
                good &= confirmed(&done);
            }
            Err(error) => {
                complain(&error.context(id.clone()));
                good = false;
            }
        }
    }
    Ok(good)
}

/// What was done, on one line.
fn told(done: &Done) -> String {
    let Done { server, changed, web_tiers } = done;
    let informed: Vec<_> =
        web_tiers.iter().filter(|it| it.state == "informed").map(|it| it.id.as_str()).collect();
    let already = if *changed { "" } else { " already" };
    let by = match informed[..] {
        [] => "no web-tier has confirmed it".to_owned(),
        [one] => format!("{one} goes by it"),
        _ => format!("{} go by it", informed.join(", ")),
    };
    format!("{} is {}{already}: {by}", server.id, server.admin)
}

/// Whether all web-tiers that live go by it; those that may not are told.
fn confirmed(done: &Done) -> bool {
    let mut all = true;
    for it in &done.web_tiers {
        match it.state.as_str() {
            "informed" => {}
            "down" => tell(&format!("note: {} is down and was not told", it.id)),
            _ => {
                all = false;
                let why = it.why.as_deref().unwrap_or("it does not say why");
                tell(&format!(
                    "warning: the hub has it, and {} may not go by it yet ({why}): it will as soon as it hears the hub",
                    it.id
                ));
            }
        }
    }
    all
}

//! `triad …`: the hub's servers, each by its own word, and which of them leads.

use crate::{client, progress::size, say, table, target::Target, tell};
use http::Method;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/triad`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Triad {
    leader: Option<String>,
    majority: bool,
    servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
struct Server {
    id: String,
    state: String,
    why: Option<String>,
    term: Option<u64>,
    applied: Option<u64>,
    behind: Option<u64>,
    sessions: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

/// Prints the hub's servers.
///
/// # Errors
/// They could not be had.
pub(crate) async fn status(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/triad", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let triad: Triad = answer.read()?;
    let heading = ["SERVER", "STATE", "TERM", "APPLIED", "BEHIND", "SESSIONS", "DISK FREE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(triad.servers.iter().map(row));
    table::lines(&rows).iter().for_each(|line| say(line));
    for it in &triad.servers {
        it.why.iter().for_each(|why| tell(&format!("note: {} can't be asked: {why}", it.id)));
    }
    if !triad.majority || triad.leader.is_none() {
        tell(
            "warning: no majority of the hub takes part: sessions are not saved and nothing can be changed until more than half of \
             its servers are up",
        );
    }
    Ok(true)
}

#[derive(Debug, Serialize)]
struct HandOver<'a> {
    to: &'a str,
}

#[derive(Debug, Deserialize)]
struct HandedOver {
    leader: String,
    term: u64,
}

/// Has another hub server lead.
///
/// # Errors
/// It is none, or can't lead now.
pub(crate) async fn lead(target: &Target, id: &str, json: bool) -> anyhow::Result<bool> {
    let body = client::Body::json(&HandOver { to: id })?;
    let answer = client::ask(target, Method::POST, "/api/v1/triad/lead", body).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let HandedOver { leader, term } = answer.read()?;
    say(&format!("{leader} leads the hub, in term {term}"));
    Ok(true)
}

fn row(it: &Server) -> Vec<String> {
    let number = |it: Option<u64>| it.map_or("-".to_owned(), |it| it.to_string());
    let disk = match (it.disk_free_bytes, it.disk_bytes) {
        (Some(free), Some(all)) => format!("{} of {}", size(free), size(all)),
        _ => "-".to_owned(),
    };
    let numbers = [it.term, it.applied, it.behind, it.sessions].map(number);
    [it.id.clone(), it.state.clone()].into_iter().chain(numbers).chain([disk]).collect()
}

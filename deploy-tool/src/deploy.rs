//! `deploy`: reads an archive or a folder, sends what the hub lacks of it, begins the rollout and waits for its end.
//!
//! The source is read twice: once to know each file by its content's hash, once to send those that are missing. So nothing that
//! the hub has is sent again, not even after a cut connection, and no memory grows with the archive.

mod folder_index;
mod packs;

use crate::{
    cli::DeployArguments,
    client::{self, Body},
    rollout::{self, Began},
    say,
    target::Target,
    tell,
};
use anyhow::{Context, bail};
use common::app_tag::{AppTag, DEFAULT_HOST, PRODUCTION};
use http::Method;
use import::Scan;
use repository::ObjectId;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// Ids in one question.
const IDS: usize = 100_000;

/// The answer on what is missing.
#[derive(Debug, Deserialize)]
struct Missing {
    missing: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Deploy<'a> {
    tree: String,
    message: &'a str,
    rolling: bool,
    timeout_s: u64,
    replace: bool,
}

/// Deploys an archive or a folder.
///
/// # Errors
/// It can't be read, sent, or started on all servers.
pub(crate) async fn deploy(target: &Target, arguments: &DeployArguments, json: bool) -> anyhow::Result<bool> {
    let source = arguments.source.clone();
    let scanned =
        tokio::task::spawn_blocking(move || import::scan(&source, folder_index::of(&source).as_deref()))
            .await?;
    let scan = scanned.with_context(|| format!("{} is not deployed", arguments.source.display()))?;
    let scan = Arc::new(scan);
    if let Some(folder) = &scan.only_folder {
        tell(&format!(
            "note: everything is in the folder {folder}/ of the archive, and will be served below it; deploy the folder itself to \
             have it at the top"
        ));
    }
    let tag = tag(arguments, &scan)?;
    if !scan.has_app_yaml() {
        tell("note: there is no app.yaml in it: all of it is served as static files, to everyone");
    }
    send(target, arguments, &scan).await?;
    let timeout = arguments.rollout.timeout;
    let deploy = Deploy {
        tree: scan.tree.to_string(),
        message: arguments.rollout.message.as_deref().unwrap_or_default(),
        rolling: arguments.rollout.rolling,
        timeout_s: timeout.as_secs().max(1),
        replace: arguments.replace,
    };
    let body = Body::json(&deploy)?;
    let answer = client::ask(target, Method::PUT, &rollout::path(&tag), body).await?;
    let began: Began = answer.read()?;
    let app =
        if began.changed { rollout::follow(target, &tag, began.app, timeout).await? } else { began.app };
    if json {
        say(&serde_json::to_string(&app.all)?);
        return Ok(true);
    }
    let (commit, from) = (app.commit(), arguments.source.display());
    let url = app.url(target);
    if began.changed {
        say(&format!("Deployed {tag} ({commit}) from {from} to {url}"));
    } else {
        say(&app.unchanged(target));
    }
    Ok(true)
}

/// The tag, by the command line, else by the app's own `app.yaml`, else by the source's name.
fn tag(arguments: &DeployArguments, scan: &Scan) -> anyhow::Result<AppTag> {
    let own = scan.names();
    let name = arguments.name.clone().or(own.name);
    let name = match name {
        Some(name) => name,
        None => {
            file_name(arguments).context("what is the app's name? Give --name, or `name:` in its app.yaml")?
        }
    };
    let version = arguments.version.clone().or(own.version);
    let (stage, host) =
        (arguments.stage.as_deref().unwrap_or(PRODUCTION), arguments.host.as_deref().unwrap_or(DEFAULT_HOST));
    Ok(AppTag::new(stage, host, &name, version.as_deref())?)
}

/// `shop` of `shop.tar.gz`.
fn file_name(arguments: &DeployArguments) -> Option<String> {
    let path = arguments.source.canonicalize().ok()?;
    let name = path.file_name()?.to_str()?;
    let endings = [".tar.gz", ".tar.zst", ".tgz", ".tzst", ".tar", ".zip"];
    let bare = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    Some(bare.to_owned())
}

/// Sends what the hub lacks. A connection that was cut is taken up again: what has arrived by then is not sent twice.
async fn send(target: &Target, arguments: &DeployArguments, scan: &Arc<Scan>) -> anyhow::Result<()> {
    let mut tries = 3;
    loop {
        let missing = missing(target, scan).await?;
        if missing.is_empty() {
            return Ok(());
        }
        // Before gigabytes are sent for nothing.
        let room = format!("/api/v1/objects/room?bytes={}", scan.bytes_of(&missing));
        client::ask(target, Method::GET, &room, Body::none()).await?;
        match packs::send(target, &arguments.source, scan, missing).await {
            Ok(()) => return Ok(()),
            Err(cause) if tries > 1 && client::was_cut(&cause) => {
                tell(&format!("the connection was cut ({cause:#}): going on where it was"));
                tries -= 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(cause) => return Err(cause),
        }
    }
}

/// What the hub lacks: it is asked about trees first, and then about what is in those alone that it does not have as a whole.
async fn missing(target: &Target, scan: &Scan) -> anyhow::Result<HashSet<ObjectId>> {
    let mut missing = ask_missing(target, &scan.trees()).await?;
    missing.extend(ask_missing(target, &scan.blobs_in(&missing)).await?);
    Ok(missing)
}

async fn ask_missing(target: &Target, all: &[ObjectId]) -> anyhow::Result<HashSet<ObjectId>> {
    let mut missing = HashSet::new();
    for ids in all.chunks(IDS) {
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let answer = client::ask(target, Method::POST, "/api/v1/objects/missing", Body::text(text)).await?;
        for id in answer.read::<Missing>()?.missing {
            let Ok(id) = id.parse() else { bail!("the answer has {id:?} for an object's id") };
            missing.insert(id);
        }
    }
    Ok(missing)
}

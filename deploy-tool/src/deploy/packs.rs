//! Sends packs, each safe on the hub when it has been answered: a cut upload loses one of them at most.

use crate::{
    client::{self, Body},
    progress::Progress,
    target::Target,
};
use anyhow::Context;
use http::Method;
use import::{ImportError, Scan};
use repository::ObjectId;
use std::{collections::HashSet, path::Path, sync::Arc};
use tokio::sync::mpsc;

/// Sends all that is missing.
pub(super) async fn send(
    target: &Target,
    source: &Path,
    scan: &Arc<Scan>,
    missing: HashSet<ObjectId>,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(scan.bytes_of(&missing));
    let (packs, mut next) = mpsc::channel(1);
    let (from, scan) = (source.to_owned(), Arc::clone(scan));
    let packing = tokio::task::spawn_blocking(move || import::pack(&from, &scan, &missing, &packs));
    let mut sent = Ok(());
    while let Some(chunks) = next.recv().await {
        let body = Body::chunks(chunks, progress.counter());
        sent = client::ask(target, Method::POST, "/api/v1/objects", body).await.map(drop);
        progress.show();
        if sent.is_err() {
            break;
        }
    }
    // Ends the packing, too, if it is still going on.
    drop(next);
    let packed = packing.await?;
    progress.end();
    match packed {
        // What has broken off was refused for that alone.
        Err(cause) if !matches!(cause, ImportError::Untaken) => {
            Err(cause).with_context(|| source.display().to_string())
        }
        _ => sent,
    }
}

//! Looks after the files of `cluster-tls`.

use crate::{Credentials, Reread};
use common::file_watch::Look;
use std::time::Duration;
use tokio::{task::spawn_blocking, time::sleep};

/// How often the files are looked at. A change is taken at the look after the one that found it.
const INTERVAL: Duration = Duration::from_secs(3);

/// Reads the files of `cluster-tls` again when they change, until it is dropped. Files that won't do change nothing, and are told once.
pub async fn watch(credentials: Credentials) {
    if !credentials.has_files() {
        return;
    }
    let mut told = None;
    loop {
        sleep(INTERVAL).await;
        let credentials = credentials.clone();
        let looked = spawn_blocking(move || match credentials.look() {
            Look::Still => None,
            Look::Changed | Look::Unsure => Some(credentials.reread()),
        });
        match looked.await {
            Ok(None) => {}
            Ok(Some(Ok(Reread::Same))) => told = None,
            Ok(Some(Ok(Reread::New))) => {
                told = None;
                tracing::info!("new files of cluster-tls: new connections between servers get them");
            }
            Ok(Some(Err(cause))) => {
                let cause = cause.to_string();
                if told.as_ref() != Some(&cause) {
                    tracing::warn!(cause, "changed files of cluster-tls are refused: the old ones stay");
                }
                told = Some(cause);
            }
            Err(cause) => tracing::warn!(%cause, "looking at the files of cluster-tls failed"),
        }
    }
}

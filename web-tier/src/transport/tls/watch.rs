//! Looks after the files of certificates, outside of the data path.

use super::{Changed, TlsListener};
use std::time::Duration;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// How often the files are looked at. A change is taken at the look after the one that found it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);

/// How often it is said that a certificate ends, or has.
const SAY_ENDING: Duration = Duration::from_secs(12 * 3600);

/// Reads certificates again when their files change, until it is dropped. A file that won't do changes nothing, and is told once.
/// Certificates that end within a week are told at the start and every 12 hours.
pub(crate) async fn watch(listeners: Vec<TlsListener>, interval: Duration) {
    if listeners.is_empty() {
        return;
    }
    let mut said = None;
    loop {
        if said.is_none_or(|said: Instant| said.elapsed() >= SAY_ENDING) {
            said = Some(Instant::now());
            for (file, what) in listeners.iter().flat_map(TlsListener::ending) {
                tracing::warn!(file, "{what}");
            }
        }
        sleep(interval).await;
        for listener in &listeners {
            let (listener, name) = (listener.clone(), listener.name());
            match spawn_blocking(move || listener.look()).await {
                Ok(None | Some(Ok(Changed::Nothing))) => {}
                Ok(Some(Ok(Changed::Certificates))) => {
                    tracing::info!(certificate = name, "new certificates: new connections get them");
                }
                Ok(Some(Err(cause))) => {
                    tracing::warn!(certificate = name, %cause, "changed certificates are refused: the old ones stay");
                }
                Err(cause) => tracing::warn!(%cause, "looking at the certificates' files failed"),
            }
        }
    }
}

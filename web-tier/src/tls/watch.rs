//! Looks after the files of certificates, outside of the data path.

use super::listener::{Changed, TlsListener};
use std::time::Duration;
use tokio::{task::spawn_blocking, time::sleep};

/// How often the files are looked at. A change is taken at the look after the one that found it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);

/// Reads certificates again when their files change, until it is dropped. A file that won't do changes nothing, and is told once.
pub(crate) async fn watch(listeners: Vec<TlsListener>, interval: Duration) {
    if listeners.is_empty() {
        return;
    }
    loop {
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

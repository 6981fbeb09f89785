//! Looks after the files of certificates, outside of the data path.

use super::{Changed, TlsListener, staples};
use std::time::Duration;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// How often the files are looked at. A change is taken at the look after the one that found it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);

/// How often it is said that a certificate ends, or has.
const SAY_ENDING: Duration = Duration::from_secs(12 * 3600);

/// Shows what ACME has brought.
async fn take_issued(listeners: &[TlsListener]) {
    for listener in listeners.iter().filter(|it| it.acme().is_some()) {
        let (listener, name) = (listener.clone(), listener.name());
        match spawn_blocking(move || listener.reload()).await {
            Ok(Ok(_)) => {}
            Ok(Err(cause)) => {
                tracing::warn!(certificate = name, %cause, "new certificates of ACME wait: those of files are refused");
            }
            Err(cause) => tracing::warn!(%cause, "taking new certificates failed"),
        }
    }
}

/// Looks after all that certificates need, until it is dropped.
pub(crate) async fn watch(listeners: Vec<TlsListener>, interval: Duration) {
    if !listeners.is_empty() {
        tokio::join!(read_again(&listeners, interval), staples::keep(&listeners));
    }
}

/// Reads certificates again when their files change, until it is dropped. A file that won't do changes nothing, and is told once.
/// Certificates that end within a week are told at the start and every 12 hours.
async fn read_again(listeners: &[TlsListener], interval: Duration) {
    // What has come before this listened is taken, too.
    let mut news = listeners.iter().find_map(TlsListener::acme).cloned().unwrap_or_default().changes();
    take_issued(listeners).await;
    let mut said = None;
    loop {
        if said.is_none_or(|said: Instant| said.elapsed() >= SAY_ENDING) {
            said = Some(Instant::now());
            for (file, what) in listeners.iter().flat_map(TlsListener::ending) {
                tracing::warn!(file, "{what}");
            }
        }
        tokio::select! {
            () = sleep(interval) => {}
            changed = news.changed() => if changed.is_ok() {
                take_issued(listeners).await;
                continue;
            } else {
                sleep(interval).await;
            },
        }
        for listener in listeners {
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

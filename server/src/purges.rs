//! A web-tier that was cut off from the others when something was purged hears of it from the hub, when it hears that again.

use tokio::task::spawn_blocking;
use triad_client::Purges;
use web_tier::WebTierView;

/// Follows the hub for as long as it tells.
pub(crate) fn follow(mut purges: Purges, view: WebTierView) {
    tokio::spawn(async move {
        loop {
            let told = purges.borrow_and_update().clone();
            if let Some(told) = told {
                let view = view.clone();
                let count = spawn_blocking(move || view.catch_up(&told)).await.unwrap_or_default();
                if count > 0 {
                    tracing::info!(
                        count,
                        "answers are forgotten that were purged while this server did not hear of it"
                    );
                }
            }
            if purges.changed().await.is_err() {
                return;
            }
        }
    });
}

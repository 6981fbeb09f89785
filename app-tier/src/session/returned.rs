//! The hub is back after a loss: it hears at once what this server has kept for it, before others ask it for what it had before.

use super::store::Sessions;
use futures_util::{StreamExt, stream};
use std::sync::Arc;

/// Sessions of which the hub is told at once.
const TOUCHES: usize = 64;

impl Sessions {
    /// Savers don't wait for their next try, and uses that could not be told are told, before the hub takes the sessions for idle.
    pub(crate) async fn hub_has_returned(self: &Arc<Self>) {
        let entries = self.entries();
        for entry in &entries {
            if entry.state().saving {
                entry.wanted.notify_one();
            }
        }
        stream::iter(&entries).for_each_concurrent(TOUCHES, |entry| self.touch_untold(entry)).await;
    }
}

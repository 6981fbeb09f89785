//! Messages of a queue as they come, with no more of them unsettled at once than there is credit for.

use super::{
    super::{QueueError, Queues},
    HeldDelivery,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The hub is asked for no more at once: they are in memory until they are read, of each of up to 1,024 streams of an app.
const AT_ONCE: usize = 8;

/// So long it waits for the next one; then it is asked anew.
const WAIT: Duration = Duration::from_secs(60);

/// Who receives. What it has not handed out when it is dropped is given back.
pub(crate) struct Pull {
    queues: Queues,
    queue: String,
    app: String,
    credit: usize,
    timeout: Option<Duration>,
    /// What has come, and nobody has taken yet.
    untaken: VecDeque<Arc<HeldDelivery>>,
    /// Ends with each that is settled, or over.
    open: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Pull {
    /// Of a queue, for an app; another gets what was not settled within `timeout`.
    pub(crate) fn new(
        queues: Queues,
        (queue, app): (&str, &str),
        credit: usize,
        timeout: Option<Duration>,
    ) -> Self {
        let (queue, app) = (queue.to_owned(), app.to_owned());
        let (untaken, open) = (VecDeque::new(), FuturesUnordered::new());
        Self { queues, queue, app, credit, timeout, untaken, open }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn next(&mut self) -> Result<Arc<HeldDelivery>, QueueError> {
        loop {
            // One that was not read in time is another's by now.
            while let Some(held) = self.untaken.pop_front() {
                if held.until() > Instant::now() {
                    return Ok(held);
                }
            }
            while let Some(Some(())) = self.open.next().now_or_never() {}
            let free = self.credit.saturating_sub(self.open.len()).min(AT_ONCE);
            let Some(max) = u32::try_from(free).ok().filter(|it| *it > 0) else {
                self.open.next().await;
                continue;
            };
            let place = (self.queue.as_str(), self.app.as_str());
            for held in self.queues.receive(place, max, WAIT, self.timeout).await? {
                let open = held.clone();
                self.open.push(async move { open.is_over().await }.boxed());
                self.untaken.push_back(held);
            }
        }
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        let untaken = std::mem::take(&mut self.untaken);
        if untaken.is_empty() {
            return;
        }
        let queues = self.queues.clone();
        tokio::spawn(async move {
            for held in untaken {
                queues.0.held.forget(held.number());
                let left = held.until().saturating_duration_since(Instant::now());
                queues.give_back(held.number(), 0, left).await;
            }
        });
    }
}

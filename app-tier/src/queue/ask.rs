//! Messages and runs of pipelines for whose outcome someone waits.

use super::{Asking, QueueError, Queues, WRITE_MAX, lock, step::first_queue_of};
use crate::content::millis;
use proto::hub::v1::{
    BeginRun, Fence, GetRun, MessageReply, MessagesPublished, QueueMessage, RunDescription,
    queue_outcome::Outcome, queue_write::Write,
};
use std::{sync::Mutex, time::Duration};
use tokio::{sync::oneshot, time::Instant};

/// What has come of a run is kept so long, if its pipeline is not known here.
const RESULT_TTL: Duration = Duration::from_secs(3600);

/// Someone waits for a reply, until this is dropped.
struct Asker<'a> {
    asking: &'a Mutex<Asking>,
    ask: u64,
    reply: oneshot::Receiver<MessageReply>,
    until: Instant,
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        lock(self.asking).remove(&self.ask);
    }
}

impl Asker<'_> {
    /// The reply to what was published; `None`: there was none in time, or another waits for it.
    async fn reply(&mut self, published: &MessagesPublished) -> Option<MessageReply> {
        if !published.repeated.is_empty() {
            return None;
        }
        tokio::time::timeout_at(self.until, &mut self.reply).await.ok()?.ok()
    }
}

impl Queues {
    fn asker(&self, wait: Duration) -> Asker<'_> {
        self.listen();
        let (ask, until) = (rand::random::<u64>() | 1, Instant::now() + wait);
        let (sender, reply) = oneshot::channel();
        lock(&self.0.asking).insert(ask, sender);
        Asker { asking: &self.0.asking, ask, reply, until }
    }

    /// Publishes a message and waits for its reply, for so long; `None`: there was none, or the message was there before.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn ask(
        &self,
        mut message: QueueMessage,
        fence: Option<Fence>,
        wait: Duration,
    ) -> Result<(MessagesPublished, Option<MessageReply>), QueueError> {
        let mut asker = self.asker(wait);
        (message.ask, message.wait_ms) = (asker.ask, millis(wait));
        if message.ttl_ms == 0 {
            // What nobody waits for any more is not begun.
            message.ttl_ms = message.wait_ms.saturating_add(message.delay_ms);
        }
        let published = self.publish(vec![message], fence).await?;
        let reply = asker.reply(&published).await;
        Ok((published, reply))
    }

    /// Begins a run of a pipeline with a message, at a step or the first one, and waits for its end, for so long.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn begin_run(
        &self,
        pipeline: &str,
        message: QueueMessage,
        fence: Option<Fence>,
        wait: Option<Duration>,
    ) -> Result<(MessagesPublished, Option<MessageReply>), QueueError> {
        let known = self.pipeline(pipeline);
        let result_ms = millis(known.map_or(RESULT_TTL, |it| it.pipeline().result_ttl()));
        let mut asker = wait.map(|it| (self.asker(it), it));
        let mut message = message;
        if message.queue.is_empty() {
            message.queue = first_queue_of(pipeline);
        }
        if let Some((asker, wait)) = &asker {
            (message.ask, message.wait_ms) = (asker.ask, millis(*wait));
        }
        let begin = BeginRun { pipeline: pipeline.to_owned(), message: Some(message), result_ms };
        let Outcome::Published(published) = self.write(Write::BeginRun(begin), fence, WRITE_MAX).await?
        else {
            return Err(QueueError::Refused("the hub answered another question".to_owned()));
        };
        let reply = match &mut asker {
            Some((asker, _)) => asker.reply(&published).await,
            None => None,
        };
        Ok((published, reply))
    }

    /// What has come of a run.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn run(&self, pipeline: &str, run: u64) -> Result<RunDescription, QueueError> {
        let get = GetRun { pipeline: pipeline.to_owned(), run };
        Ok(self.0.hub.pipeline_run(get, super::READ_MAX).await?)
    }
}

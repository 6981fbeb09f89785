//! Confirms reads: those that arrive while a majority is being asked share the next question.

use crate::{raft::node::Node, refusal::Refusal};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Reads that wait.
const QUEUE: usize = 16_384;
/// A confirmation is awaited so long.
const LATE: Duration = Duration::from_secs(5);

type Confirmed = oneshot::Sender<Result<(), Refusal>>;

/// Where reads wait for confirmation. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Reader(mpsc::Sender<Confirmed>);

impl Reader {
    /// Starts the task that asks; it ends when all handles are gone.
    pub(crate) fn start(node: Node) -> Self {
        let (queue, mut reads) = mpsc::channel::<Confirmed>(QUEUE);
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            while reads.recv_many(&mut waiting, QUEUE).await > 0 {
                let confirmed = node.confirm_read().await;
                for read in waiting.drain(..) {
                    let _gone = read.send(confirmed.clone());
                }
            }
        });
        Self(queue)
    }

    /// When it returns, the state has all that was acknowledged before the call.
    pub(crate) async fn confirm(&self) -> Result<(), Refusal> {
        let (confirmed, wait) = oneshot::channel();
        self.0.try_send(confirmed).map_err(|cause| match cause {
            mpsc::error::TrySendError::Full(_) => Refusal::Overloaded(format!("{QUEUE} reads wait already")),
            mpsc::error::TrySendError::Closed(_) => Refusal::Stopped("the hub is stopping".to_owned()),
        })?;
        match tokio::time::timeout(LATE, wait).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::Stopped("the hub is stopping".to_owned())),
            Err(_) => Err(Refusal::Late(LATE)),
        }
    }
}

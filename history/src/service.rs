//! What other servers ask a hub server about the past.

use crate::{History, Question};
use proto::history::v1::{
    Past, ReadHistory,
    history_server::{History as Service, HistoryServer},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tonic::{Request, Response, Status};

/// Points of an answer's line.
pub const POINTS_MAX: u64 = 400;

/// Servers that a question may name.
pub const SERVERS_ASKED_MAX: usize = 16;

/// Questions that are answered at once, and how long one waits for its turn.
const AT_ONCE: usize = 2;
const WAIT: Duration = Duration::from_secs(1);

/// The service, for the cluster port.
pub fn service(history: Arc<History>) -> HistoryServer<impl Service> {
    HistoryServer::new(HistoryService { history, turns: Arc::new(Semaphore::new(AT_ONCE)) })
}

#[derive(Debug)]
struct HistoryService {
    history: Arc<History>,
    turns: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Service for HistoryService {
    async fn read(&self, request: Request<ReadHistory>) -> Result<Response<Past>, Status> {
        let question =
            Question::of(request.get_ref()).map_err(|cause| Status::invalid_argument(cause.to_string()))?;
        let turn = timeout(WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Status::resource_exhausted("too many questions about the past at once"));
        };
        let history = self.history.clone();
        let read = spawn_blocking(move || {
            let _turn = turn;
            history.read(&question)
        });
        read.await.map(Response::new).map_err(|cause| Status::internal(cause.to_string()))
    }
}

//! How each of the hub's servers does, by its own word: those that don't lead are asked as well.

use crate::Hub;
use common::id::ServerId;
use futures_util::future::join_all;
use proto::hub::v1::{AskTriad, TriadStatus, triad_client::TriadClient};
use std::time::Duration;
use tokio::time::timeout;

impl Hub {
    /// Asks all servers of the hub at once; none of them for longer than `within`. In the file's order, with why there is no answer.
    pub async fn triad(&self, within: Duration) -> Vec<(ServerId, Result<TriadStatus, String>)> {
        let asked = self.leader.servers().map(|(_, id, channel)| async move {
            let mut client = TriadClient::new(channel);
            let status = match timeout(within, client.status(AskTriad {})).await {
                Ok(Ok(status)) => Ok(status.into_inner()),
                Ok(Err(status)) => Err(status.message().to_owned()),
                Err(_) => Err(format!("no answer within {within:?}")),
            };
            (id.clone(), status)
        });
        join_all(asked).await
    }
}

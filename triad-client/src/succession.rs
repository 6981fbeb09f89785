//! Finds who leads the hub when the leader that was asked is silent. A process that is stopped and a machine that is cut off break no
//! connection for a while, and the others have elected another long before.

use common::id::ServerId;
use futures_util::{StreamExt, stream::FuturesUnordered};
use proto::hub::v1::{AskLead, members_client::MembersClient};
use std::time::Duration;
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use tonic::transport::Channel;

/// A call that has waited for so long makes this client ask the other servers. Most calls take a few milliseconds.
const DOUBT: Duration = Duration::from_millis(250);

/// They are asked again after this: what is left of an election that is over.
const AGAIN: Duration = Duration::from_millis(50);

/// And are given so long for an answer.
const ANSWER: Duration = Duration::from_millis(250);

/// The search for a leader's successor, shared by all calls that wait.
#[derive(Debug)]
pub(crate) struct Succession {
    /// The place of the leader that was found last.
    found: watch::Sender<usize>,
    /// However many calls wait, one of them asks.
    asking: Mutex<()>,
}

impl Succession {
    pub(crate) fn new() -> Self {
        Self { found: watch::Sender::new(usize::MAX), asking: Mutex::default() }
    }

    /// Resolves to the place of another server that says of itself that it leads; pending while none does. To be asked anew for
    /// each call that waits for the server at `place`.
    pub(crate) async fn after(&self, place: usize, servers: &[(ServerId, Channel)]) -> usize {
        sleep(DOUBT).await;
        let mut found = self.found.subscribe();
        let told = async {
            while found.changed().await.is_ok() {
                let to = *found.borrow_and_update();
                if to != place {
                    return to;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            to = told => to,
            to = self.ask(place, servers) => to,
        }
    }

    async fn ask(&self, place: usize, servers: &[(ServerId, Channel)]) -> usize {
        let _others_wait = self.asking.lock().await;
        loop {
            if let Some(to) = leading(place, servers).await {
                self.found.send_replace(to);
                return to;
            }
            sleep(AGAIN).await;
        }
    }
}

/// The place of a server other than `place` that leads by its own word. What the others believe counts for nothing: they name
/// the silent one until its successor is there.
async fn leading(place: usize, servers: &[(ServerId, Channel)]) -> Option<usize> {
    let others = servers.iter().enumerate().filter(|(at, _)| *at != place);
    let asked = others.map(|(at, (_, channel))| async move {
        let mut client = MembersClient::new(channel.clone());
        let answer = timeout(ANSWER, client.lead(AskLead {})).await;
        matches!(answer, Ok(Ok(_))).then_some(at)
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    while let Some(answer) = answers.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

//! The lead is handed over because somebody wants another server to have it. The leader goes on living as a follower, so that what it
//! has given up for the hand-over comes back when that is over.

use crate::{hub::Hub, hub_status::HubRole, raft::node::Follower, service::note_hand_over};
use common::witness::TIMES;
use proto::hub::v1::{Author, LeadHandedOver};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tonic::Status;

/// The successor answered the leader within this.
const HEARD: Duration = Duration::from_secs(1);

/// How often a leader that has just begun looks for the successor's first answer: it waits for it as long as an answer is good.
const LOOK_FOR_ANSWER: Duration = Duration::from_millis(20);

/// Entries that it may be behind: it takes the rest in before it is elected.
const BEHIND_MAX: u64 = 1000;

/// How long is waited for the new leader. A successor that is lost on the way costs an ordinary election.
const ELECTED: Duration = Duration::from_secs(3);

/// How often is looked for the end of a hand-over that takes longer.
const LOOK: Duration = Duration::from_secs(1);

impl Hub {
    /// Hands the lead over to the hub server `to`; the caller has the right to it. Written down before it happens: afterwards this
    /// server can't.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        to: &str,
        author: Option<Author>,
    ) -> Result<LeadHandedOver, Status> {
        self.must_be_confirmed()?;
        self.must_stay()?;
        let node = self.place(to)?;
        if node == self.node().me() {
            let term = self.node().position().term;
            return Ok(LeadHandedOver { leader: to.to_owned(), term, changed: false });
        }
        self.hear_once(node).await;
        self.must_be_confirmed()?;
        let term = self.node().position().term;
        let follower = self.follower(node);
        can_lead(to, follower.as_ref(), self.node().position().last_log)?;
        if !self.begin_hand_over() {
            return Err(Status::out_of_range("the lead is being handed over already"));
        }
        // The task goes on when whoever asked for it is gone.
        let (hub, id) = (self.clone(), to.to_owned());
        let handed = tokio::spawn(async move {
            if let Err(refused) = note_hand_over(&hub, &id, author).await {
                hub.end_hand_over();
                return Err(refused);
            }
            tracing::info!(to = id, term, "an administrator has the lead handed over");
            Ok(hub.transfer(node, term).await)
        });
        let (leader, term) = handed.await.map_err(|cause| Status::internal(cause.to_string()))??;
        let leader = leader.and_then(|it| self.name(it)).map(|it| it.as_str().to_owned());
        Ok(LeadHandedOver { leader: leader.unwrap_or_default(), term, changed: true })
    }

    fn follower(&self, node: u64) -> Option<Follower> {
        self.node().followers().into_iter().find(|it| it.node == node)
    }

    /// Waits for the first answer of a server to a leader that has just begun: the votes of the others were enough.
    async fn hear_once(&self, node: u64) {
        let end = Instant::now() + HEARD;
        while self.follower(node).is_some_and(|it| it.heard.is_none()) && Instant::now() < end {
            sleep(LOOK_FOR_ANSWER).await;
        }
    }

    /// Who leads then, and in which term.
    async fn transfer(self: Arc<Self>, to: u64, term: u64) -> (Option<u64>, u64) {
        // No sign of life has been given since the hand-over began. When none is believed any more, another may lead.
        sleep(TIMES.believed).await;
        self.feed().end();
        self.node().transfer(to).await;
        let end = Instant::now() + ELECTED;
        loop {
            let position = self.node().position();
            if position.term > term && position.leader.is_some() {
                self.end_hand_over();
                return (position.leader, position.term);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.node().changed(left).await;
        }
        // A message to the successor may still be on its way: in a new term it counts for nothing.
        tracing::warn!("the hub has no new leader yet: the hand-over goes on");
        let late = self.clone();
        tokio::spawn(async move {
            while late.node().position().term <= term && late.node().role() != HubRole::Stopped {
                late.node().changed(LOOK).await;
            }
            late.end_hand_over();
        });
        (None, self.node().position().term)
    }
}

/// Whether a follower is near enough to lead at once.
fn can_lead(id: &str, follower: Option<&Follower>, last_log: Option<u64>) -> Result<(), Status> {
    let refused = |why: String| Err(Status::out_of_range(format!("{id} can't lead now: {why}")));
    let Some(follower) = follower else {
        return refused("this leader knows nothing of it".to_owned());
    };
    match follower.heard {
        None => return refused("it has not answered this leader".to_owned()),
        Some(ago) if ago > HEARD => {
            return refused(format!(
                "it answered this leader {} ms ago, expected at most 1000",
                ago.as_millis()
            ));
        }
        Some(_) => {}
    }
    let behind = last_log.unwrap_or(0).saturating_sub(follower.matched.unwrap_or(0));
    if behind > BEHIND_MAX {
        return refused(format!("it is {behind} entries behind, expected at most {BEHIND_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_or_far_behind_can_t_lead() {
        let follower = |heard: Option<u64>, matched| Follower {
            node: 1,
            matched,
            heard: heard.map(Duration::from_millis),
        };
        let said = |follower: Option<Follower>| {
            can_lead("app-b", follower.as_ref(), Some(5000)).err().map(|it| it.message().to_owned())
        };
        assert_eq!(said(Some(follower(Some(90), Some(4000)))), None);
        assert_eq!(said(None).unwrap(), "app-b can't lead now: this leader knows nothing of it");
        assert!(said(Some(follower(None, Some(5000)))).unwrap().contains("has not answered"));
        assert!(said(Some(follower(Some(1001), Some(5000)))).unwrap().contains("1001 ms ago"));
        assert!(said(Some(follower(Some(1), Some(3999)))).unwrap().contains("1001 entries behind"));
    }
}

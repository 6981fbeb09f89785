//! Where a hub server stands, for the status page.

use crate::{Triad, hub_status::HubRole, raft::node::Follower};
use proto::{
    hub::v1::QueueDescription,
    status::v1::{self as status, HubFollower, HubPipeline, HubQueue, MemberHeard},
};
use std::time::Duration;

/// Queues, and pipelines, of which a status tells.
const QUEUES_MAX: usize = 200;

impl Triad {
    /// Where this server stands, without what it takes on disk.
    pub fn report(&self) -> status::Hub {
        let stands = self.status();
        let node = self.hub.node();
        let (snapshot, snapshot_bytes) = node.snapshot();
        let leads = stands.role == HubRole::Leader;
        let heard = leads.then(|| self.hub.heartbeats().ages(stands.members.iter(), self.hub.now()));
        status::Hub {
            role: shown(stands.role).into(),
            leader: stands.leader.as_ref().map(ToString::to_string).unwrap_or_default(),
            term: stands.term,
            last_log: stands.last_log,
            committed: stands.committed,
            applied: stands.applied,
            snapshot,
            snapshot_bytes,
            disk_bytes: 0,
            quorum_ack_ms: stands.quorum_ack.map(millis),
            followers: node.followers().iter().filter_map(|it| self.follower(it)).collect(),
            sessions: stands.sessions as u64,
            session_bytes: stands.session_bytes,
            refused_sessions: stands.refused_sessions,
            members: heard
                .into_iter()
                .flatten()
                .map(|(id, ago)| MemberHeard { id, ago_ms: millis(ago) })
                .collect(),
            queues: if leads { self.queues() } else { Vec::new() },
            pipelines: if leads { self.pipelines() } else { Vec::new() },
        }
    }

    /// Those with the most messages.
    fn queues(&self) -> Vec<HubQueue> {
        let now_ms = self.hub.time_ms();
        let queues = self.hub.node().view().read().state.queues().clone();
        let mut told: Vec<HubQueue> = queues.describe(now_ms).map(told).collect();
        told.sort_by_key(|it| std::cmp::Reverse(it.ready + it.delayed + it.assigned + it.waiting + it.dead));
        told.truncate(QUEUES_MAX);
        told
    }

    fn pipelines(&self) -> Vec<HubPipeline> {
        let queues = self.hub.node().view().read().state.queues().clone();
        let told = queues.pipelines().take(QUEUES_MAX).map(|it| HubPipeline {
            name: it.pipeline,
            going_on: it.going_on,
            done: it.done,
            halted: it.halted,
            failed: it.failed,
        });
        told.collect()
    }

    fn follower(&self, follower: &Follower) -> Option<HubFollower> {
        let id = self.hub.name(follower.node)?.to_string();
        Some(HubFollower { id, matched: follower.matched, heard_ms: follower.heard.map(millis) })
    }
}

fn told(queue: QueueDescription) -> HubQueue {
    let counts = queue.counts.unwrap_or_default();
    let oldest_ms = if queue.oldest_ms == 0 { 0 } else { queue.now_ms.saturating_sub(queue.oldest_ms) };
    HubQueue {
        name: queue.name,
        paused: queue.paused,
        ready: queue.ready,
        delayed: queue.delayed,
        assigned: queue.assigned,
        waiting: queue.waiting,
        dead: queue.dead,
        bytes: queue.bytes,
        oldest_ms,
        published: counts.published,
        settled: counts.settled,
        failed: counts.failed,
        expired: counts.expired,
    }
}

fn shown(role: HubRole) -> status::HubRole {
    match role {
        HubRole::Leader => status::HubRole::Leader,
        HubRole::Follower => status::HubRole::Follower,
        HubRole::Candidate => status::HubRole::Candidate,
        HubRole::Joining => status::HubRole::Joining,
        HubRole::Stopped => status::HubRole::Stopped,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

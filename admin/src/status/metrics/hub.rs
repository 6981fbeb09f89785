//! Of a hub server: Raft, sessions, queues.

use super::{Text, seconds};
use proto::status::v1::{Hub, HubRole};

/// What it says of itself.
pub(super) fn hub(text: &mut Text, hub: &Hub) {
    let optional = |it: Option<u64>| it.unwrap_or_default();
    for (name, help, value) in [
        ("copal_hub_leader", "1 where this server leads the hub.", u64::from(hub.role() == HubRole::Leader)),
        ("copal_hub_has_leader", "1 where this server knows a leader.", u64::from(!hub.leader.is_empty())),
        ("copal_hub_term", "Raft's term.", hub.term),
        ("copal_hub_log_index", "The log's last entry.", optional(hub.last_log)),
        (
            "copal_hub_committed_index",
            "The last entry that is known to be on a majority.",
            optional(hub.committed),
        ),
        ("copal_hub_applied_index", "The last entry that is in the state.", optional(hub.applied)),
        ("copal_hub_snapshot_index", "The last entry of the newest snapshot.", optional(hub.snapshot)),
        ("copal_hub_disk_bytes", "What the hub keeps on disk.", hub.disk_bytes),
        ("copal_hub_sessions", "Sessions of the cluster.", hub.sessions),
        ("copal_hub_sessions_bytes", "Memory that they take.", hub.session_bytes),
    ] {
        text.gauge(name, help);
        text.sample("", &[], value);
    }
    text.counter("copal_hub_refused_sessions", "New sessions that were refused for want of memory.");
    text.sample("_total", &[], hub.refused_sessions);
    text.gauge(
        "copal_hub_follower_lag_entries",
        "Entries that a follower is not known to have; on the leader.",
    );
    for follower in &hub.followers {
        let lag = optional(hub.last_log).saturating_sub(optional(follower.matched));
        text.sample("", &[("server", &follower.id)], lag);
    }
    queues(text, hub);
    pipelines(text, hub);
    text.gauge("copal_hub_member_heard_age_seconds", "How long ago a member was heard of; on the leader.");
    for member in &hub.members {
        text.sample("", &[("server", &member.id)], seconds(member.ago_ms));
    }
}

/// The queues of apps, on the hub's leader.
fn queues(text: &mut Text, hub: &Hub) {
    if hub.queues.is_empty() {
        return;
    }
    text.gauge("copal_queue_messages", "Messages of a queue, by where they stand; on the hub's leader.");
    for queue in &hub.queues {
        let states = [
            ("ready", queue.ready),
            ("delayed", queue.delayed),
            ("assigned", queue.assigned),
            ("waiting", queue.waiting),
            ("dead", queue.dead),
        ];
        for (state, count) in states {
            text.sample("", &[("queue", queue.name.as_str()), ("state", state)], count);
        }
    }
    type Read = fn(&proto::status::v1::HubQueue) -> f64;
    let others: [(&'static str, &str, bool, Read); 7] = [
        ("copal_queue_bytes", "Memory that a queue takes.", false, |it| it.bytes as f64),
        ("copal_queue_oldest_seconds", "The age of the oldest message that is not dead.", false, |it| {
            it.oldest_ms as f64 / 1000.0
        }),
        ("copal_queue_paused", "1 where an operator has paused a queue.", false, |it| {
            f64::from(u8::from(it.paused))
        }),
        ("copal_queue_published", "Messages that were published.", true, |it| it.published as f64),
        ("copal_queue_settled", "Messages that are done.", true, |it| it.settled as f64),
        ("copal_queue_failed", "Attempts that failed.", true, |it| it.failed as f64),
        ("copal_queue_expired", "Messages that nobody has taken in their time.", true, |it| {
            it.expired as f64
        }),
    ];
    for (name, help, is_counter, read) in others {
        let suffix = text.begin(name, help, is_counter);
        for queue in &hub.queues {
            text.sample(suffix, &[("queue", queue.name.as_str())], read(queue));
        }
    }
}

/// The runs of pipelines, on the hub's leader.
fn pipelines(text: &mut Text, hub: &Hub) {
    if hub.pipelines.is_empty() {
        return;
    }
    text.gauge(
        "copal_pipeline_runs",
        "Runs of a pipeline, with those whose result is kept, by what has come of them; on the hub's leader.",
    );
    for pipeline in &hub.pipelines {
        let states = [
            ("going-on", pipeline.going_on),
            ("done", pipeline.done),
            ("halted", pipeline.halted),
            ("failed", pipeline.failed),
        ];
        for (state, count) in states {
            text.sample("", &[("pipeline", pipeline.name.as_str()), ("state", state)], count);
        }
    }
}

//! Topics: a durable subscription is a queue of its own; what is published to the topic goes to each, and its body is there once.

use super::{Around, Queues, full, message::bytes_of};
use proto::hub::v1::{
    MessagesPublished, QueueMessage, SnapshotSubscription, SubscribeTopic, UnsubscribeTopic,
    queue_outcome::Outcome, queues_full::Of,
};
use std::sync::Arc;

/// The name of a subscription's queue: no app can use such a name.
const QUEUE: &str = "topic:";

/// Durable subscriptions of one topic.
const SUBSCRIPTIONS_MAX: usize = 100;

/// A subscription's queue.
fn queue_of(topic: &str, name: &str) -> String {
    format!("{QUEUE}{topic}:{name}")
}

/// The topic and the subscription whose queue this is, if it is one's.
pub(crate) fn subscription_of(queue: &str) -> Option<(&str, &str)> {
    queue.strip_prefix(QUEUE)?.split_once(':')
}

impl Queues {
    /// The subscription is there from now on.
    pub(super) fn subscribe(&mut self, subscribe: SubscribeTopic) -> Outcome {
        let SubscribeTopic { topic, name, app } = subscribe;
        let known = self.topics.get(&topic).map_or(0, imbl::OrdMap::len);
        let is_new = !self.topics.get(&topic).is_some_and(|it| it.contains_key(&name));
        if is_new && known >= SUBSCRIPTIONS_MAX {
            return full(Of::Queues, SUBSCRIPTIONS_MAX as u64);
        }
        if is_new {
            // Its queue is there before its first message, and has a place among all.
            if self.all.len() >= super::QUEUES_MAX {
                self.drop_idle(1);
            }
            if self.all.len() >= super::QUEUES_MAX {
                return full(Of::Queues, super::QUEUES_MAX as u64);
            }
            let owner = self.app(&app);
            self.queue(&queue_of(&topic, &name), &owner);
            self.topics.entry(topic).or_default().insert(name, app);
        }
        Outcome::Done(true)
    }

    /// It ends, with what was not taken of it.
    pub(super) fn unsubscribe(&mut self, unsubscribe: &UnsubscribeTopic, around: &mut Around<'_>) -> Outcome {
        let UnsubscribeTopic { topic, name } = unsubscribe;
        let existed = self.topics.get_mut(topic).is_some_and(|it| it.remove(name).is_some());
        if self.topics.get(topic).is_some_and(imbl::OrdMap::is_empty) {
            self.topics.remove(topic);
        }
        let queue: Arc<str> = queue_of(topic, name).into();
        if existed {
            for dead in [false, true] {
                self.purge(&queue, dead, (u64::MAX, usize::MAX), around.now_ms, around.changes);
            }
        }
        Outcome::Done(existed)
    }

    /// To each subscription; all or none.
    pub(super) fn publish_to_topic(
        &mut self,
        from: (&Arc<str>, u64),
        message: &QueueMessage,
        max: u64,
        around: &mut Around<'_>,
    ) -> Outcome {
        let names: Vec<String> =
            self.topics.get(&message.queue).map(|it| it.keys().cloned().collect()).unwrap_or_default();
        let bytes = bytes_of(message) * names.len() as u64;
        let share = self.apps.get(&*message.app).copied().unwrap_or_default();
        if self.bytes + bytes > max {
            return full(Of::All, max);
        }
        if share.bytes + bytes > max / 2 {
            return full(Of::App, max / 2);
        }
        let mut published = MessagesPublished::default();
        for (place, name) in (0..).zip(names) {
            let queue = queue_of(&message.queue, &name);
            // No reply: of several who would answer, whose it is nobody knows.
            let copy = QueueMessage { queue, wait_ms: 0, ..message.clone() };
            let (id, is_new) = self.publish_one(from, copy, around);
            published.ids.push(id);
            if !is_new {
                published.repeated.push(place);
            }
        }
        Outcome::Published(published)
    }

    /// The subscriptions: topic, name, app.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.topics.iter().flat_map(|(topic, all)| {
            all.iter().map(move |(name, app)| (topic.as_str(), name.as_str(), app.as_str()))
        })
    }

    /// For a snapshot.
    pub(super) fn export_topics(&self) -> impl Iterator<Item = SnapshotSubscription> {
        self.subscriptions().map(|(topic, name, app)| SnapshotSubscription {
            topic: topic.to_owned(),
            name: name.to_owned(),
            app: app.to_owned(),
        })
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore_topic(&mut self, saved: SnapshotSubscription) {
        let SnapshotSubscription { topic, name, app } = saved;
        self.topics.entry(topic).or_default().insert(name, app);
    }
}

//! Topics: a durable subscription is a queue of its own; what is published to the topic goes to each of them.

use super::{Around, Queues, full, line::bytes_of_key, message::bytes_of, names::Kind};
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
        if self.topics.get(&topic).is_some_and(|it| it.contains_key(&name)) {
            return Outcome::Done(false);
        }
        if known >= SUBSCRIPTIONS_MAX {
            return full(Of::Queues, SUBSCRIPTIONS_MAX as u64);
        }
        // Its queue is there before its first message.
        let (queue, owner) = (queue_of(&topic, &name), self.app(&app));
        if !self.all.contains_key(&*queue)
            && let Err(max) = self.room_for_names(Kind::Subscription, &owner, 1)
        {
            return full(Of::Queues, max as u64);
        }
        self.queue(&queue, &owner);
        self.topics.entry(topic).or_default().insert(name, app);
        Outcome::Done(true)
    }

    /// It ends, with what was not taken of it.
    pub(super) fn unsubscribe(&mut self, unsubscribe: &UnsubscribeTopic) -> Outcome {
        let UnsubscribeTopic { topic, name } = unsubscribe;
        let existed = self.topics.get_mut(topic).is_some_and(|it| it.remove(name).is_some());
        if self.topics.get(topic).is_some_and(imbl::OrdMap::is_empty) {
            self.topics.remove(topic);
        }
        if existed {
            self.end_queue(&queue_of(topic, name));
        }
        Outcome::Done(existed)
    }

    /// Whether the subscription of this queue is there.
    pub(super) fn is_subscribed(&self, queue: &str) -> bool {
        let found = subscription_of(queue);
        found.is_some_and(|(topic, name)| self.topics.get(topic).is_some_and(|it| it.contains_key(name)))
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
        let key = &message.idempotency_key;
        let key_bytes = if key.is_empty() { 0 } else { bytes_of_key(key) };
        let bytes = (bytes_of(message) + key_bytes) * names.len() as u64;
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
            let (id, is_new) = self.publish_one(from, copy, (around.now_ms, around.changes));
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

//! Queues as records, and back.

use super::{
    Queues,
    delivery::Assigned,
    line::{Consumer, Dead, Key, Line, bytes_of_key},
    message::{Asker, Message, Status, Times},
    process::Process,
    receive::Receive,
    reply::Reply,
};
use crate::state::written::Writer;
use proto::hub::v1::{
    QueueConsumer, QueueMessage, ReceiveMessages, SnapshotDelivery, SnapshotMessage, SnapshotMessageKey,
    SnapshotMessageKeys, SnapshotMessageReply, SnapshotQueue, SnapshotQueueServer, SnapshotQueueWriter,
    SnapshotReceive, WrittenQueueOutcome, snapshot_item::Item, snapshot_message::Status as Saved,
};
use std::sync::Arc;

/// Keys of one record: a queue may have very many.
const KEYS: usize = 200;

impl Queues {
    /// For a snapshot.
    pub(in crate::state) fn export(&self) -> impl Iterator<Item = Item> {
        let queues = self.all.iter().map(|(name, line)| Item::Queue(self.saved_queue(name, line)));
        let keys = self.all.iter().flat_map(|(name, line)| keys(name, line)).map(Item::MessageKeys);
        let messages = self.all.iter().flat_map(|(name, line)| {
            let living = line.messages().iter().map(|(id, it)| self.message(name, line, *id, it));
            let dead = line.dead.iter().map(|(id, it)| dead(name, line, *id, it));
            living.chain(dead).map(Item::Message)
        });
        let servers = self.servers.iter().map(|(server, it)| {
            let Process { started_ms, number, released, released_upto } = *it;
            let (server, releasing) = (server.to_string(), self.releasing.contains(server));
            let it = SnapshotQueueServer { server, started_ms, number, released, released_upto, releasing };
            Item::QueueServer(it)
        });
        let replies = self.replies.iter().map(|((server, _), it)| {
            let (server, app) = (server.to_string(), it.app.to_string());
            let reply = Some(it.reply.as_ref().clone());
            Item::Reply(SnapshotMessageReply { server, reply, until_ms: it.until_ms, app })
        });
        let receives = self.receives.iter().map(|((queue, order), it)| {
            let receive = ReceiveMessages {
                queue: queue.to_string(),
                app: it.app.to_string(),
                id: it.id,
                max: it.max,
                wait_ms: 0,
                timeout_ms: it.timeout_ms,
            };
            let (order, server, receive) = (*order, it.server.to_string(), Some(receive));
            Item::Receive(SnapshotReceive { order, server, receive, until_ms: it.until_ms })
        });
        let writers = self.written.iter().map(|(server, it)| {
            let outcomes = it.outcomes.iter();
            let outcomes = outcomes.map(|(number, outcome)| WrittenQueueOutcome {
                number: *number,
                outcome: Some(outcome.clone()),
            });
            Item::QueueWriter(SnapshotQueueWriter {
                server: server.to_owned(),
                started_ms: it.started_ms,
                settled: it.settled,
                outcomes: outcomes.collect(),
                used: it.used,
            })
        });
        let topics = self.export_topics().map(Item::Subscription);
        let runs = self.export_runs();
        let last = (self.last > 0).then_some(Item::LastMessage(self.last));
        queues
            .chain(keys)
            .chain(messages)
            .chain(servers)
            .chain(replies)
            .chain(receives)
            .chain(writers)
            .chain(topics)
            .chain(runs)
            .chain(last)
    }

    fn message(&self, queue: &str, line: &Line, id: u64, message: &Message) -> SnapshotMessage {
        let status = match message.status {
            Status::Ready => Saved::Ready(true),
            Status::Delayed(at_ms) => Saved::DelayedMs(at_ms),
            Status::Waiting(at_ms) => Saved::WaitingMs(at_ms),
            Status::Assigned(number) => Saved::Assigned(self.delivery(number)),
        };
        saved((queue, id), message, line, status)
    }

    fn delivery(&self, number: u64) -> SnapshotDelivery {
        let found = self.servers.keys().find_map(|server| {
            let it = self.assigned.get(&(server.clone(), number))?;
            Some(SnapshotDelivery {
                number,
                server: server.to_string(),
                app: it.app.to_string(),
                handed_ms: it.handed_ms,
                deadline_ms: it.deadline_ms,
                receive: it.receive,
                of: it.of,
            })
        });
        found.unwrap_or_default()
    }

    /// Puts a record back, from a snapshot: queues come before their messages.
    pub(in crate::state) fn restore(&mut self, item: Item) {
        match item {
            Item::Queue(queue) => self.restore_queue(queue),
            Item::Message(message) => self.restore_message(message),
            Item::MessageKeys(keys) => self.restore_keys(keys),
            Item::QueueServer(saved) => {
                let SnapshotQueueServer { server, started_ms, number, released, released_upto, releasing } =
                    saved;
                let server: Arc<str> = server.into();
                if releasing {
                    self.releasing.insert(server.clone());
                }
                self.servers.insert(server, Process { started_ms, number, released, released_upto });
            }
            Item::Reply(SnapshotMessageReply { server, reply, until_ms, app }) => {
                let (reply, app) = (reply.unwrap_or_default(), self.app(&app));
                let (number, reply) = (reply.number, Arc::new(reply));
                self.put_reply(&server.into(), number, Reply { reply, app, until_ms });
            }
            Item::Receive(SnapshotReceive { order, server, receive, until_ms }) => {
                let ReceiveMessages { queue, app, id, max, timeout_ms, .. } = receive.unwrap_or_default();
                let (server, app) = (server.into(), self.app(&app));
                let place = (self.name_of(&queue), order);
                self.put_receive(place, Receive { server, app, id, max, timeout_ms, until_ms });
            }
            Item::QueueWriter(writer) => {
                let SnapshotQueueWriter { server, started_ms, settled, outcomes, used } = writer;
                let outcomes = outcomes.into_iter().map(|it| (it.number, it.outcome.unwrap_or_default()));
                let outcomes = outcomes.collect();
                self.written.restore(server, Writer { started_ms, settled, outcomes, used });
            }
            Item::Subscription(saved) => self.restore_topic(saved),
            Item::Run(saved) => self.restore_run(saved),
            Item::Join(saved) => self.restore_join(saved),
            Item::Joined(saved) => self.restore_joined(saved),
            Item::LastMessage(last) => self.last = self.last.max(last),
            _ => {}
        }
    }

    fn name_of(&self, queue: &str) -> Arc<str> {
        self.all.get_key_value(queue).map_or_else(|| queue.into(), |(name, _)| name.clone())
    }

    fn restore_queue(&mut self, saved: SnapshotQueue) {
        let SnapshotQueue { name, paused, counts, policy, consumers, turn_server, turn_app, app, .. } = saved;
        let (app, only) = (self.app(&app), (!saved.only.is_empty()).then(|| self.app(&saved.only)));
        let queue = self.queue(&name, &app);
        if saved.ends_upto > 0 {
            self.ending.insert(queue.clone(), saved.ends_upto);
        }
        if saved.sweeping {
            self.sweeping.insert(queue.clone());
        }
        let consumers = consumers.into_iter().map(|it| {
            let QueueConsumer { server, app, window, .. } = it;
            ((server.into(), app.into()), Consumer { window, assigned: 0 })
        });
        let consumers = consumers.collect();
        self.change(&queue, |line| {
            line.consumers = consumers;
            line.paused = paused;
            line.counts = counts.unwrap_or_default();
            if let Some(policy) = policy {
                line.policy = policy;
            }
            line.turn = (!turn_server.is_empty()).then(|| (turn_server.into(), turn_app.into()));
            line.only = only;
        });
    }

    fn restore_keys(&mut self, saved: SnapshotMessageKeys) {
        let queue = self.name_of(&saved.queue);
        for SnapshotMessageKey { key, id, until_ms, app } in saved.keys {
            let (app, bytes) = (self.app(&app), bytes_of_key(&key));
            self.share(&app, |it| it.bytes += bytes);
            self.change(&queue, |line| line.remember(key.into(), Key { id, until_ms, app }));
        }
    }

    fn restore_message(&mut self, saved: SnapshotMessage) {
        let SnapshotMessage { id, message, published_ms, expires_ms, order, attempts, why, .. } = saved;
        let asker = (saved.reply_until_ms > 0).then(|| Asker {
            server: saved.reply_server.into(),
            started_ms: saved.reply_started_ms,
            until_ms: saved.reply_until_ms,
            ask: saved.reply_ask,
        });
        let message: QueueMessage = message.unwrap_or_default();
        let (app, queue) = (self.app(&message.app), self.name_of(&message.queue));
        let Some(line) = self.all.get(&queue) else { return };
        let origin = line.origin(&message, &app);
        let message = Message::new(message, origin, asker, Times { published_ms, expires_ms });
        let message = Message { order, attempts, ..message };
        let status = match saved.status {
            Some(Saved::DiedMs(died_ms)) => {
                let dead = Dead { message: Arc::new(message), died_ms };
                let bytes = self.change(&queue, |line| line.restore_dead(id, dead, &why));
                return self.share(&app, |it| it.bytes += bytes.unwrap_or_default());
            }
            Some(Saved::DelayedMs(at_ms)) => Status::Delayed(at_ms),
            Some(Saved::WaitingMs(at_ms)) => Status::Waiting(at_ms),
            Some(Saved::Assigned(it)) => {
                let SnapshotDelivery { number, server, app, handed_ms, deadline_ms, receive, of } = it;
                let (server, app): (Arc<str>, _) = (server.into(), self.app(&app));
                let consumer = (server.clone(), app.clone());
                if receive == 0 {
                    self.change(&queue, |line| {
                        if let Some(it) = line.consumers.get_mut(&consumer) {
                            it.assigned += 1;
                        }
                    });
                }
                let queue = queue.clone();
                let assigned = Assigned { queue, id, app, handed_ms, deadline_ms, receive, of };
                self.put_assigned((server, number), assigned);
                Status::Assigned(number)
            }
            Some(Saved::Ready(_)) | None => Status::Ready,
        };
        let message = Message { status, ..message };
        let bytes = self.change(&queue, |line| line.restore(id, message, &why));
        self.share(&app, |it| it.bytes += bytes.unwrap_or_default());
    }

    fn saved_queue(&self, name: &Arc<str>, line: &Line) -> SnapshotQueue {
        let ends_upto = self.ending.get(name).copied().unwrap_or_default();
        SnapshotQueue { ends_upto, sweeping: self.sweeping.contains(name), ..queue(name, line) }
    }
}

fn keys<'a>(queue: &'a str, line: &'a Line) -> impl Iterator<Item = SnapshotMessageKeys> + 'a {
    let told = |(key, it): (&Arc<str>, &Key)| SnapshotMessageKey {
        key: key.to_string(),
        id: it.id,
        until_ms: it.until_ms,
        app: it.app.to_string(),
    };
    let mut all = line.keys.iter();
    std::iter::from_fn(move || {
        let keys: Vec<_> = all.by_ref().take(KEYS).map(told).collect();
        (!keys.is_empty()).then(|| SnapshotMessageKeys { queue: queue.to_owned(), keys })
    })
}

fn queue(name: &str, line: &Line) -> SnapshotQueue {
    let (turn_server, turn_app) =
        line.turn.as_ref().map(|(server, app)| (server.to_string(), app.to_string())).unwrap_or_default();
    let consumers = line.consumers.iter().map(|((server, app), it)| QueueConsumer {
        server: server.to_string(),
        app: app.to_string(),
        window: it.window,
        assigned: it.assigned,
    });
    SnapshotQueue {
        name: name.to_owned(),
        paused: line.paused,
        counts: Some(line.counts),
        policy: Some(line.policy.clone()),
        consumers: consumers.collect(),
        turn_server,
        turn_app,
        app: line.app.to_string(),
        only: line.only.as_ref().map(ToString::to_string).unwrap_or_default(),
        ends_upto: 0,
        sweeping: false,
    }
}

fn dead(queue: &str, line: &Line, id: u64, dead: &Dead) -> SnapshotMessage {
    saved((queue, id), &dead.message, line, Saved::DiedMs(dead.died_ms))
}

fn saved((queue, id): (&str, u64), message: &Message, line: &Line, status: Saved) -> SnapshotMessage {
    let asker = message.asker();
    SnapshotMessage {
        id,
        message: Some(message.told(queue)),
        published_ms: message.published_ms,
        expires_ms: message.expires_ms,
        order: message.order,
        attempts: message.attempts,
        why: line.why(id).map(ToString::to_string).unwrap_or_default(),
        reply_server: asker.map(|it| it.server.to_string()).unwrap_or_default(),
        reply_started_ms: asker.map_or(0, |it| it.started_ms),
        reply_until_ms: asker.map_or(0, |it| it.until_ms),
        reply_ask: asker.map_or(0, |it| it.ask),
        status: Some(status),
    }
}

//! Copal's hub: three processes, and this one as an app server.

use super::{Arguments, BYTES, Broker, DEADLINE};
use crate::process::Process;
use anyhow::{Context, bail};
use bytes::Bytes;
use cluster_port::{ClusterKey, Credentials};
use common::{
    config::{ClusterEncryption, Secret},
    id::ServerId,
};
use proto::hub::v1::{
    DeliveryDone, PublishMessages, QueueDescription, QueueMessage, QueueWindow, QueueWrite, SettleDelivery,
    queue_outcome::Outcome, queue_write::Write, settle_delivery,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use triad_client::{Hub, HubConfig, QueueWriter, Takes, Watch};

/// How often it is looked how a queue is.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Messages under way at once.
const WINDOW: u32 = 512;

pub(super) struct Copal {
    hub: Hub,
    started_ms: u64,
    writer: QueueWriter,
    watch: Watch,
    takes: watch::Sender<Takes>,
}

/// The hub's servers and their ports.
pub(super) const SERVERS: [(&str, u16); 3] = [("hub-a", 26800), ("hub-b", 26801), ("hub-c", 26802)];

pub(super) async fn start(
    arguments: &Arguments,
    folder: &Path,
) -> anyhow::Result<(Arc<Copal>, Vec<Process>)> {
    start_with(arguments, &arguments.peers.join("hub.yaml"), folder).await
}

/// The same with another file.
pub(super) async fn start_with(
    arguments: &Arguments,
    file: &Path,
    folder: &Path,
) -> anyhow::Result<(Arc<Copal>, Vec<Process>)> {
    let start = |(id, _): (&str, u16)| start_server(arguments, file, folder, id);
    let processes = SERVERS.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let hub = Hub::new(HubConfig {
        me: "bench".into(),
        credentials: Credentials::new(ClusterKey::new(&Secret::default()), ClusterEncryption::BeyondLoopback),
        servers: SERVERS.iter().map(|(id, port)| ((*id).into(), format!("127.0.0.1:{port}"))).collect(),
    });
    hub.leader(DEADLINE).await.context("the hub elects a leader")?;
    // Those of a run before, who still listen, are older.
    static STARTED_MS: AtomicU64 = AtomicU64::new(1);
    let started_ms = STARTED_MS.fetch_add(1, Ordering::Relaxed);
    let (writer, watch) = (hub.queue_writer(started_ms), hub.watch());
    Ok((Arc::new(Copal { hub, started_ms, writer, watch, takes: watch::Sender::new(None) }), processes))
}

/// One of its servers again.
pub(super) fn start_one(arguments: &Arguments, folder: &Path, place: usize) -> anyhow::Result<Process> {
    start_server(arguments, &arguments.peers.join("hub.yaml"), folder, SERVERS[place].0)
}

fn start_server(arguments: &Arguments, file: &Path, folder: &Path, id: &str) -> anyhow::Result<Process> {
    let (file, data) = (file.to_string_lossy(), folder.to_string_lossy());
    let words = ["start", "--conf", &file, "--server", id, "--data-dir", &data];
    Process::start(&arguments.copal, &words, None, &folder.join(format!("{id}.log")))
}

impl Copal {
    /// Who leads.
    pub(super) async fn leader(&self) -> anyhow::Result<ServerId> {
        Ok(self.hub.leader(DEADLINE).await?)
    }

    /// Publishes so many messages at once.
    pub(super) async fn publish_many(&self, queue: &str, body: &Bytes, count: usize) -> anyhow::Result<()> {
        let message = || QueueMessage {
            queue: queue.into(),
            body: body.clone(),
            app: "bench".into(),
            ..QueueMessage::default()
        };
        let messages = std::iter::repeat_with(message).take(count).collect();
        match self.write(Write::Publish(PublishMessages { messages })).await? {
            Outcome::Published(_) => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    pub(super) async fn write(&self, write: Write) -> anyhow::Result<Outcome> {
        Ok(self.writer.write(QueueWrite { fence: None, write: Some(write) }, DEADLINE).await?)
    }

    /// Publishes all of it, some calls at once.
    pub(super) async fn fill(
        self: &Arc<Self>,
        queue: &'static str,
        (count, batch): (usize, usize),
        at_once: usize,
    ) -> anyhow::Result<()> {
        let left = Arc::new(AtomicUsize::new(count));
        let mut publishers = JoinSet::new();
        for _ in 0..at_once {
            let (copal, left) = (self.clone(), left.clone());
            publishers.spawn(async move {
                let body = Bytes::from(vec![b'm'; BYTES]);
                let more = |left: usize| left.checked_sub(batch);
                while left.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
                    copal.publish_many(queue, &body, batch).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(publisher) = publishers.join_next().await {
            publisher??;
        }
        Ok(())
    }

    /// Consumes: `begun` with each message, and `ended` when it is settled.
    pub(super) fn consume_each(
        self: Arc<Self>,
        begun: impl Fn(&QueueMessage) + Clone + Send + 'static,
        ended: impl Fn(QueueMessage) + Clone + Send + 'static,
    ) {
        let mut deliveries =
            self.hub.deliveries(self.started_ms, self.takes.subscribe(), self.watch.stream.clone());
        let (queue, app) = ("bench".to_owned(), "bench".to_owned());
        self.takes.send_replace(Some(vec![QueueWindow { queue, app, window: WINDOW, policy: None }]));
        tokio::spawn(async move {
            while let Some(delivered) = deliveries.next().await {
                for delivery in delivered.deliveries {
                    let (copal, begun, ended) = (self.clone(), begun.clone(), ended.clone());
                    tokio::spawn(async move {
                        let message = delivery.message.unwrap_or_default();
                        begun(&message);
                        let outcome = Some(settle_delivery::Outcome::Done(DeliveryDone::default()));
                        let settle = SettleDelivery {
                            delivery: delivery.number,
                            outcome,
                            ..SettleDelivery::default()
                        };
                        if matches!(copal.write(Write::Settle(settle)).await, Ok(Outcome::Done(_))) {
                            ended(message);
                        }
                    });
                }
            }
        });
    }

    /// How a queue is.
    pub(super) async fn described(&self, queue: &str) -> anyhow::Result<QueueDescription> {
        let described = self.hub.describe_queues(DEADLINE).await?;
        Ok(described.queues.into_iter().find(|it| it.name == queue).unwrap_or_default())
    }

    /// Waits until so many messages of a queue are settled.
    pub(super) async fn settled(&self, queue: &str, count: usize) -> anyhow::Result<()> {
        let all = async {
            while self.described(queue).await?.counts.unwrap_or_default().settled < count as u64 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(6 * DEADLINE, all).await?
    }
}

/// Messages a second that are published a hundred at a time, handled and settled.
pub(super) async fn batches(arguments: &Arguments, folder: &Path) -> anyhow::Result<(f64, String)> {
    const COUNT: usize = 200_000;
    let (copal, _processes) = start(arguments, folder).await?;
    let (sender, mut handled) = mpsc::unbounded_channel();
    copal.consume(sender).await?;
    tokio::spawn(async move { while handled.recv().await.is_some() {} });
    copal.fill("bench", (20_000, 100), 8).await?;
    copal.settled("bench", 20_000).await?;
    let began = Instant::now();
    copal.fill("bench", (COUNT, 100), 8).await?;
    copal.settled("bench", 20_000 + COUNT).await?;
    Ok((
        COUNT as f64 / began.elapsed().as_secs_f64(),
        "messages/s, published 100 a call, handled and settled one a call over gRPC".to_owned(),
    ))
}

impl Broker for Copal {
    async fn publish(&self, _lane: usize, body: Bytes) -> anyhow::Result<()> {
        self.publish_many("bench", &body, 1).await
    }

    async fn consume(self: &Arc<Self>, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        let settled = handled.clone();
        let begun = move |message: &QueueMessage| {
            if message.body.first() == Some(&b'i') {
                let _over = handled.send(message.body.clone());
            }
        };
        // Counted when it is settled.
        let ended = move |message: QueueMessage| {
            if message.body.first() != Some(&b'i') {
                let _over = settled.send(message.body);
            }
        };
        self.clone().consume_each(begun, ended);
        Ok(())
    }
}

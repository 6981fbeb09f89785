//! Copal's hub: three processes, and this one as an app server.

use super::{Arguments, Broker, DEADLINE};
use crate::process::Process;
use anyhow::{Context, bail};
use bytes::Bytes;
use cluster_port::{ClusterKey, Credentials};
use common::config::{ClusterEncryption, Secret};
use proto::hub::v1::{
    DeliveryDone, PublishMessages, QueueMessage, QueueWindow, QueueWrite, SettleDelivery,
    queue_outcome::Outcome, queue_write::Write, settle_delivery,
};
use std::{path::Path, sync::Arc};
use tokio::sync::{mpsc, watch};
use triad_client::{Hub, HubConfig, QueueWriter, Takes, Watch};

/// Messages under way at once.
const WINDOW: u32 = 512;

pub(super) struct Copal {
    hub: Hub,
    writer: QueueWriter,
    watch: Watch,
    takes: watch::Sender<Takes>,
}

pub(super) async fn start(
    arguments: &Arguments,
    folder: &Path,
) -> anyhow::Result<(Arc<Copal>, Vec<Process>)> {
    let file = arguments.peers.join("hub.yaml").to_string_lossy().into_owned();
    let data = folder.to_string_lossy().into_owned();
    let servers = [("hub-a", 26800), ("hub-b", 26801), ("hub-c", 26802)];
    let mut processes = Vec::new();
    for (id, _) in servers {
        let words = ["start", "--conf", &file, "--server", id, "--data-dir", &data];
        processes.push(Process::start(&arguments.copal, &words, None, &folder.join(format!("{id}.log")))?);
    }
    let hub = Hub::new(HubConfig {
        me: "bench".into(),
        credentials: Credentials::new(ClusterKey::new(&Secret::default()), ClusterEncryption::BeyondLoopback),
        servers: servers.iter().map(|(id, port)| ((*id).into(), format!("127.0.0.1:{port}"))).collect(),
    });
    hub.leader(DEADLINE).await.context("the hub elects a leader")?;
    let (writer, watch) = (hub.queue_writer(1), hub.watch());
    Ok((Arc::new(Copal { hub, writer, watch, takes: watch::Sender::new(None) }), processes))
}

impl Broker for Copal {
    async fn publish(&self, _lane: usize, body: Bytes) -> anyhow::Result<()> {
        let message =
            QueueMessage { queue: "bench".into(), body, app: "bench".into(), ..QueueMessage::default() };
        let publish = Write::Publish(PublishMessages { messages: vec![message] });
        match self.writer.write(QueueWrite { fence: None, write: Some(publish) }, DEADLINE).await? {
            Outcome::Published(_) => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    async fn consume(self: &Arc<Self>, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        let mut deliveries = self.hub.deliveries(1, self.takes.subscribe(), self.watch.stream.clone());
        let (queue, app) = ("bench".to_owned(), "bench".to_owned());
        self.takes.send_replace(Some(vec![QueueWindow { queue, app, window: WINDOW, policy: None }]));
        let copal = self.clone();
        tokio::spawn(async move {
            while let Some(delivered) = deliveries.next().await {
                for delivery in delivered.deliveries {
                    let (copal, handled) = (copal.clone(), handled.clone());
                    tokio::spawn(async move {
                        let body = delivery.message.unwrap_or_default().body;
                        if body.first() == Some(&b'i') {
                            let _over = handled.send(body.clone());
                        }
                        let outcome = Some(settle_delivery::Outcome::Done(DeliveryDone::default()));
                        let settle = SettleDelivery {
                            delivery: delivery.number,
                            outcome,
                            ..SettleDelivery::default()
                        };
                        let write = QueueWrite { fence: None, write: Some(Write::Settle(settle)) };
                        let settled = copal.writer.write(write, DEADLINE).await;
                        // Counted when it is settled.
                        if matches!(settled, Ok(Outcome::Done(_))) && body.first() != Some(&b'i') {
                            let _over = handled.send(body);
                        }
                    });
                }
            }
        });
        Ok(())
    }
}

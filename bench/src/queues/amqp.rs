//! AMQP 0-9-1 with RabbitMQ's confirms of what is published, as far as it is used: a connection has one channel, which either publishes or consumes,
//! and a body is one frame.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BufMut, Bytes};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

/// A frame's kinds (2.3.5).
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// A frame's last byte.
const END: u8 = 0xCE;

/// Kind, channel and length.
const HEAD: usize = 7;

/// The one channel of a connection; the connection itself is 0.
const CHANNEL: u16 = 1;

/// Read at a time.
const BUFFER: usize = 64 * 1024;

/// Class and number of a method.
type Method = (u16, u16);

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);
const QOS: Method = (60, 10);
const QOS_OK: Method = (60, 11);
const CONSUME: Method = (60, 20);
const CONSUME_OK: Method = (60, 21);
const PUBLISH: Method = (60, 40);
const DELIVER: Method = (60, 60);
const ACK: Method = (60, 80);
const NACK: Method = (60, 120);
const CONFIRM: Method = (85, 10);
const CONFIRM_OK: Method = (85, 11);

/// A connection with an open channel.
pub(super) struct Connection {
    frames: Frames,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Connects as `guest`, who may from this machine.
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let mut it = Self { frames: Frames(BufReader::with_capacity(BUFFER, read)), write };
        it.write.write_all(b"AMQP\x00\x00\x09\x01").await?;
        it.answer(START).await?;
        // No properties of the client's.
        let mut start = vec![0; 4];
        put_short(&mut start, "PLAIN");
        put_long(&mut start, "\0guest\0guest");
        put_short(&mut start, "en_US");
        it.send(0, START_OK, &start).await?;
        let mut tune = it.answer(TUNE).await?;
        let (channels, frame_max) = (tune.try_get_u16()?, tune.try_get_u32()?);
        let mut tuned = Vec::new();
        tuned.put_u16(channels);
        tuned.put_u32(frame_max);
        // No heartbeats: on one machine a connection that breaks says so.
        tuned.put_u16(0);
        it.send(0, TUNE_OK, &tuned).await?;
        let mut host = Vec::new();
        put_short(&mut host, "/");
        host.put_slice(&[0, 0]);
        it.send(0, OPEN, &host).await?;
        it.answer(OPEN_OK).await?;
        it.send(CHANNEL, CHANNEL_OPEN, &[0]).await?;
        it.answer(CHANNEL_OPEN_OK).await?;
        Ok(it)
    }

    /// Makes a queue that is kept by a quorum of so many members.
    pub(super) async fn declare_quorum(&mut self, queue: &str, members: i32) -> anyhow::Result<()> {
        const DURABLE: u8 = 2;
        let mut table = Vec::new();
        put_short(&mut table, "x-queue-type");
        table.put_u8(b'S');
        put_long(&mut table, "quorum");
        put_short(&mut table, "x-quorum-initial-group-size");
        table.put_u8(b'I');
        table.put_i32(members);
        let mut declare = vec![0; 2];
        put_short(&mut declare, queue);
        declare.put_u8(DURABLE);
        declare.put_u32(u32::try_from(table.len())?);
        declare.put_slice(&table);
        self.send(CHANNEL, DECLARE, &declare).await?;
        self.answer(DECLARE_OK).await?;
        Ok(())
    }

    /// To publish to a queue, each message confirmed.
    pub(super) async fn into_publisher(mut self, queue: &str) -> anyhow::Result<Publisher> {
        self.send(CHANNEL, CONFIRM, &[0]).await?;
        self.answer(CONFIRM_OK).await?;
        let (commands, mut queued) = mpsc::unbounded_channel::<Vec<u8>>();
        let Self { frames, mut write } = self;
        tokio::spawn(async move {
            while let Some(mut command) = queued.recv().await {
                while let Ok(more) = queued.try_recv() {
                    command.extend_from_slice(&more);
                }
                if write.write_all(&command).await.is_err() {
                    return;
                }
            }
        });
        let unconfirmed = Unconfirmed::default();
        tokio::spawn(confirm_all(frames, unconfirmed.clone()));
        // To the default exchange, by the queue's name.
        let mut publish = vec![0; 3];
        put_short(&mut publish, queue);
        publish.put_u8(0);
        Ok(Publisher { commands, unconfirmed, publish })
    }

    /// To consume a queue, so many messages ahead.
    pub(super) async fn into_consumer(mut self, queue: &str, ahead: u16) -> anyhow::Result<Consumer> {
        let mut qos = vec![0; 4];
        qos.put_u16(ahead);
        qos.put_u8(0);
        self.send(CHANNEL, QOS, &qos).await?;
        self.answer(QOS_OK).await?;
        let mut consume = vec![0; 2];
        put_short(&mut consume, queue);
        // The server names the consumer; no flags, no arguments.
        consume.put_slice(&[0; 6]);
        self.send(CHANNEL, CONSUME, &consume).await?;
        self.answer(CONSUME_OK).await?;
        Ok(Consumer(self))
    }

    async fn send(&mut self, channel: u16, method: Method, arguments: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        put_method(&mut frame, channel, method, arguments)?;
        Ok(self.write.write_all(&frame).await?)
    }

    /// The arguments of the next method, which must be this one.
    async fn answer(&mut self, expected: Method) -> anyhow::Result<Bytes> {
        let (method, arguments) = self.frames.method().await?;
        ensure!(method == expected, "method {method:?}, expected {expected:?}");
        Ok(arguments)
    }
}

/// Publishes.
pub(super) struct Publisher {
    commands: mpsc::UnboundedSender<Vec<u8>>,
    unconfirmed: Unconfirmed,
    /// The arguments of the method.
    publish: Vec<u8>,
}

impl Publisher {
    /// Publishes a message that is kept on disk, and waits until the server confirms it.
    pub(super) async fn publish(&self, body: &[u8]) -> anyhow::Result<()> {
        /// Of a header: it has a delivery mode, and that is: on disk.
        const MODE_FLAG: u16 = 1 << 12;
        const PERSISTENT: u8 = 2;
        let mut command = Vec::with_capacity(body.len() + 100);
        put_method(&mut command, CHANNEL, PUBLISH, &self.publish)?;
        let mut header = Vec::with_capacity(15);
        header.put_u16(PUBLISH.0);
        header.put_u16(0);
        header.put_u64(body.len() as u64);
        header.put_u16(MODE_FLAG);
        header.put_u8(PERSISTENT);
        put_frame(&mut command, HEADER, CHANNEL, &header)?;
        put_frame(&mut command, BODY, CHANNEL, body)?;
        let (sender, confirmed) = oneshot::channel();
        {
            let mut waiting = self.unconfirmed.lock();
            // Under the lock, as the server counts what arrives.
            self.commands.send(command)?;
            waiting.last += 1;
            let number = waiting.last;
            waiting.senders.insert(number, sender);
        }
        ensure!(confirmed.await.context("the connection has ended")?, "the server does not take it");
        Ok(())
    }
}

/// Those who wait for a confirm, by the number that the server gives to what they published.
#[derive(Clone, Default)]
struct Unconfirmed(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    last: u64,
    senders: BTreeMap<u64, oneshot::Sender<bool>>,
}

impl Unconfirmed {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is taken, for this number, or for all up to it.
    fn confirm(&self, number: u64, all: bool, taken: bool) {
        let mut waiting = self.lock();
        if all {
            let later = waiting.senders.split_off(&(number + 1));
            for sender in std::mem::replace(&mut waiting.senders, later).into_values() {
                let _gone = sender.send(taken);
            }
        } else if let Some(sender) = waiting.senders.remove(&number) {
            let _gone = sender.send(taken);
        }
    }
}

/// Until the connection ends; who waits then is told.
async fn confirm_all(mut frames: Frames, unconfirmed: Unconfirmed) -> anyhow::Result<()> {
    let ended = loop {
        match frames.method().await {
            Ok((method @ (ACK | NACK), mut arguments)) => {
                let (number, flags) = (arguments.try_get_u64()?, arguments.try_get_u8()?);
                unconfirmed.confirm(number, flags & 1 == 1, method == ACK);
            }
            Ok((other, _)) => break anyhow::anyhow!("method {other:?} to a publisher"),
            Err(error) => break error,
        }
    };
    unconfirmed.lock().senders.clear();
    Err(ended)
}

/// Consumes.
pub(super) struct Consumer(Connection);

impl Consumer {
    /// The next message and its number.
    pub(super) async fn next(&mut self) -> anyhow::Result<(u64, Bytes)> {
        let mut deliver = self.0.answer(DELIVER).await?;
        let consumer = usize::from(deliver.try_get_u8()?);
        ensure!(deliver.len() > consumer, "a delivery ends within its consumer's name");
        deliver.advance(consumer);
        let number = deliver.try_get_u64()?;
        let (kind, mut header) = self.0.frames.next().await?;
        ensure!(kind == HEADER, "frame {kind} in place of a header");
        // Class and weight are before the length.
        header.try_get_u32()?;
        let length = header.try_get_u64()?;
        let (kind, body) = self.0.frames.next().await?;
        ensure!(kind == BODY && body.len() as u64 == length, "a body of {length} bytes is not one frame");
        Ok((number, body))
    }

    /// Whether nothing more has arrived.
    pub(super) fn has_all(&self) -> bool {
        self.0.frames.are_empty()
    }

    /// Settles all messages up to this one.
    pub(super) async fn settle(&mut self, number: u64) -> anyhow::Result<()> {
        const MULTIPLE: u8 = 1;
        let mut ack = Vec::with_capacity(9);
        ack.put_u64(number);
        ack.put_u8(MULTIPLE);
        self.0.send(CHANNEL, ACK, &ack).await
    }
}

/// What the server says.
struct Frames(BufReader<OwnedReadHalf>);

impl Frames {
    /// A frame's kind and payload.
    async fn next(&mut self) -> anyhow::Result<(u8, Bytes)> {
        const HEARTBEAT: u8 = 8;
        loop {
            let mut head = [0; HEAD];
            self.0.read_exact(&mut head).await?;
            let mut payload = vec![0; length(head) + 1];
            self.0.read_exact(&mut payload).await?;
            ensure!(payload.pop() == Some(END), "a frame does not end where it should");
            if head[0] != HEARTBEAT {
                return Ok((head[0], payload.into()));
            }
        }
    }

    /// A method and its arguments; an error if it is that the server closes.
    async fn method(&mut self) -> anyhow::Result<(Method, Bytes)> {
        let (kind, mut payload) = self.next().await?;
        ensure!(kind == METHOD, "frame {kind} in place of a method");
        let method = (payload.try_get_u16()?, payload.try_get_u16()?);
        if method == CONNECTION_CLOSE || method == CHANNEL_CLOSE {
            let code = payload.try_get_u16()?;
            let words = usize::from(payload.try_get_u8()?).min(payload.len());
            bail!("the server closes: {code} {}", String::from_utf8_lossy(&payload.slice(..words)));
        }
        Ok((method, payload))
    }

    /// Whether no whole frame waits.
    fn are_empty(&self) -> bool {
        let waiting = self.0.buffer();
        waiting.first_chunk().is_none_or(|head| waiting.len() <= HEAD + length(*head))
    }
}

/// Of the payload, by the frame's head.
fn length(head: [u8; HEAD]) -> usize {
    let [_, _, _, length @ ..] = head;
    u32::from_be_bytes(length) as usize
}

fn put_method(to: &mut Vec<u8>, channel: u16, method: Method, arguments: &[u8]) -> anyhow::Result<()> {
    let mut payload = Vec::with_capacity(arguments.len() + 4);
    payload.put_u16(method.0);
    payload.put_u16(method.1);
    payload.put_slice(arguments);
    put_frame(to, METHOD, channel, &payload)
}

fn put_frame(to: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
    to.put_u8(kind);
    to.put_u16(channel);
    to.put_u32(u32::try_from(payload.len())?);
    to.put_slice(payload);
    to.put_u8(END);
    Ok(())
}

/// A string of fewer than 256 bytes, all that are used are.
fn put_short(to: &mut Vec<u8>, text: &str) {
    to.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.put_slice(text.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(text.as_bytes()));
}

/// A longer one.
fn put_long(to: &mut Vec<u8>, text: &str) {
    to.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    to.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirm_is_for_one_number_or_for_all_up_to_it() {
        let unconfirmed = Unconfirmed::default();
        let mut waiters = Vec::new();
        for number in 1..=4 {
            let (sender, waiter) = oneshot::channel();
            unconfirmed.lock().senders.insert(number, sender);
            waiters.push(waiter);
        }
        unconfirmed.confirm(2, false, false);
        unconfirmed.confirm(3, true, true);
        let told: Vec<Option<bool>> = waiters.iter_mut().map(|it| it.try_recv().ok()).collect();
        assert_eq!(told, [Some(true), Some(false), Some(true), None]);
    }
}

//! Redis: a stream on one server, which syncs before it answers (`appendfsync always`). There is no majority here, so its promise is the weaker one;
//! replicas that are waited for until they have synced came with 7.2. A consumer reads as a member of a group and acknowledges all of what it has read
//! at once.

use super::Broker;
use crate::process::Process;
use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use std::{collections::VecDeque, net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

const PORT: u16 = 26905;

/// Connections that publish, and that consume.
const PUBLISHERS: usize = 4;
const CONSUMERS: usize = 2;

/// Messages that are read at a time.
const BATCH: &str = "256";

/// Read at a time, in bytes.
const BUFFER: usize = 64 * 1024;

/// What waits for its answer, in the order of the commands.
type Asked = (Vec<u8>, oneshot::Sender<Value>);

pub(super) struct Redis {
    publishers: Vec<mpsc::UnboundedSender<Asked>>,
}

pub(super) async fn start(folder: &Path) -> anyhow::Result<(Arc<Redis>, Vec<Process>)> {
    let (port, data) = (PORT.to_string(), folder.to_string_lossy().into_owned());
    let words = [
        ("--bind", "127.0.0.1"),
        ("--port", &port),
        ("--dir", &data),
        ("--save", ""),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        // Its file is not written anew meanwhile.
        ("--auto-aof-rewrite-percentage", "0"),
    ];
    let words: Vec<&str> = words.into_iter().flat_map(|(flag, value)| [flag, value]).collect();
    let mut redis = Process::start(Path::new("redis-server"), &words, None, &folder.join("redis.log"))?;
    redis.listening(SocketAddr::from(([127, 0, 0, 1], PORT)))?;
    let (mut answers, mut write) = connect().await?;
    write.write_all(&command(&[b"XGROUP", b"CREATE", b"b", b"g", b"0", b"MKSTREAM"])).await?;
    answers.next().await?.checked()?;
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(pipeline().await?);
    }
    Ok((Arc::new(Redis { publishers }), vec![redis]))
}

async fn connect() -> anyhow::Result<(Answers, OwnedWriteHalf)> {
    let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Answers { read, buffer: BytesMut::with_capacity(BUFFER) }, write))
}

/// A connection for commands that do not wait for each other.
async fn pipeline() -> anyhow::Result<mpsc::UnboundedSender<Asked>> {
    let (mut answers, mut write) = connect().await?;
    let (commands, mut queued) = mpsc::unbounded_channel::<Asked>();
    let (waiting, mut waiters) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((mut command, waiter)) = queued.recv().await {
            waiting.send(waiter)?;
            while let Ok((more, waiter)) = queued.try_recv() {
                command.extend_from_slice(&more);
                waiting.send(waiter)?;
            }
            write.write_all(&command).await?;
        }
        anyhow::Ok(())
    });
    tokio::spawn(async move {
        while let Some(waiter) = waiters.recv().await {
            let _gone = waiter.send(answers.next().await?);
        }
        anyhow::Ok(())
    });
    Ok(commands)
}

impl Broker for Redis {
    async fn publish(&self, lane: usize, body: Bytes) -> anyhow::Result<()> {
        let (waiter, answer) = oneshot::channel();
        let add = command(&[b"XADD", b"b", b"*", b"m", &body]);
        self.publishers[lane % self.publishers.len()].send((add, waiter))?;
        answer.await.context("the connection has ended")?.checked()?;
        Ok(())
    }

    async fn consume(self: &Arc<Self>, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        for n in 0..CONSUMERS {
            let (answers, write) = connect().await?;
            tokio::spawn(handle_all(format!("c{n}"), answers, write, handled.clone()));
        }
        Ok(())
    }
}

/// Until the connection ends, or nobody counts any more.
async fn handle_all(
    consumer: String,
    mut answers: Answers,
    mut write: OwnedWriteHalf,
    handled: mpsc::UnboundedSender<Bytes>,
) -> anyhow::Result<()> {
    let read: [&[u8]; 11] = [
        b"XREADGROUP",
        b"GROUP",
        b"g",
        consumer.as_bytes(),
        b"COUNT",
        BATCH.as_bytes(),
        b"BLOCK",
        b"0",
        b"STREAMS",
        b"b",
        b">",
    ];
    let read = command(&read);
    write.write_all(&read).await?;
    loop {
        let messages = messages(answers.next().await?.checked()?)?;
        let mut acknowledge: Vec<&[u8]> = vec![b"XACK", b"b", b"g"];
        acknowledge.extend(messages.iter().map(|(id, _)| id.as_ref()));
        let mut both = command(&acknowledge);
        // It reads on, without waiting for the answer to the first.
        both.extend_from_slice(&read);
        write.write_all(&both).await?;
        let is_idle = |body: &Bytes| body.first() == Some(&b'i');
        for (_, body) in messages.iter().filter(|(_, body)| is_idle(body)) {
            handled.send(body.clone())?;
        }
        answers.next().await?.checked()?;
        for (_, body) in messages.into_iter().filter(|(_, body)| !is_idle(body)) {
            handled.send(body)?;
        }
    }
}

/// The id and body of each: `[[stream, [[id, [field, body]], …]]]`.
fn messages(read: Value) -> anyhow::Result<VecDeque<(Bytes, Bytes)>> {
    let stream = read.array()?.pop().context("a stream")?;
    let entries = stream.array()?.pop().context("its entries")?.array()?;
    let mut found = VecDeque::with_capacity(entries.len());
    for entry in entries {
        let mut entry = entry.array()?;
        let body = entry.pop().context("an entry's fields")?.array()?.pop().context("a field's value")?;
        found.push_back((entry.pop().context("an entry's id")?.text()?, body.text()?));
    }
    Ok(found)
}

/// In RESP: an array of strings.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        text.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        text.extend_from_slice(word);
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// An answer in RESP 2.
#[derive(Debug)]
enum Value {
    /// A string of either kind.
    Text(Bytes),
    Integer,
    Error(String),
    Null,
    Array(Vec<Value>),
}

impl Value {
    fn checked(self) -> anyhow::Result<Self> {
        match self {
            Self::Error(text) => bail!("Redis: {text}"),
            other => Ok(other),
        }
    }

    fn array(self) -> anyhow::Result<Vec<Self>> {
        match self {
            Self::Array(values) => Ok(values),
            other => bail!("{other:?} in place of an array"),
        }
    }

    fn text(self) -> anyhow::Result<Bytes> {
        match self {
            Self::Text(text) => Ok(text),
            other => bail!("{other:?} in place of a string"),
        }
    }
}

/// What the server says.
struct Answers {
    read: OwnedReadHalf,
    buffer: BytesMut,
}

impl Answers {
    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let mut rest = &self.buffer[..];
            if let Some(value) = parse(&mut rest)? {
                let used = self.buffer.len() - rest.len();
                self.buffer.advance(used);
                return Ok(value);
            }
            self.buffer.reserve(BUFFER);
            ensure!(self.read.read_buf(&mut self.buffer).await? > 0, "Redis has closed");
        }
    }
}

/// The value that `text` begins with, which is then behind it; none if it is not whole.
fn parse(text: &mut &[u8]) -> anyhow::Result<Option<Value>> {
    let Some(end) = text.windows(2).position(|it| it == b"\r\n") else { return Ok(None) };
    let (line, rest) = text.split_at(end);
    *text = rest.get(2..).unwrap_or_default();
    let line = std::str::from_utf8(line)?;
    let (kind, line) = line.split_at_checked(1).context("an answer's kind")?;
    Ok(Some(match kind {
        "+" => Value::Text(Bytes::copy_from_slice(line.as_bytes())),
        "-" => Value::Error(line.to_owned()),
        ":" => Value::Integer,
        "$" | "*" if line == "-1" => Value::Null,
        "$" => {
            let length: usize = line.parse()?;
            let Some(whole) = text.get(..length + 2) else { return Ok(None) };
            let body = Bytes::copy_from_slice(whole.get(..length).unwrap_or_default());
            *text = text.get(length + 2..).unwrap_or_default();
            Value::Text(body)
        }
        "*" => {
            let mut values = Vec::new();
            for _ in 0..line.parse::<usize>()? {
                let Some(value) = parse(text)? else { return Ok(None) };
                values.push(value);
            }
            Value::Array(values)
        }
        other => bail!("{other:?} is no kind of answer"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_parsed_when_it_is_whole() {
        let whole: &[u8] =
            b"*1\r\n*2\r\n$1\r\nb\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nm\r\n$4\r\nx\r\ny\r\n:1\r\n";
        let first = whole.len() - b":1\r\n".len();
        for end in 0..first {
            assert!(parse(&mut &whole[..end]).unwrap().is_none(), "of {end} bytes");
        }
        let mut rest = whole;
        let read = messages(parse(&mut rest).unwrap().unwrap()).unwrap();
        assert_eq!(read, [(Bytes::from("1-0"), Bytes::from("x\r\ny"))]);
        assert!(matches!(parse(&mut rest), Ok(Some(Value::Integer))));
        assert!(rest.is_empty());
    }
}

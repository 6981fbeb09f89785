//! Queues beside their peers, three processes each on this machine: messages of 1 KB that are published, acknowledged on disk on a majority; published,
//! handed out and settled; and the time from a publish to its handler when nothing else goes on.

mod amqp;
mod copal;
mod due;
mod etcd;
mod failover;
mod nats;
mod push;
mod rabbitmq;
mod redis;
mod stock;

use crate::{
    median,
    process::{NotInstalled, Process},
    say,
};
use anyhow::ensure;
use bytes::Bytes;
use clap::ValueEnum;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Of a message's body.
const BYTES: usize = 1024;

/// Publishes that are under way beside those who settle.
const BESIDE: usize = 128;

/// Nothing may take longer.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The folder of the peers' configurations
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Runs; the table shows their median
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds a run
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Publishes under way
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Measures these alone
    #[arg(long, value_delimiter = ',', default_values = ["copal", "nats", "rabbitmq", "redis", "etcd"])]
    only: Vec<Name>,
    /// The binary of NATS; `nats-always` needs 2.10 or later
    #[arg(long, default_value = "nats-server")]
    nats: PathBuf,
    /// The folder of RabbitMQ's own scripts, which let anyone start it; where Debian has it by default
    #[arg(long, default_value = "/usr/lib/rabbitmq/bin")]
    rabbitmq: PathBuf,
    /// Of copal alone, and no others: `batch`, `push`, `stock`, `jobs`, `failover`
    #[arg(long, value_delimiter = ',')]
    alone: Vec<String>,
    /// Messages of `stock`
    #[arg(long, default_value_t = 500_000)]
    messages: usize,
    /// Jobs of `jobs`
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// Data is kept under this folder, which decides which disk is synced
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Copal,
    Nats,
    /// NATS, which syncs each message before it answers
    NatsAlways,
    Rabbitmq,
    Redis,
    Etcd,
}

/// A broker to measure.
pub(super) trait Broker: Send + Sync + 'static {
    /// Whether it hands out what was published.
    const CONSUMED: bool = true;

    /// Publishes a message; it is on disk on a majority when this returns. `lane`: of concurrent calls each has another.
    fn publish(&self, lane: usize, body: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Consumes: the body of each message is sent, and then the message is settled.
    fn consume(
        self: &Arc<Self>,
        handled: mpsc::UnboundedSender<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if !arguments.alone.is_empty() {
        return runtime.block_on(alone(arguments));
    }
    say(&format!(
        "| broker | published/s, {} in flight | published, handled and settled/s | idle: publish to handler, p50 | p99 |",
        arguments.in_flight
    ));
    say("|---|---|---|---|---|");
    for name in &arguments.only {
        let shown = name.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
        match runtime.block_on(runs(arguments, *name)) {
            Ok(runs) => say(&row(&shown, &runs)),
            Err(error) if error.is::<NotInstalled>() && !matches!(name, Name::Copal) => {
                say(&format!("| {shown} | left out: {error} | - | - | - |"));
            }
            Err(error) => return Err(error.context(shown)),
        }
    }
    Ok(())
}

/// The middle of each figure; `-` for one that there is not.
fn row(name: &str, runs: &[Figures]) -> String {
    let published = median(runs.iter().map(|it| it.published).collect());
    let of = |which: fn(&Consumed) -> f64| {
        median(runs.iter().filter_map(|it| it.consumed.as_ref()).map(which).collect())
    };
    let (handled, p50, p99) = (of(|it| it.handled), of(|it| it.p50_ms), of(|it| it.p99_ms));
    if handled.is_nan() {
        return format!("| {name} | {published:.0} | - | - | - |");
    }
    format!("| {name} | {published:.0} | {handled:.0} | {p50:.2} ms | {p99:.2} ms |")
}

async fn runs(arguments: &Arguments, name: Name) -> anyhow::Result<Vec<Figures>> {
    let mut runs = Vec::new();
    for _ in 0..arguments.runs {
        let folder = tempfile::tempdir_in(&arguments.folder)?;
        runs.push(measured(arguments, name, folder.path()).await?);
    }
    Ok(runs)
}

/// One run.
async fn measured(arguments: &Arguments, name: Name, folder: &Path) -> anyhow::Result<Figures> {
    match name {
        Name::Copal => measure(arguments, copal::start(arguments, folder).await?).await,
        Name::Nats => measure(arguments, nats::start(&arguments.nats, "", folder).await?).await,
        Name::NatsAlways => measure(arguments, nats::start_synced(&arguments.nats, folder).await?).await,
        Name::Rabbitmq => measure(arguments, rabbitmq::start(&arguments.rabbitmq, folder).await?).await,
        Name::Redis => measure(arguments, redis::start(folder).await?).await,
        Name::Etcd => measure(arguments, etcd::start(folder).await?).await,
    }
}

/// What is measured of copal alone, a line each.
async fn alone(arguments: &Arguments) -> anyhow::Result<()> {
    for what in &arguments.alone {
        let mut lines = Vec::new();
        for _ in 0..arguments.runs {
            let folder = tempfile::tempdir_in(&arguments.folder)?;
            lines.push(match what.as_str() {
                "batch" => copal::batches(arguments, folder.path()).await?,
                "push" => push::measure(arguments, folder.path()).await?,
                "stock" => stock::measure(arguments, folder.path()).await?,
                "failover" => failover::measure(arguments, folder.path()).await?,
                "jobs" => due::measure(arguments, folder.path()).await?,
                other => anyhow::bail!("--alone {other}: expected batch, push, stock, jobs or failover"),
            });
        }
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (figure, text) in lines {
            say(&format!("{what}: {figure:.2} {text}"));
        }
    }
    Ok(())
}

struct Figures {
    published: f64,
    consumed: Option<Consumed>,
}

/// What there is of those that hand out messages.
struct Consumed {
    handled: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// The processes are ended when it is done.
async fn measure<B: Broker>(
    arguments: &Arguments,
    (broker, _processes): (Arc<B>, Vec<Process>),
) -> anyhow::Result<Figures> {
    let time = Duration::from_secs(arguments.seconds);
    publish(&broker, arguments.in_flight, Duration::from_secs(1)).await?;
    let published = publish(&broker, arguments.in_flight, time).await?;
    if !B::CONSUMED {
        return Ok(Figures { published, consumed: None });
    }
    // Those that were published are handled first, and are none of what is counted.
    let (sender, mut handled) = mpsc::unbounded_channel();
    broker.consume(sender).await?;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(2), handled.recv()).await {}
    let (p50_ms, p99_ms) = idle(&broker, &mut handled).await?;
    let handled = both(&broker, &mut handled, time).await?;
    Ok(Figures { published, consumed: Some(Consumed { handled, p50_ms, p99_ms }) })
}

/// Publishes a second.
async fn publish<B: Broker>(broker: &Arc<B>, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut publishers = JoinSet::new();
    for lane in 0..in_flight {
        let broker = broker.clone();
        publishers.spawn(async move {
            let body = Bytes::from(vec![b'm'; BYTES]);
            let mut count = 0_u64;
            while start.elapsed() < time {
                tokio::time::timeout(DEADLINE, broker.publish(lane, body.clone())).await??;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(publisher) = publishers.join_next().await {
        count += publisher??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Messages a second that are published, handled and settled.
async fn both<B: Broker>(
    broker: &Arc<B>,
    handled: &mut mpsc::UnboundedReceiver<Bytes>,
    time: Duration,
) -> anyhow::Result<f64> {
    let (stop, ahead) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut publishers = JoinSet::new();
    for lane in 0..BESIDE {
        let (broker, stop, ahead) = (broker.clone(), stop.clone(), ahead.clone());
        publishers.spawn(async move {
            let body = Bytes::from(vec![b'm'; BYTES]);
            while !stop.load(Ordering::Relaxed) {
                // No queue grows: who publishes waits for who handles.
                if ahead.load(Ordering::Relaxed) > 10 * BESIDE as u64 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                tokio::time::timeout(DEADLINE, broker.publish(lane, body.clone())).await??;
                ahead.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        let next = tokio::time::timeout(DEADLINE, handled.recv()).await?;
        ensure!(next.is_some(), "its consumer has ended");
        // It may be handled before its publish is answered.
        let _ahead = ahead.try_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(it.saturating_sub(1)));
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(publisher) = publishers.join_next().await {
        publisher??;
    }
    Ok(rate)
}

/// From a publish's begin to its handler's, in milliseconds: the middle, and the 99th of 100.
async fn idle<B: Broker>(
    broker: &Arc<B>,
    handled: &mut mpsc::UnboundedReceiver<Bytes>,
) -> anyhow::Result<(f64, f64)> {
    let mut took = Vec::new();
    let body = Bytes::from(vec![b'i'; BYTES]);
    for _ in 0..300 {
        let began = Instant::now();
        let (published, next) =
            tokio::join!(broker.publish(0, body.clone()), tokio::time::timeout(DEADLINE, handled.recv()));
        published?;
        ensure!(next?.is_some(), "its consumer has ended");
        took.push(began.elapsed().as_secs_f64() * 1e3);
        // Until it is settled.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or(f64::NAN);
    Ok((at(50), at(99)))
}

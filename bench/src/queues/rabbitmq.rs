//! RabbitMQ: a quorum queue of three nodes, which confirm a message when it is synced on a majority. Its settings are those that made it fastest:
//! some connections to the node that leads the queue, and acknowledgements of all that has arrived at once. A consumer's acknowledgement is
//! not answered, so a message counts as settled when that is sent; the server lets no consumer go further ahead than `AHEAD`.

use super::{
    Broker,
    amqp::{Connection, Consumer, Publisher},
};
use crate::process::{NotInstalled, Process};
use anyhow::ensure;
use bytes::Bytes;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use tokio::sync::mpsc;

const QUEUE: &str = "bench";
const NODES: u16 = 3;

/// The first node's; it declares the queue, and so leads it.
const CLIENT_PORT: u16 = 26940;
const NODE_PORT: u16 = 26950;

/// Where the nodes find each other.
const NAMES_PORT: u16 = 26959;

/// Connections that publish, and that consume.
const PUBLISHERS: usize = 4;
const CONSUMERS: usize = 2;

/// Messages that a consumer is sent before it settles any.
const AHEAD: u16 = 512;

pub(super) struct RabbitMq {
    publishers: Vec<Publisher>,
}

/// `scripts`: the folder of its own scripts.
pub(super) async fn start(scripts: &Path, folder: &Path) -> anyhow::Result<(Arc<RabbitMq>, Vec<Process>)> {
    let script = scripts.join("rabbitmq-server");
    ensure!(script.exists(), NotInstalled(script.display().to_string()));
    let folder = folder.canonicalize()?;
    let cookie = folder.join(".erlang.cookie");
    fs::write(&cookie, "bench")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    let plugins = folder.join("plugins");
    fs::write(&plugins, "[].")?;
    fs::write(folder.join("environment"), "")?;
    let common = common(&folder);
    let port = NAMES_PORT.to_string();
    let words = ["-port", &port, "-address", "127.0.0.1"];
    let log = folder.join("names.log");
    let mut processes = vec![Process::start_with_variables(Path::new("epmd"), &words, &common, &log)?];
    for n in 0..NODES {
        let base = folder.join(format!("rabbitmq-{n}"));
        fs::create_dir(&base)?;
        let (base, file) = (base.display(), folder.join(format!("rabbitmq-{n}.conf")));
        fs::write(&file, configuration(n))?;
        let mut variables = common.clone();
        variables.extend([
            ("RABBITMQ_NODENAME", name(n)),
            ("RABBITMQ_DIST_PORT", (NODE_PORT + n).to_string()),
            ("RABBITMQ_MNESIA_BASE", base.to_string()),
            ("RABBITMQ_LOG_BASE", base.to_string()),
            ("RABBITMQ_PID_FILE", format!("{base}/pid")),
            ("RABBITMQ_CONFIG_FILE", file.display().to_string()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.display().to_string()),
        ]);
        let log = folder.join(format!("rabbitmq-{n}.log"));
        processes.push(Process::start_with_variables(&script, &[], &variables, &log)?);
    }
    for (n, process) in (0..).zip(processes.iter_mut().skip(1)) {
        process.listening(address(n))?;
    }
    ensure_joined(&scripts.join("rabbitmqctl"), &common)?;
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        let mut connection = Connection::open(address(0)).await?;
        connection.declare_quorum(QUEUE, i32::from(NODES)).await?;
        publishers.push(connection.into_publisher(QUEUE).await?);
    }
    Ok((Arc::new(RabbitMq { publishers }), processes))
}

/// Variables of all nodes: nothing is read or written outside of the folder, and no other machine reaches them.
fn common(folder: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_PORT", NAMES_PORT.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", folder.join("environment").display().to_string()),
        // So the script becomes the node, which ends by its id, and does not wait beside it.
        ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ("RABBITMQ_SERVER_START_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
    ]
}

fn configuration(n: u16) -> String {
    let mut text = format!(
        "listeners.tcp.1 = {}\ncluster_formation.peer_discovery_backend = classic_config\n",
        address(n)
    );
    for peer in 0..NODES {
        text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", peer + 1, name(peer)));
    }
    text
}

fn name(n: u16) -> String {
    format!("bench-{n}@localhost")
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], CLIENT_PORT + n))
}

/// A queue gets those members that are there when it is declared.
fn ensure_joined(control: &Path, variables: &[(&str, String)]) -> anyhow::Result<()> {
    let mut command = Command::new(control);
    command.args(["-n", &name(0), "--quiet", "await_online_nodes", &NODES.to_string()]);
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "not {NODES} nodes: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Broker for RabbitMq {
    async fn publish(&self, lane: usize, body: Bytes) -> anyhow::Result<()> {
        self.publishers[lane % self.publishers.len()].publish(&body).await
    }

    async fn consume(self: &Arc<Self>, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        for _ in 0..CONSUMERS {
            let connection = Connection::open(address(0)).await?;
            let consumer = connection.into_consumer(QUEUE, AHEAD).await?;
            tokio::spawn(handle_all(consumer, handled.clone()));
        }
        Ok(())
    }
}

/// Until the connection ends, or nobody counts any more.
async fn handle_all(mut consumer: Consumer, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
    let mut unsettled = Vec::new();
    loop {
        let (number, body) = consumer.next().await?;
        if body.first() == Some(&b'i') {
            handled.send(body)?;
        } else {
            unsettled.push(body);
        }
        if consumer.has_all() {
            consumer.settle(number).await?;
            for body in unsettled.drain(..) {
                handled.send(body)?;
            }
        }
    }
}

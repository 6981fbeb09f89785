//! The demo's cluster with a process a server, so that a user can kill one.

use super::{Demo, SERVERS, print_what_to_try};
use crate::{check::say, cli::DemoArguments, signals::Stops};
use anyhow::{Context, bail};
use std::{collections::HashMap, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

/// How long the servers may take to stop before they are killed: more than their own `shutdown-wait-max`.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A server's process, and the pipe that tells it when this process is gone.
struct Process {
    child: Child,
    pid: u32,
}

/// What a watcher of one process tells.
enum News {
    Line(&'static str, String),
    Quiet(&'static str),
}

pub(super) fn run(demo: &Demo, arguments: &DemoArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stops = Stops::listen()?;
        let (sender, mut news) = mpsc::channel(64);
        let mut processes = HashMap::new();
        for id in SERVERS {
            processes.insert(id, spawn(demo, arguments, id, &sender)?);
        }
        let ended = tokio::select! {
            ended = supervise(demo, arguments, &mut processes, &sender, &mut news) => ended,
            () = stops.next() => Ok(()),
        };
        tokio::select! {
            () = down(&mut processes) => ended,
            () = stops.next() => bail!("stopped at once by a second signal"),
        }
    })
}

fn spawn(
    demo: &Demo,
    arguments: &DemoArguments,
    id: &'static str,
    news: &mpsc::Sender<News>,
) -> anyhow::Result<Process> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("start")
        .arg("--conf")
        .arg(&demo.file)
        .args(["--server", id, "--stop-with-stdin", "--port-offset", &arguments.port_offset.to_string()])
        .arg("--log-file")
        .arg(demo.folder.join(format!("{id}.log")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C in a terminal reaches this process alone, which stops the others in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("server {id} can't be started"))?;
    let pid = child.id().unwrap_or_default();
    let stdout = child.stdout.take().context("a piped stdout")?;
    let news = news.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = news.send(News::Line(id, line)).await;
        }
        let _ = news.send(News::Quiet(id)).await;
    });
    Ok(Process { child, pid })
}

/// Prints what the servers print until one fails before all are ready. Afterwards a server may come and go.
async fn supervise(
    demo: &Demo,
    arguments: &DemoArguments,
    processes: &mut HashMap<&'static str, Process>,
    sender: &mpsc::Sender<News>,
    news: &mut mpsc::Receiver<News>,
) -> anyhow::Result<()> {
    let mut ready = false;
    let mut lines: HashMap<&str, Vec<String>> = HashMap::new();
    while let Some(said) = news.recv().await {
        match said {
            News::Line(id, line) if ready => say(&format!("{line}  (pid {})", pid(processes, id))),
            News::Line(id, line) => {
                lines.entry(id).or_default().push(line);
                if SERVERS.iter().all(|id| lines.contains_key(id)) {
                    ready = true;
                    for id in SERVERS {
                        let first =
                            lines.get(id).and_then(|lines| lines.first()).cloned().unwrap_or_default();
                        say(&format!("{first}  (pid {})", pid(processes, id)));
                    }
                    print_what_to_try(demo, true);
                }
            }
            News::Quiet(id) => {
                let Some(mut process) = processes.remove(id) else { continue };
                let status = process.child.wait().await?;
                if !ready {
                    bail!(
                        "server {id} could not start ({status}): see above and {}",
                        demo.folder.join(format!("{id}.log")).display()
                    );
                }
                say(&format!("{id}  stopped: {status}"));
                if arguments.restart {
                    processes.insert(id, spawn(demo, arguments, id, sender)?);
                } else {
                    say(&format!("{id}  start it again with: {}", start_command(demo, arguments, id)?));
                }
            }
        }
    }
    Ok(())
}

fn pid(processes: &HashMap<&'static str, Process>, id: &str) -> u32 {
    processes.get(id).map(|process| process.pid).unwrap_or_default()
}

fn start_command(demo: &Demo, arguments: &DemoArguments, id: &str) -> anyhow::Result<String> {
    let offset = match arguments.port_offset {
        0 => String::new(),
        offset => format!(" --port-offset {offset}"),
    };
    let this = std::env::current_exe()?;
    Ok(format!("{} start --conf {} --server {id}{offset}", this.display(), demo.file.display()))
}

/// Stops the web-tier first and the hub's servers last, each by closing its standard input.
async fn down(processes: &mut HashMap<&'static str, Process>) {
    let stopping = async {
        for id in SERVERS.iter().rev() {
            if let Some(process) = processes.get_mut(id) {
                drop(process.child.stdin.take());
                let _ = process.child.wait().await;
            }
        }
    };
    // Past the time they are killed by `kill_on_drop`.
    let _ = tokio::time::timeout(STOP_MAX, stopping).await;
}

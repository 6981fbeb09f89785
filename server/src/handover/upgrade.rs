//! The running process's part of an upgrade: starts the program anew, hands over, and says why when that fails.

use super::{
    Message,
    channel::{Channel, DESCRIPTORS_MAX},
};
use crate::server::RunningServer;
use anyhow::{Context, anyhow, bail};
use rustix::process::Signal;
use std::{
    ffi::OsString,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};
use tokio::task::spawn_blocking;

/// How long either process waits for the next word of the other. A new one that takes longer to start is given up.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// The option of the new process.
pub(crate) const TAKE_OVER: &str = "--take-over";

/// What is handed over, in the order in which it is sent.
pub(crate) type Handed = Vec<(Message, Vec<OwnedFd>)>;

/// A new process that is not the server yet: killed when dropped.
#[derive(Debug)]
struct Successor(Option<Child>);

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // One that has ended by itself can't be killed: that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Successor {
    /// Ends it, if it has not ended by itself; a word for the log.
    fn end(&mut self) -> String {
        let Some(mut child) = self.0.take() else { return String::new() };
        // One that has ended has its status all the same.
        let _ = child.kill();
        match child.wait() {
            Ok(status) if status.signal() != Some(Signal::KILL.as_raw()) => {
                format!("the new process ended with {status}, and has said why itself")
            }
            _ => "the new process was ended".to_owned(),
        }
    }
}

/// Starts the program that this process was started by, as it is on the disk now, and hands `server` over to it. Returns the new
/// process's id: it serves, is a member of the cluster, and waits for `confirm` alone. `parent`: both processes are to stop when this ends.
///
/// # Errors
/// This server can't be handed over, or the new process does not start: this one goes on as before.
pub(crate) async fn hand_over(
    server: &mut RunningServer,
    parent: Option<&File>,
    confirm: impl FnOnce(u32),
) -> anyhow::Result<u32> {
    let mut handed = server.handed().await?;
    if let Some(parent) = parent {
        handed.insert(0, (Message::Parent, vec![parent.try_clone()?.into()]));
    }
    handed.push((Message::End, Vec::new()));
    let (channel, theirs) = Channel::pair(WAIT)?;
    let channel = Arc::new(channel);
    let mut successor = start(theirs)?;
    let pid = successor.0.as_ref().map_or(0, Child::id);
    let started = step(&channel, move |channel| {
        for (message, descriptors) in &handed {
            send_all(channel, message, descriptors)?;
        }
        channel.expect(&Message::Serves)
    });
    if let Err(cause) = started.await {
        let end = successor.end();
        return Err(cause.context(end));
    }
    server.leave_members();
    let joined = step(&channel, |channel| {
        channel.send(&Message::Join, &[])?;
        channel.expect(&Message::Ready)
    });
    if let Err(cause) = joined.await {
        server.join_members();
        let end = successor.end();
        return Err(cause.context(end));
    }
    confirm(pid);
    // From here on it is the server; one that has ended this very instant is the service manager's to start.
    successor.0 = None;
    if let Err(cause) = step(&channel, |channel| channel.send(&Message::TakeOver, &[])).await {
        tracing::warn!(%cause, "the new process was not told that it is the server");
    }
    Ok(pid)
}

/// One exchange with the other process, on a thread that may block.
async fn step(
    channel: &Arc<Channel>,
    exchange: impl FnOnce(&Channel) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let channel = channel.clone();
    spawn_blocking(move || exchange(&channel)).await?
}

fn send_all(channel: &Channel, message: &Message, descriptors: &[OwnedFd]) -> anyhow::Result<()> {
    if descriptors.is_empty() {
        return channel.send(message, &[]);
    }
    for part in descriptors.chunks(DESCRIPTORS_MAX) {
        let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
        channel.send(message, &part)?;
    }
    Ok(())
}

/// By the name that this process was started by: what is there now may be another version.
fn start(channel: OwnedFd) -> anyhow::Result<Successor> {
    if std::process::id() == 1 {
        bail!("this is process 1, whose end is that of its container: start a new container in its place");
    }
    let mut arguments = std::env::args_os();
    let program = arguments.next().ok_or_else(|| anyhow!("this process does not know its program"))?;
    let arguments: Vec<OsString> = arguments.filter(|it| it != TAKE_OVER).collect();
    let mut command = Command::new(&program);
    command.args(arguments).arg(TAKE_OVER).stdin(channel);
    // Of this process, not of the other.
    command.env_remove("WATCHDOG_PID");
    let child = command.spawn().with_context(|| format!("{} can't be started", program.to_string_lossy()))?;
    Ok(Successor(Some(child)))
}

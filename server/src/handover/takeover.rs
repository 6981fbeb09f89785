//! The new process's part of an upgrade: it takes what the running one hands over, and says how far it is.

use super::{Message, channel::Channel};
use anyhow::{Context, bail};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::net::ToSocketAddrs;
use web_tier::Inherited;

/// What this process was given before it began: by the process that it takes over from, or by the service manager.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Public listening sockets.
    pub(crate) http: Inherited,
    /// Other ones.
    pub(crate) others: Vec<TcpListener>,
    /// The data folder's lock, which the running process holds too.
    pub(crate) lock: Option<File>,
}

impl Given {
    /// Whether there is a process that still serves.
    pub(crate) fn takes_over(&self) -> bool {
        self.lock.is_some()
    }

    /// The lock that was given.
    ///
    /// # Errors
    /// There is none, or there are too many open files.
    pub(crate) fn share_lock(&self) -> std::io::Result<File> {
        self.lock.as_ref().ok_or(std::io::ErrorKind::NotFound)?.try_clone()
    }

    /// The socket at `address`, if it is among them, or a new one.
    ///
    /// # Errors
    /// The address has no name, or can't be bound.
    pub(crate) async fn listener(
        &mut self,
        address: impl ToSocketAddrs + Copy,
    ) -> std::io::Result<tokio::net::TcpListener> {
        if !self.others.is_empty() {
            let wanted: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
            let is_it = |it: &TcpListener| it.local_addr().is_ok_and(|at| wanted.contains(&at));
            if let Some(place) = self.others.iter().position(is_it) {
                return tokio::net::TcpListener::from_std(self.others.swap_remove(place));
            }
        }
        tokio::net::TcpListener::bind(address).await
    }
}

/// A process that takes over.
#[derive(Debug)]
pub(crate) struct Takeover {
    channel: Channel,
}

impl Takeover {
    /// Takes what comes on standard input. `wait`: how long the other process may be silent. With it comes the
    /// file whose end is to stop this process too, if there is one. Blocks.
    ///
    /// # Errors
    /// This process was not started by an upgrade, or what comes is not what was expected.
    pub(crate) fn receive(wait: Duration) -> anyhow::Result<(Self, Given, Option<File>)> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        let open = Channel::open(socket, wait);
        let channel = open.context("--take-over is for the process that an upgrade starts")?;
        // What this process starts has no part in it.
        rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
        let (mut given, mut parent) = (Given::default(), None);
        loop {
            let (message, descriptors) = channel.receive()?;
            match message {
                Message::Lock => given.lock = Some(one(descriptors)?.into()),
                Message::Parent => parent = Some(one(descriptors)?.into()),
                Message::Http { asked } => {
                    for socket in &descriptors {
                        given
                            .http
                            .add(socket, Some(asked))
                            .with_context(|| format!("the socket of {asked}"))?;
                    }
                }
                Message::ClusterPort | Message::Metrics => given.others.push(one(descriptors)?.into()),
                Message::End => break,
                other => bail!("the other process says {other:?} before all sockets are here"),
            }
        }
        if given.lock.is_none() {
            bail!("the other process gave no lock of its data folder");
        }
        Ok((Self { channel }, given, parent))
    }

    /// This process accepts; returns when the other one is no member of the cluster any more.
    pub(crate) fn serves(&self) -> anyhow::Result<()> {
        self.exchange(&Message::Serves, &Message::Join)
    }

    /// This process is ready; returns when it is the server.
    pub(crate) fn ready(&self) -> anyhow::Result<()> {
        self.exchange(&Message::Ready, &Message::TakeOver)
    }

    fn exchange(&self, say: &Message, hear: &Message) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| {
            self.channel.send(say, &[])?;
            self.channel.expect(hear)
        })
    }
}

fn one(mut descriptors: Vec<OwnedFd>) -> anyhow::Result<OwnedFd> {
    match (descriptors.pop(), descriptors.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => bail!("expected one descriptor"),
    }
}

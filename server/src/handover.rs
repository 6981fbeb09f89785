//! An upgrade without a gap: the running process starts the program anew, hands its listening sockets over, and ends once the new one
//! serves. `upgrade` is the part of the process that runs, `takeover` that of the new one; both are in docs/upgrading.md.

pub(crate) mod channel;
pub(crate) mod takeover;
pub(crate) mod upgrade;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the two processes say to each other, in this order. They may be of different versions: what is here stays as it is, and what
/// is added must be something that the other one need not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Message {
    /// The running process: the lock of the data folder, which both hold for a while.
    Lock,
    /// It was told to stop when its standard input ends: that of the first process.
    Parent,
    /// Some sockets of a public listener, by the address that the file has for it.
    Http {
        /// Of port 0 too.
        asked: SocketAddr,
    },
    /// The socket of the cluster port.
    ClusterPort,
    /// That of the metrics listener.
    Metrics,
    /// That was all.
    End,
    /// The new process accepts.
    Serves,
    /// The running process is no member of the cluster any more: the new one may be.
    Join,
    /// The new process is ready.
    Ready,
    /// The new one is the server now.
    TakeOver,
}

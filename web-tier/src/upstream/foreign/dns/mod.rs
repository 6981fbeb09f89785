//! DNS, as far as backends need it: which servers a name of a service has (SRV, RFC 2782), and which addresses a host, where the file
//! names name servers of its own. The system's resolver (`getaddrinfo`) knows nothing of services. `message` reads and writes bytes,
//! `resolver` asks.

mod message;
mod resolver;

#[cfg(test)]
mod tests;

pub(super) use message::{Data, Kind};
pub(super) use resolver::Resolver;

use std::{io, time::Duration};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error("no name server: /etc/resolv.conf names none")]
    NoServer,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("an answer that is none: {0}")]
    Malformed(&'static str),
    /// It is another question's; over UDP the right one may still come.
    #[error("an answer to another question")]
    Other,
    #[error("there is no such name")]
    NoSuchName,
    #[error("the name has no such records")]
    Empty,
    #[error("the name server refuses with code {0}")]
    Refused(u8),
}

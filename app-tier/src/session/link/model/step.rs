//! What can happen in the model, and between whom.

use std::fmt;

/// What joins two servers, and can be cut. What is sent on it meanwhile arrives when it is joined again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// The first leader and the other hub servers.
    Hub,
    /// The app server and the first leader; the next one.
    AppOld,
    AppNew,
    /// What leaders say to the app server is not cut, but late.
    Late,
    /// The web-tier and the hub.
    Web,
    /// The other hub servers among themselves: nobody can lead.
    All,
}

pub(super) const LINKS: [Link; 6] = [Link::Hub, Link::AppOld, Link::AppNew, Link::Late, Link::Web, Link::All];

/// A hub server that leads or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Leader {
    Old,
    New,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Tick(u64),
    TickMissed(u64),
    Cut(Link),
    Heal(Link),
    Elected,
    AsksA,
    AsksB,
    Counts(u8),
    FromMemory(u8),
    Refuses,
    Given(u8),
    KeptBack,
    CountsElsewhere(u8),
    Fails,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick(now) => write!(f, "-- {now}"),
            Self::TickMissed(now) => write!(f, "-- {now}; a watcher hears that it has missed events"),
            Self::Cut(link) => write!(f, "{link:?} is cut"),
            Self::Heal(link) => write!(f, "{link:?} is joined again"),
            Self::Elected => f.write_str("another leader is elected"),
            Self::AsksA => f.write_str("a request for a"),
            Self::AsksB => f.write_str("a request for b"),
            Self::Counts(value) => write!(f, "a counts to {value} on the hub"),
            Self::FromMemory(value) => write!(f, "a counts to {value} from memory"),
            Self::Refuses => f.write_str("a refuses"),
            Self::Given(value) => write!(f, "the user gets {value}"),
            Self::KeptBack => f.write_str("the web-tier keeps the answer back"),
            Self::CountsElsewhere(value) => write!(f, "b counts to {value} on the hub, the user gets it"),
            Self::Fails => f.write_str("b can't reach the hub, the request fails"),
        }
    }
}

//! Whose file it is.

/// A server whose files can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

/// The words that begin a section of HAProxy's.
pub(crate) const SECTIONS: [&str; 15] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "program",
    "cache",
    "http-errors",
    "ring",
    "log-forward",
    "fcgi-app",
];

impl Peer {
    /// A peer by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "nginx" => Some(Self::Nginx),
            "haproxy" => Some(Self::Haproxy),
            _ => None,
        }
    }

    /// The peer whose text this looks like.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            if line.ends_with('{') || line.ends_with(';') || line.ends_with('}') || line.contains("; #") {
                return Some(Self::Nginx);
            }
            if SECTIONS.contains(&line.split_whitespace().next().unwrap_or_default()) {
                return Some(Self::Haproxy);
            }
        }
        None
    }
}

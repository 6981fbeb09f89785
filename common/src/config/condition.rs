//! What stands under `if`: what a request must be like beside its path.

use super::{cookie_config::CookieConfig, cron::Cron, network::Network};
use regex::Regex;

/// A condition. One without a header, cookie or parameter to look at does not hold; nothing here ever fails.
#[derive(Debug, Clone)]
pub enum Condition {
    /// `header`: one of the fields of this name has a value in which the expression is found.
    Header(Named),
    /// `cookie`: the same for cookies.
    Cookie(Named),
    /// `query-param`: the same for the query's parameters, names and values decoded.
    QueryParam(Named),
    /// `method`: one of them, compared with case.
    Method(Vec<String>),
    /// `remote-addr`: in one of the networks.
    RemoteAddr(Vec<Network>),
    /// `secure`: whether the request came over TLS.
    Secure(bool),
    /// `server-name`: the host that the request names, in lower case and without a port.
    ServerName(ServerName),
    /// `local-port`: the listener's, `--port-offset` added.
    LocalPort(Vec<u16>),
    /// `file-exists`.
    FileExists(FileExists),
    /// `cron`: the minute is one of these.
    Cron(Cron),
    /// `share`: the request is one of this part.
    Share(Share),
    /// `and`, and several keys in one mapping: all hold.
    And(Vec<Self>),
    /// `or`: one holds.
    Or(Vec<Self>),
    /// `not`.
    Not(Box<Self>),
}

/// Something by its name and, perhaps, what its value must be like.
#[derive(Debug, Clone)]
pub struct Named {
    /// Headers' in lower case.
    pub name: String,
    /// Searched in the value; `None`: it is there.
    pub regexp: Option<Regex>,
}

/// `share`: a part of the users, each of whom stays in it, or out of it, as long as it is as large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// `percent`, in hundredths: 10,000 is all.
    pub share: u16,
    /// Who is a user.
    pub by: ShareBy,
}

/// By what the users of a `share` are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareBy {
    /// By the client's address.
    RemoteAddr,
    /// `cookie`: by what the web-tier has drawn for each, and keeps in a cookie of this name with these attributes.
    Cookie(String, CookieConfig),
}

/// `server-name`.
#[derive(Debug, Clone)]
pub enum ServerName {
    /// One of these, in lower case, without brackets.
    OneOf(Vec<String>),
    /// The expression is found in it.
    Matching(Regex),
}

/// `file-exists`: whether the web-app that a path belongs to has the file, by the rules of static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileExists {
    /// `true`, `false`: for the request's own path.
    Requested(bool),
    /// A path of this host, such as `/maintenance.txt`.
    At(String),
}

//! The public listeners of a server, of whichever kind.

use super::{
    model::{HttpListener, Server},
    tcp_proxy::TcpListener,
};

/// A listener that clients connect to.
#[derive(Debug, Clone)]
pub enum PublicListener {
    /// Of `http`.
    Http(Box<HttpListener>),
    /// Of `tcp-proxy`.
    Tcp(Box<TcpListener>),
}

impl PublicListener {
    /// Its address, without brackets, and its port.
    pub fn at(&self) -> (&str, u16) {
        match self {
            Self::Http(it) => (&it.address, it.port),
            Self::Tcp(it) => (&it.address, it.port),
        }
    }

    /// Whether HTTP/3 is spoken there, over UDP.
    pub fn http3(&self) -> bool {
        matches!(self, Self::Http(it) if it.http3.is_some())
    }

    /// What is spoken there: `http`, `https` or `tcp`.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Http(it) if it.tls.is_some() => "https",
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
        }
    }
}

impl Server {
    /// All of them: those of `http`, then those of `tcp-proxy`, each in the order of the file.
    pub fn listeners(&self) -> Vec<PublicListener> {
        let http = self.http.iter().map(|it| PublicListener::Http(Box::new(it.clone())));
        let tcp = self.tcp.iter().map(|it| PublicListener::Tcp(Box::new(it.clone())));
        http.chain(tcp).collect()
    }

    /// Whether it has some: it is a web-tier then.
    pub fn listens(&self) -> bool {
        !self.http.is_empty() || !self.tcp.is_empty()
    }
}

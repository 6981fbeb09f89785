//! What rules see of a request, whoever read it.

use crate::http1::Fields;
use std::{net::IpAddr, time::SystemTime};

/// A request's head. What is not looked at by a condition costs nothing.
#[derive(Clone, Copy)]
pub(crate) struct RequestView<'a> {
    pub(crate) method: &'a str,
    /// Normalised, percent-encoded.
    pub(crate) path: &'a str,
    /// As sent, without `?`.
    pub(crate) query: Option<&'a str>,
    /// As sent, perhaps with a port.
    pub(crate) host: &'a str,
    pub(crate) headers: &'a dyn HeaderSource,
    /// The client, seen through trusted proxies.
    pub(crate) remote: IpAddr,
    /// It came over TLS.
    pub(crate) secure: bool,
    /// The listener's.
    pub(crate) local_port: u16,
    pub(crate) now: SystemTime,
}

/// The fields of a request, however they are kept. Names are asked for in lower case.
pub(crate) trait HeaderSource {
    /// The first value of a name.
    fn get(&self, name: &str) -> Option<&[u8]>;

    /// Every value of a name, in order.
    fn for_each(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

impl HeaderSource for Fields {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.named(name).next()
    }

    fn for_each(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.named(name).for_each(each);
    }
}

#[cfg(test)]
impl HeaderSource for http::HeaderMap {
    fn get(&self, name: &str) -> Option<&[u8]> {
        Self::get(self, name).map(http::HeaderValue::as_bytes)
    }

    fn for_each(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| each(value.as_bytes()));
    }
}

//! What is known of a request when its line is written.

use crate::{
    http1::{Name, RequestHead, Version},
    transport::tls::TlsConnection,
};
use http::{Method, StatusCode};
use std::{borrow::Cow, rc::Rc, time::Instant};
use traces::Span;

/// How much is shown of a request that could not be read.
const UNREAD_MAX: usize = 1024;

/// No answer was sent: the client went away, mostly.
const NO_ANSWER: u16 = 499;

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The whole answer was sent.
    Complete,
    /// The client went away first.
    ClientGone,
    /// The server broke off in the middle of its answer.
    ServerBroke,
    /// The proxy ended it: a time-out, or a stop.
    #[default]
    Cut,
}

impl End {
    /// As the log has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client-gone",
            Self::ServerBroke => "server-broke",
            Self::Cut => "cut",
        }
    }
}

/// A request. One record serves many, so that its memory is allocated once.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// When its head was complete; `None` in a record that was never begun.
    pub(super) started: Option<Instant>,
    /// When its answer's head was there.
    pub(super) answered: Option<Instant>,
    /// The client's address, if it is not the one that connected.
    pub(super) client: Vec<u8>,
    /// The version of TLS.
    pub(super) tls: Option<&'static str>,
    pub(super) method: Method,
    /// As the client sent it; all that is known of a request that could not be read.
    pub(super) target: Vec<u8>,
    /// `None` for a request that could not be read.
    pub(super) version: Option<Version>,
    pub(super) host: Vec<u8>,
    pub(super) referer: Vec<u8>,
    pub(super) user_agent: Vec<u8>,
    pub(super) request_id: Vec<u8>,
    /// The trace's id, out of `traceparent`.
    pub(super) trace: Vec<u8>,
    /// The last one that was asked.
    pub(super) server: Option<Rc<str>>,
    pub(super) tries: u32,
    pub(super) status: Option<StatusCode>,
    /// Bytes sent to the client, heads too.
    sent: u64,
    /// Those of heads, interim ones too.
    heads: u64,
    pub(super) end: End,
    /// Why it failed, in words for operators.
    pub(super) why: Option<Cow<'static, str>>,
    /// What the proxy cache has done for it.
    pub(super) cache: Option<&'static str>,
    /// Headers that the log's format has, and their values.
    named: Vec<(Rc<str>, Vec<u8>)>,
    /// Of a request that is traced.
    span: Option<Span>,
    /// Of no request but a connection that is passed on as it is.
    pub(super) tcp: Option<TcpRecord>,
}

/// What is known of a connection of a `tcp-proxy` beyond what it has in common with requests. Its server's name is the record's `host`.
#[derive(Debug)]
pub(crate) struct TcpRecord {
    /// The listener's name.
    pub(super) listener: Box<str>,
    /// Bytes of the client.
    pub(super) received: u64,
}

impl Record {
    /// Forgets the last request.
    pub(super) fn begin(&mut self, now: Instant) {
        let mut texts = [
            &mut self.client,
            &mut self.target,
            &mut self.host,
            &mut self.referer,
            &mut self.user_agent,
            &mut self.request_id,
            &mut self.trace,
        ]
        .map(std::mem::take);
        texts.iter_mut().for_each(Vec::clear);
        let [client, target, host, referer, user_agent, request_id, trace] = texts;
        let mut named = std::mem::take(&mut self.named);
        named.clear();
        *self = Self {
            started: Some(now),
            client,
            target,
            host,
            referer,
            user_agent,
            request_id,
            trace,
            named,
            ..Self::default()
        };
    }

    /// It came over TLS.
    pub(crate) fn tls(&mut self, tls: &TlsConnection) {
        self.tls = Some(if tls.tls13 { "1.3" } else { "1.2" });
    }

    /// A trusted proxy has said who the client is.
    pub(crate) fn behind(&mut self, client: &str) {
        set(&mut self.client, client.as_bytes());
    }

    /// Its head, as the client sent it; of further headers those with these names.
    pub(crate) fn head(&mut self, head: &RequestHead, names: &[Rc<str>]) {
        self.method = head.method.clone();
        self.version = Some(head.version);
        put_masked(&mut self.target, head.target.as_bytes());
        for field in head.fields.iter() {
            match field.known {
                Name::Host if self.host.is_empty() => self.host.extend_from_slice(field.value),
                Name::Other if field.name.eq_ignore_ascii_case(b"user-agent") => {
                    set(&mut self.user_agent, field.value);
                }
                Name::Other if field.name.eq_ignore_ascii_case(b"referer") => {
                    self.referer.clear();
                    put_masked(&mut self.referer, field.value);
                }
                _ => {}
            }
        }
        for name in names {
            let mut value = Vec::new();
            for part in head.fields.named(name) {
                if !value.is_empty() {
                    value.extend_from_slice(b", ");
                }
                put_masked(&mut value, part);
            }
            self.named.push((name.clone(), value));
        }
    }

    /// The value of a header of its own; empty where it has none, or it is not known.
    pub(super) fn named(&self, name: &str) -> &[u8] {
        self.named.iter().find(|(known, _)| **known == *name).map_or(&[], |(_, value)| value)
    }

    /// A request that could not be read: the first line of what came.
    pub(crate) fn unread(&mut self, input: &[u8]) {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let line = &input[..end.min(UNREAD_MAX)];
        self.target.clear();
        put_masked(&mut self.target, line.strip_suffix(b"\r").unwrap_or(line));
    }

    /// The ids that it goes under.
    pub(crate) fn ids(&mut self, request_id: &[u8], trace: &[u8]) {
        set(&mut self.request_id, request_id);
        set(&mut self.trace, trace);
    }

    /// It is traced.
    pub(crate) fn traced(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// Its span says what is known of it by now. The target is told without its query, which may hold what is nobody else's business.
    pub(super) fn end_span(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = self.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        span.set("http.request.method", self.method.as_str());
        span.set("url.path", text(path).as_str());
        span.set("server.address", text(&self.host).as_str());
        span.set("copal.request_id", text(&self.request_id).as_str());
        span.set("copal.tries", self.tries);
        if let Some(server) = &self.server {
            span.set("copal.server", &**server);
        }
        if let Some(status) = self.status {
            span.set("http.response.status_code", status.as_u16());
        }
        match self.status {
            Some(status) if status.is_server_error() => span.failed(&status),
            _ if self.end != End::Complete => span.failed(&self.end.word()),
            _ => {}
        }
    }

    /// A server is asked.
    pub(crate) fn tried(&mut self, server: &Rc<str>) {
        self.server = Some(server.clone());
        self.tries += 1;
    }

    /// It is a connection by the `tcp-proxy` listener of this name.
    pub(crate) fn passes(&mut self, listener: &str) {
        self.tcp = Some(TcpRecord { listener: listener.into(), received: 0 });
    }

    /// It asks for this server.
    pub(crate) fn asks_for(&mut self, name: &str) {
        set(&mut self.host, name.as_bytes());
    }

    /// Its server is connected to.
    pub(crate) fn connected(&mut self) {
        self.answered(StatusCode::OK);
    }

    /// It is not passed on.
    pub(crate) fn refused(&mut self, status: u16, why: Cow<'static, str>) {
        self.status = StatusCode::from_u16(status).ok();
        self.why = Some(why);
    }

    /// Bytes passed, from the client and to it.
    pub(crate) fn passed(&mut self, received: u64, sent: u64) {
        if let Some(tcp) = &mut self.tcp {
            tcp.received = received;
        }
        self.sent = sent;
    }

    /// The answer's head is there.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.answered = Some(Instant::now());
        self.status = Some(status);
    }

    /// It has failed, and this is why.
    pub(crate) fn failed(&mut self, why: Option<Cow<'static, str>>) {
        self.why = why.or(self.why.take());
    }

    /// Whether it was said why.
    pub(super) fn has_failed(&self) -> bool {
        self.why.is_some()
    }

    /// The proxy cache has done this for it.
    pub(crate) fn cached(&mut self, what: &'static str) {
        self.cache = Some(what);
    }

    /// What clients of it were told; 499, as nginx has it, when nobody was told anything.
    pub(super) fn status(&self) -> u16 {
        self.status.map_or(NO_ANSWER, |status| status.as_u16())
    }

    /// Some of the bytes that are sent are a head.
    pub(crate) fn head_put(&mut self, bytes: usize) {
        self.heads += bytes as u64;
    }

    /// Bytes were sent to the client, heads or bodies.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// How it ended.
    pub(crate) fn ended(&mut self, end: End) {
        self.end = end;
    }

    /// Bytes of the answer's body that were sent.
    pub(super) fn body_sent(&self) -> u64 {
        self.sent.saturating_sub(self.heads)
    }
}

/// Appends a target or address without the session ids in it: who has a session's id has the session.
pub(crate) fn put_masked(out: &mut Vec<u8>, mut text: &[u8]) {
    const NAME: &[u8] = b"jsessionid=";
    let begins = |text: &[u8]| {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'=').map(|(place, _)| place + 1);
        ends.into_iter().find(|end| {
            end.checked_sub(NAME.len()).is_some_and(|start| text[start..*end].eq_ignore_ascii_case(NAME))
        })
    };
    while let Some(start) = begins(text) {
        let (before, rest) = text.split_at(start);
        out.extend_from_slice(before);
        out.extend_from_slice(b"***");
        let is_end = |byte: &u8| b";/?#& \"".contains(byte);
        text = &rest[rest.iter().position(is_end).unwrap_or(rest.len())..];
    }
    out.extend_from_slice(text);
}

fn set(text: &mut Vec<u8>, value: &[u8]) {
    text.clear();
    text.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_not_written_down() {
        for (text, masked) in [
            ("/cart?id=7&x=", "/cart?id=7&x="),
            ("/cart;jsessionid=aaSecret?id=7", "/cart;jsessionid=***?id=7"),
            ("/a;JSessionId=aaX.node!1/b;jsessionid=;c", "/a;JSessionId=***/b;jsessionid=***;c"),
            ("http://h/a%3Bjsessionid=aaX#top", "http://h/a%3Bjsessionid=***#top"),
            ("GET /a;jsessionid=aaX HTTP/1.1", "GET /a;jsessionid=*** HTTP/1.1"),
            ("jsessionid=", "jsessionid=***"),
            ("sessionid=1", "sessionid=1"),
        ] {
            let mut out = Vec::new();
            put_masked(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), masked, "{text}");
        }
    }
}

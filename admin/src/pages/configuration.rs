//! The configuration of this server, and which servers have another one.

use super::Frame;
use crate::{
    ask::SilentServer,
    configuration::{ConfigurationRecord, OtherRecord},
};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "configuration.html")]
pub(super) struct Configuration {
    frame: Frame,
    server: String,
    file: String,
    text: String,
    hash: String,
    others: Vec<Other>,
    silent: Vec<SilentServer>,
}

#[derive(Debug)]
struct Other {
    server: String,
    file: String,
    hash: String,
    class: &'static str,
    state: &'static str,
    lines: String,
}

impl Configuration {
    pub(super) fn new(frame: Frame, record: &ConfigurationRecord) -> Self {
        Self {
            frame,
            server: record.server.clone(),
            file: record.file.clone(),
            text: record.text.clone(),
            hash: record.hash.clone(),
            others: record.servers.iter().map(Other::of).collect(),
            silent: record.silent.clone(),
        }
    }
}

impl Other {
    fn of(other: &OtherRecord) -> Self {
        let (class, state) = match other {
            it if !it.same_servers => ("bad", "other servers"),
            it if !it.same && it.lines.is_empty() => ("warn", "other passwords"),
            it if !it.same => ("warn", "differs"),
            _ => ("ok", "the same"),
        };
        Self {
            server: other.server.clone(),
            file: other.file.clone(),
            hash: other.hash.clone(),
            class,
            state,
            lines: other.lines.join("\n"),
        }
    }
}

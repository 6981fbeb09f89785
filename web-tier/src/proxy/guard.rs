//! Asks what a request has to pass: limits.

use super::local::Local;
use crate::{
    http1::{Name, RequestHead, ResponseHead},
    limit::{Subject, Verdict},
    route::{rules::Guard, trusted::Asker},
    worker::client::Client,
};
use std::fmt::Write;

/// How long somebody waits who has as many requests as he may at a time, in seconds: nobody knows when one will end.
const RETRY_S: u64 = 1;

/// What the guards of a request say.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// The answer, if it does not pass.
    pub(super) refused: Option<Local>,
    /// The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    policies: String,
    limits: String,
}

/// Asks them in the order of the rules, up to the first that refuses.
pub(super) fn check(
    client: &Client,
    guards: &[&Guard],
    (asker, path): (&Asker<'_>, &str),
    head: &RequestHead,
) -> Guarded {
    let mut guarded = Guarded::default();
    let subject = Subject { remote: asker.address, path, fields: &head.fields };
    for guard in guards {
        let retry_s = match guard {
            Guard::Rate(table) => {
                let Some(verdict) = table.check(client.worker.read_clock(), subject) else { continue };
                guarded.note(table.policy(), verdict);
                (!verdict.passes).then_some(verdict.retry_s.max(1))
            }
            Guard::Connections(table) => match table.enter(subject) {
                Ok(permit) => {
                    permit.into_iter().for_each(|permit| client.keep(permit));
                    None
                }
                Err(()) => Some(RETRY_S),
            },
        };
        if let Some(retry_s) = retry_s {
            guarded.refused = Some(Local::too_many(client, retry_s));
            break;
        }
    }
    guarded
}

impl Guarded {
    fn note(&mut self, (name, requests, seconds): (&str, u32, u64), verdict: Verdict) {
        for list in [&mut self.policies, &mut self.limits] {
            if !list.is_empty() {
                list.push_str(", ");
            }
        }
        let Verdict { remaining, reset_s, .. } = verdict;
        let _ = write!(self.policies, "\"{name}\";q={requests};w={seconds}");
        let _ = write!(self.limits, "\"{name}\";r={remaining};t={reset_s}");
    }

    /// Tells the client how much more it may ask for.
    pub(super) fn tell(&self, head: &mut ResponseHead) {
        if !self.limits.is_empty() {
            head.fields.push(Name::Other, b"ratelimit-policy", self.policies.as_bytes());
            head.fields.push(Name::Other, b"ratelimit", self.limits.as_bytes());
        }
    }
}

//! Asks what a request has to pass: limits, and who knows its user.

mod forward_auth;
mod sign_in;

use super::{Reply, local::Local};
use crate::{
    error::ProxyError,
    http1::{Length, RequestHead},
    limit::{Subject, Verdict},
    route::{Routes, normalise::read, rules::Guard, session_url::InUrl, trusted::Asker},
    worker::client::Client,
};
use std::{fmt::Write, rc::Rc};

/// How long somebody waits who has as many requests as he may at a time, in seconds: nobody knows when one will end.
const RETRY_S: u64 = 1;

/// What the guards of a request say.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// What the client gets, if it does not pass.
    pub(super) refused: Option<Result<Reply, ProxyError>>,
    /// Fields of the answer, whatever it is.
    pub(super) told: Vec<(&'static [u8], Vec<u8>)>,
    /// One of them has found out whose request it is: what comes of it is for him alone.
    pub(super) knows_user: bool,
}

/// Asks them in the order of the rules, up to the first that refuses. Fields of `head` change as they say.
pub(super) async fn check(
    client: &Rc<Client>,
    (routes, guards): (&Routes, &[&Guard]),
    asker: &Asker<'_>,
    in_url: Option<&InUrl>,
    head: &mut RequestHead,
) -> Guarded {
    let (mut guarded, mut rates) = (Guarded::default(), Rates::default());
    for guard in guards {
        // As rules see it: a parameter makes no other path of it.
        let path = read(in_url.map_or(head.path(), |it| &it.path));
        let subject = Subject { remote: asker.address, path: &path, fields: &head.fields };
        let refused = match guard {
            Guard::Rate(table) => table.check(client.worker.read_clock(), subject).and_then(|verdict| {
                rates.note(table.policy(), verdict);
                (!verdict.passes).then(|| too_many(client, verdict.retry_s.max(1)))
            }),
            Guard::Connections(table) => match table.enter(subject) {
                Ok(permit) => {
                    permit.into_iter().for_each(|permit| client.keep(permit));
                    None
                }
                Err(()) => Some(too_many(client, RETRY_S)),
            },
            Guard::BasicAuth(site) => {
                guarded.knows_user = true;
                sign_in::by_password(client, asker, site, head).await.err().map(Ok)
            }
            Guard::Jwt(tokens) => {
                guarded.knows_user = true;
                sign_in::by_token(client, tokens, head).err().map(Ok)
            }
            Guard::ForwardAuth(auth, place) => {
                guarded.knows_user = true;
                let upstream = &routes.foreign[*place];
                match forward_auth::ask(client, asker, (auth, upstream, routes), head).await {
                    Ok(cookies) => {
                        guarded.told.extend(cookies.into_iter().map(|it| (&b"set-cookie"[..], it)));
                        None
                    }
                    Err(refused) => {
                        // Nobody waits for its body, behind which no other request is read.
                        client.progress.uploaded();
                        head.connection.close |= head.length != Length::Empty;
                        Some(*refused)
                    }
                }
            }
        };
        if refused.is_some() {
            guarded.refused = refused;
            break;
        }
    }
    rates.tell(&mut guarded.told);
    guarded
}

fn too_many(client: &Client, retry_s: u64) -> Result<Reply, ProxyError> {
    Ok(Reply::Local(Local::too_many(client, retry_s)))
}

/// The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Default)]
struct Rates {
    policies: String,
    limits: String,
}

impl Rates {
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
    fn tell(self, told: &mut Vec<(&'static [u8], Vec<u8>)>) {
        if !self.limits.is_empty() {
            told.push((b"ratelimit-policy", self.policies.into_bytes()));
            told.push((b"ratelimit", self.limits.into_bytes()));
        }
    }
}

//! How a client stays with a server that has its session in its own memory: the cookies of a request say where it belongs, and those
//! of an answer where the next one will. docs/balancing.md tells why it is done this way.

use crate::{
    http1::{Fields, Name},
    upstream::balance::{
        Affinity,
        sticky_cookie::{InsertedCookie, companion_name, put_companion},
        sticky_token::StickyTokens,
    },
};
use cluster_port::ClusterKey;
use common::{config::StickyCookie, cookie, id::ServerId};

/// What the clients of a rule stay by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stickiness {
    /// Nothing.
    None,
    /// `session-cookie`: the servers' own cookie, and the web tier's beside it.
    Session { name: Box<str>, companion: Box<str>, tokens: StickyTokens },
    /// `insert-cookie`: a cookie of the web tier.
    Inserted { cookie: InsertedCookie, tokens: StickyTokens },
}

/// Where a request belongs, by its cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belongs<'a> {
    pub(crate) affinity: Affinity<'a>,
    /// The server that its token names.
    token: Option<usize>,
}

/// The values of the cookie `name` in all `Cookie` fields, bounded.
pub(crate) fn values<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a str> {
    fields.all(Name::Cookie).flat_map(|field| cookie::values(field, name)).take(cookie::VALUES_MAX)
}

impl Stickiness {
    /// The tokens depend on the cookie's name, the servers and the cluster key alone: all web tiers have the same.
    pub(crate) fn new<'a>(
        cookie: &StickyCookie,
        key: &ClusterKey,
        ids: impl IntoIterator<Item = &'a ServerId>,
    ) -> Self {
        match cookie {
            StickyCookie::None => Self::None,
            StickyCookie::Session(name) => Self::Session {
                companion: companion_name(name).into(),
                tokens: StickyTokens::new(key, name, ids),
                name: name.as_str().into(),
            },
            StickyCookie::Inserted { name, attributes } => Self::Inserted {
                tokens: StickyTokens::new(key, name, ids),
                cookie: InsertedCookie::new(name, attributes),
            },
        }
    }

    /// Where a request with these fields belongs. Of several values of a cookie the first that names a server counts: others are left
    /// from former settings, or from another site of the same domain.
    pub(crate) fn belongs<'a>(&'a self, fields: &'a Fields) -> Belongs<'a> {
        let anywhere = Belongs::of(Affinity::None);
        match self {
            Self::None => anywhere,
            Self::Session { name, companion, tokens } => {
                let Some(key) = values(fields, name).next() else { return anywhere };
                let token = values(fields, companion).find_map(|it| tokens.find(it));
                let affinity = token.map_or(Affinity::Key(key), |index| Affinity::Server { index, key });
                Belongs { affinity, token }
            }
            Self::Inserted { cookie, tokens } => {
                // One that names nobody is none: a server that is gone leaves its clients to the strategy.
                let found = values(fields, cookie.name()).find_map(|it| Some((it, tokens.find(it)?)));
                let Some((key, index)) = found else { return anywhere };
                Belongs { affinity: Affinity::Server { index, key }, token: Some(index) }
            }
        }
    }

    /// Adds the cookies to an answer that bring the client back to the server that gave it. `token` is what the request said
    /// ([`Belongs::token`]), `secure` whether the client came over TLS.
    pub(crate) fn put_cookies(&self, token: Option<usize>, index: usize, answer: &mut Fields, secure: bool) {
        match self {
            Self::None => {}
            Self::Session { name, tokens, .. } => {
                let mut companions = Vec::new();
                for value in answer.named("set-cookie") {
                    let mut companion = Vec::new();
                    if put_companion(&mut companion, value, name, tokens.token(index)) {
                        companions.push(companion);
                    }
                }
                companions.iter().for_each(|it| answer.push(Name::Other, b"set-cookie", it));
            }
            Self::Inserted { cookie, tokens } => {
                if token != Some(index) || cookie.expires() {
                    let value = cookie.value(tokens.token(index), secure);
                    answer.push(Name::Other, b"set-cookie", &value);
                }
            }
        }
    }
}

impl<'a> Belongs<'a> {
    /// Without a token.
    pub(crate) fn of(affinity: Affinity<'a>) -> Self {
        Self { affinity, token: None }
    }

    /// The server that the request's token names.
    pub(crate) fn token(&self) -> Option<usize> {
        self.token
    }
}

#[cfg(test)]
mod tests;

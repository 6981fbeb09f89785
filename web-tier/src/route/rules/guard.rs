//! What a request has to pass before the word of the rules behind it counts. Rules only name it: nothing is counted here.

use super::Foreign;
use crate::{
    access::{Access, Site, Tokens},
    limit::{ConnectionTable, LimitTables, RateTable},
};
use common::config::{self, ForwardAuth};
use std::sync::Arc;

/// One of them, with what it has counted.
#[derive(Debug)]
pub(crate) enum Guard {
    /// `rate-limit`.
    Rate(Arc<RateTable>),
    /// `connection-limit`.
    Connections(Arc<ConnectionTable>),
    /// `basic-auth`.
    BasicAuth(Arc<Site>),
    /// `jwt`.
    Jwt(Arc<Tokens>),
    /// `forward-auth`, and where it is in [`Foreign::list`].
    ForwardAuth(Box<ForwardAuth>, usize),
}

impl Guard {
    /// That of a rule; `None` where `limits` are of another configuration.
    pub(super) fn new(
        config: &config::Guard,
        foreign: &mut Foreign,
        (limits, access): (&LimitTables, &Access),
    ) -> Option<Self> {
        Some(match config {
            config::Guard::RateLimit(config) => Self::Rate(limits.rate(config)?.clone()),
            config::Guard::ConnectionLimit(config) => Self::Connections(limits.connection(config)?.clone()),
            config::Guard::BasicAuth(config) => Self::BasicAuth(access.site(config)?.clone()),
            config::Guard::Jwt(config) => Self::Jwt(access.tokens(config)?.clone()),
            config::Guard::ForwardAuth(config) => {
                Self::ForwardAuth(config.clone(), foreign.place(&config.proxy))
            }
        })
    }
}

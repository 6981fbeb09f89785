//! What a request may still try, and when another try is safe.

use super::attempt::Failure;
use crate::{
    error::ProxyError,
    http1::{RequestHead, ResponseHead},
    proxy::forward::{NOT_PROCESSED, STOPPED},
    upstream::{
        balance::{TRIES_MAX, Tried},
        exchange::Outgoing,
    },
    worker::client::Client,
};
use common::hub_age::{self, HUB_AGE};
use http::{Method, StatusCode};
use std::net::IpAddr;

/// A request, and what it may still try.
pub(super) struct Tries {
    pub(super) outgoing: Outgoing,
    /// The client's: whose share of a server's places it counts to, and whose socket it may have.
    pub(super) address: IpAddr,
    pub(super) tried: Tried,
    /// Tries left after the present one.
    left: usize,
    /// The next try is not to use an idle socket.
    pub(super) fresh: bool,
    /// It has waited for a socket as long as it may: from now on it takes one that is free, or goes on.
    pub(super) has_queued: bool,
    /// A request that may have been seen is sent again once.
    resent: bool,
    /// Its method is safe (RFC 9110 §9.2.1).
    pub(super) safe: bool,
    /// Its session lives on its server alone: it does not leave it for another as long as that can be reached.
    pub(super) bound: bool,
    /// Its method is `HEAD`.
    pub(super) to_head: bool,
    /// It asks to change protocols.
    pub(super) upgrade: bool,
    /// All of it had left when the answer's head came.
    pub(super) sent: bool,
    /// What the client hears when no server is left.
    pub(super) last_error: ProxyError,
}

impl Tries {
    pub(super) fn new(outgoing: Outgoing, address: IpAddr, head: &RequestHead) -> Self {
        Self {
            outgoing,
            address,
            tried: Tried::default(),
            left: TRIES_MAX - 1,
            fresh: false,
            has_queued: false,
            resent: false,
            safe: matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS),
            bound: false,
            to_head: head.method == Method::HEAD,
            upgrade: head.connection.upgrade,
            sent: false,
            last_error: ProxyError::NoServer,
        }
    }

    /// Gets ready for one more try, after one that brought no answer; the error when there is none.
    pub(super) fn again_after_failure(
        &mut self,
        server: usize,
        failure: Failure,
        budget: impl FnOnce() -> bool,
    ) -> Result<(), ProxyError> {
        self.fresh = false;
        let unsent = self.outgoing.is_unsent();
        let error = match failure {
            Failure::Full { .. } => ProxyError::Busy,
            _ if unsent => ProxyError::NoServer,
            _ => ProxyError::Broken,
        };
        match failure {
            Failure::Final(error) => return Err(error),
            // A socket that went stale is replaced by a new one to the same server: its session lives there.
            Failure::Stale => self.fresh = true,
            // The balance keeps it away if it is down; if it was replaced, its successor may be asked.
            Failure::Gone => {}
            // Whether that is down, a new connection will tell.
            Failure::Broken if self.bound => self.fresh = true,
            Failure::Unsent | Failure::Broken => self.tried.add(server),
            Failure::Full { waited } => {
                self.tried.add(server);
                self.has_queued |= waited;
                self.last_error = error;
            }
        }
        if !unsent {
            self.last_error = error;
            if !self.resend() {
                return Err(error);
            }
        }
        self.left = self.left.checked_sub(1).ok_or(error)?;
        // A stale socket is no sign of overload, and the try in its place goes to the same server. A full queue has cost its server
        // nothing, so that a try elsewhere multiplies nothing.
        let is_free = matches!(failure, Failure::Stale | Failure::Full { .. });
        if is_free || budget() { Ok(()) } else { Err(error) }
    }

    /// Gets ready for one more try, if the answer says that the server could not serve the request, and that is safe. A 503 of an app
    /// in which the user has a session is the answer.
    pub(super) fn again_after_answer(
        &mut self,
        client: &Client,
        server: usize,
        answer: &ResponseHead,
        budget: impl FnOnce() -> bool,
    ) -> bool {
        let said = answer.fields.internal(NOT_PROCESSED);
        if said == Some(STOPPED) {
            return false;
        }
        let unseen = said.is_some();
        let busy = answer.status == StatusCode::SERVICE_UNAVAILABLE && (unseen || !self.bound);
        if !(busy || is_outdated(client, answer)) || self.left == 0 {
            return false;
        }
        let may = if unseen { self.outgoing.is_whole() } else { self.may_resend() };
        if !may || !budget() || !(if unseen { self.outgoing.rewind() } else { self.resend() }) {
            return false;
        }
        self.tried.add(server);
        self.left -= 1;
        true
    }

    /// Whether the request may be sent again though a server may have seen it.
    pub(super) fn may_resend(&self) -> bool {
        self.safe && !self.resent && self.outgoing.is_whole()
    }

    /// Makes the request ready to be sent again, if it may be.
    fn resend(&mut self) -> bool {
        let may = self.may_resend() && self.outgoing.rewind();
        self.resent |= may;
        may
    }
}

/// Whether the answer rests on the memory of a server that is cut off from the hub, which this one hears: another server may have
/// answered with more already.
pub(super) fn is_outdated(client: &Client, answer: &ResponseHead) -> bool {
    let said = answer.fields.internal(HUB_AGE).and_then(hub_age::parse);
    said.is_some_and(|age| client.worker.hears_more_than(age))
}

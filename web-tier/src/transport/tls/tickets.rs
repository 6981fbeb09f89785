//! Session tickets (RFC 8446 §4.6.1, RFC 5077) whose keys every server of the cluster derives for itself: a client resumes on
//! any web-tier server, and after a restart, without a word between the servers.
//!
//! A ticket is `kind ‖ epoch ‖ salt ‖ AES-256-GCM(session)`. Its key and nonce come by HKDF-SHA-256 (RFC 5869) from a root, the
//! listener's [context](Context), the epoch (8 hours of wall clock) and the 16 random bytes of its salt. So no key encrypts
//! twice, and no nonce has to be counted. Tickets of this epoch and the one before are taken, and of the one after: another
//! server's clock may be ahead.
//!
//! The root of TLS 1.3 tickets is derived from the cluster key. Whoever steals the cluster key can then make and open tickets,
//! but not read what he recorded: TLS 1.3 resumption has a fresh key exchange (`psk_dhe_ke`). TLS 1.2 has none: its tickets hold
//! the very secret of the recorded traffic. So their root is random, of this process alone, and forgotten after two epochs;
//! TLS 1.2 clients resume on the server that they came from, until it restarts. Without a cluster key all roots are such.
//! docs/tls.md tells the trade-off.

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use common::{clock::Clock, config::Secret};
use rustls::server::ProducesTickets;
use std::{fmt, sync::Arc, time::Duration};

/// How long a key makes tickets.
const EPOCH: Duration = Duration::from_secs(8 * 3600);

/// The root's first input, so that other uses of the cluster key have nothing in common with it.
const ROOT: &[u8] = b"copal tls tickets 1";

/// TLS 1.3, by the cluster key.
const SHARED: u8 = 1;
/// By this process's own keys.
const LOCAL: u8 = 2;

const SALT: usize = 16;
const HEADER: usize = 1 + 4 + SALT;
const KEY: usize = 32;

/// The longest ticket that is looked at; a client's certificates are in it.
const TICKET_MAX: usize = 64 << 10;

/// What a ticket is good for beside the session itself: whom a listener lets in without asking again. A hash of `client-auth`
/// and the authorities, so that a ticket of a listener that asks nobody opens none that does.
pub(super) type Context = [u8; 32];

/// The keys of a process, for all its listeners.
pub(crate) struct TicketKeys {
    clock: Arc<dyn Clock>,
    shared: Option<Prk>,
    local: ArcSwap<LocalRoots>,
}

struct LocalRoots {
    epoch: u32,
    current: Prk,
    previous: Option<Prk>,
}

impl TicketKeys {
    /// Keys of a cluster; of this process alone when `cluster_key` is empty.
    pub(crate) fn new(cluster_key: &Secret, clock: Arc<dyn Clock>) -> Self {
        let key = cluster_key.bytes();
        let shared = (!key.is_empty()).then(|| Salt::new(HKDF_SHA256, ROOT).extract(key));
        let local = LocalRoots { epoch: epoch(&*clock), current: random_root(), previous: None };
        Self { clock, shared, local: ArcSwap::from_pointee(local) }
    }

    /// The roots of this process as of now: made anew at each epoch, and forgotten after the next.
    fn local(&self) -> Arc<LocalRoots> {
        let now = epoch(&*self.clock);
        let roots = self.local.load_full();
        // A clock that goes back must not bring forgotten keys to mind: they stay as they are.
        if roots.epoch >= now {
            return roots;
        }
        self.local.rcu(|roots| {
            if roots.epoch >= now {
                return roots.clone();
            }
            let previous = (roots.epoch + 1 == now).then(|| roots.current.clone());
            Arc::new(LocalRoots { epoch: now, current: random_root(), previous })
        });
        self.local.load_full()
    }

    fn seal(&self, context: &Context, session: &[u8]) -> Option<Vec<u8>> {
        let mut header = [0; HEADER];
        rand::fill(&mut header[5..]).ok()?;
        let local;
        let (kind, epoch, root) = match &self.shared {
            Some(root) if is_tls13(session) => (SHARED, epoch(&*self.clock), root),
            _ => {
                local = self.local();
                (LOCAL, local.epoch, &local.current)
            }
        };
        header[0] = kind;
        header[1..5].copy_from_slice(&epoch.to_be_bytes());
        let mut sealed = Vec::with_capacity(session.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(session);
        let (key, nonce) = derive(root, context, &header)?;
        key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(HEADER + sealed.len());
        ticket.extend_from_slice(&header);
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn open(&self, context: &Context, ticket: &[u8]) -> Option<Vec<u8>> {
        let (header, sealed) = ticket.split_first_chunk::<HEADER>().filter(|_| ticket.len() <= TICKET_MAX)?;
        let [kind, e0, e1, e2, e3, ..] = *header;
        let of = u32::from_be_bytes([e0, e1, e2, e3]);
        let local;
        let root = match kind {
            SHARED if of.abs_diff(epoch(&*self.clock)) <= 1 => self.shared.as_ref()?,
            LOCAL => {
                local = self.local();
                if of == local.epoch {
                    &local.current
                } else if of.checked_add(1) == Some(local.epoch) {
                    local.previous.as_ref()?
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        let (key, nonce) = derive(root, context, header)?;
        let mut session = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(header), &mut session).ok()?.len();
        session.truncate(length);
        // A TLS 1.2 session under the cluster's key can only be one that this version did not write.
        (kind == LOCAL || is_tls13(&session)).then_some(session)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shared.is_some() {
            "TicketKeys(of the cluster)"
        } else {
            "TicketKeys(of this process)"
        })
    }
}

/// A listener's tickets.
#[derive(Debug)]
pub(super) struct Ticketer {
    pub(super) keys: Arc<TicketKeys>,
    pub(super) context: Context,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    /// How long a ticket is good at least.
    fn lifetime(&self) -> u32 {
        u32::try_from(EPOCH.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(&self.context, plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(&self.context, cipher)
    }
}

/// The number of the epoch that it is.
fn epoch(clock: &dyn Clock) -> u32 {
    u32::try_from(clock.unix_ms() / 1000 / EPOCH.as_secs()).unwrap_or(u32::MAX)
}

fn random_root() -> Prk {
    let mut root = [0; KEY];
    // Without random numbers there is no TLS at all: no handshake comes as far as to need these.
    rand::fill(&mut root).expect("the system has random numbers");
    Prk::new_less_safe(HKDF_SHA256, &root)
}

/// The key and nonce of one ticket: its salt is in the header.
fn derive(root: &Prk, context: &Context, header: &[u8; HEADER]) -> Option<(LessSafeKey, Nonce)> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            KEY + NONCE_LEN
        }
    }
    let mut made = [0; KEY + NONCE_LEN];
    root.expand(&[context.as_slice(), header.as_slice()], Length).ok()?.fill(&mut made).ok()?;
    let (key, nonce) = made.split_at(KEY);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    Some((key, Nonce::try_assume_unique_for_key(nonce).ok()?))
}

/// Whether a session, as rustls writes it (host name if any, then the version), is one of TLS 1.3. What can't be told is not.
fn is_tls13(session: &[u8]) -> bool {
    let rest = match session {
        [0, rest @ ..] => rest,
        [1, length, rest @ ..] => rest.get(usize::from(*length)..).unwrap_or_default(),
        _ => &[],
    };
    rest.starts_with(&[3, 4])
}

#[cfg(test)]
mod tests;

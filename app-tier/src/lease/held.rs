//! One lease that this server holds, and until when it may be believed.

use super::{BootTime, LeaseError, Name, boot_time::sleep_until};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::watch;

/// Who renews a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// This server, as long as it lives.
    ByServer,
    /// The app that has it.
    ByApp,
}

/// What is known of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// From when its time is counted.
    sent: BootTime,
    /// It is not held any more, whatever its time says.
    over: bool,
    /// The last of its app's wishes that was carried out.
    answered: u64,
}

/// A lease.
#[derive(Debug)]
pub(crate) struct Held {
    name: Name,
    app: String,
    token: u64,
    ttl: Duration,
    by: Renewed,
    known: watch::Sender<Known>,
    /// How often its app has wished for a renewal.
    asked: AtomicU64,
}

impl Held {
    pub(super) fn new(name: Name, app: &str, token: u64, ttl: Duration, by: Renewed, sent: BootTime) -> Self {
        let known = watch::channel(Known { sent, over: false, answered: 0 }).0;
        Self { name, app: app.to_owned(), token, ttl, by, known, asked: AtomicU64::new(0) }
    }

    /// Whose it is.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The app that has asked for it.
    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    /// The fencing token.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// How long it lasts without a renewal.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long it still lasts; nothing when it is over.
    pub(crate) fn left(&self) -> Duration {
        let Known { sent, over, .. } = *self.known.borrow();
        if over { Duration::ZERO } else { (sent + self.ttl).left(BootTime::now()) }
    }

    /// When it will have lasted for `part` hundredths of its time.
    pub(crate) fn at(&self, part: u32) -> BootTime {
        self.known.borrow().sent + self.ttl * part / 100
    }

    /// Waits until `part` hundredths of its time have passed without a renewal, or the hub says that it is over.
    pub(crate) async fn is_late(&self, part: u32) {
        let mut known = self.known.subscribe();
        loop {
            let Known { over, sent, .. } = *known.borrow_and_update();
            if over {
                return;
            }
            tokio::select! {
                () = sleep_until(sent + self.ttl * part / 100) => return,
                // This is held, and with it who would tell.
                _ = known.changed() => {}
            }
        }
    }

    /// Tells of each renewal, and of the end.
    pub(crate) fn renewals(&self) -> watch::Receiver<impl Sized + use<>> {
        self.known.subscribe()
    }

    /// It is to be renewed now: this server's own when a fifth of its time has passed, an app's when it has asked.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        let known = *self.known.borrow();
        match self.by {
            _ if known.over => false,
            Renewed::ByServer => (known.sent + every.min(self.ttl / 5)).left(BootTime::now()).is_zero(),
            Renewed::ByApp => self.asked.load(Relaxed) > known.answered,
        }
    }

    /// Its time is over, and nobody renews it any more.
    pub(super) fn is_past(&self) -> bool {
        self.left().is_zero()
    }

    pub(super) fn is_by_server(&self) -> bool {
        self.by == Renewed::ByServer
    }

    /// Its app wants it to be renewed: the number of the wish.
    pub(super) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Relaxed) + 1
    }

    /// The wishes so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// The hub has renewed it, by a call that was sent at `sent`, after so many wishes.
    pub(super) fn renewed(&self, sent: BootTime, asked: u64) {
        self.known.send_modify(|known| {
            known.sent = known.sent.max(sent);
            known.answered = known.answered.max(asked);
        });
    }

    /// It is not held any more.
    pub(super) fn end(&self) {
        self.known.send_modify(|known| known.over = true);
    }

    /// Waits until a wish is carried out.
    pub(super) async fn renewed_since(&self, asked: u64, limit: Duration) -> Result<(), LeaseError> {
        let mut known = self.known.subscribe();
        let answered = known.wait_for(|known| known.over || known.answered >= asked);
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(known)) if !known.over => Ok(()),
            Ok(_) => Err(LeaseError::Over),
            Err(_) => Err(LeaseError::HubLost(format!("it has not answered within {limit:?}"))),
        }
    }
}

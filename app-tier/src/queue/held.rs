//! Deliveries that apps of this server have, and settle by their token.

use super::step::Step;
use proto::hub::v1::Delivery;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What was delivered late, and is settled in time by the hub's clock, is known here for so long yet.
const SLACK: Duration = Duration::from_secs(10);

/// Those whose time is over are looked for when there are so many more.
const SWEEP: usize = 256;

/// A message that an app has.
#[derive(Debug)]
pub(crate) struct HeldDelivery {
    delivery: Delivery,
    /// Of which step of a pipeline its message is.
    step: Option<Arc<Step>>,
    /// How long it is this app's: it may be prolonged.
    until: Mutex<Instant>,
}

impl HeldDelivery {
    /// Names it.
    pub(crate) fn number(&self) -> u64 {
        self.delivery.number
    }

    /// Who has it: an app's name on the hub.
    pub(crate) fn app(&self) -> &str {
        &self.delivery.app
    }

    /// What was delivered.
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Of which step of a pipeline its message is.
    pub(super) fn step(&self) -> Option<&Arc<Step>> {
        self.step.as_ref()
    }

    /// Its time.
    pub(crate) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has so long from now on.
    pub(crate) fn extend(&self, time: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + time;
    }
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<(HashMap<u64, Arc<HeldDelivery>>, usize)>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, (HashMap<u64, Arc<HeldDelivery>>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An app has it from now on.
    pub(super) fn hold(&self, delivery: Delivery, step: Option<Arc<Step>>) -> Arc<HeldDelivery> {
        let until = Mutex::new(Instant::now() + Duration::from_millis(delivery.left_ms));
        let held = Arc::new(HeldDelivery { delivery, step, until });
        let mut all = self.lock();
        if all.0.len() >= all.1 {
            let now = Instant::now();
            all.0.retain(|_, it| it.until() + SLACK > now);
            all.1 = 2 * all.0.len() + SWEEP;
        }
        all.0.insert(held.number(), held.clone());
        held
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<HeldDelivery>> {
        self.lock().0.get(&number).cloned()
    }

    pub(super) fn forget(&self, number: u64) {
        self.lock().0.remove(&number);
    }
}

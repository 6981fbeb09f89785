//! Purges of what web-tiers keep, as the hub's leader is asked for them.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use proto::{
    hub::v1::{NotePurge, purges_client::PurgesClient},
    web::v1::PurgeCache,
};
use std::time::Duration;

impl Hub {
    /// Writes down what web-tiers are to forget: each hears of it, if not now then when it hears the hub again. Returns its number.
    ///
    /// # Errors
    /// See [`HubError`]; refused while a hub server does not know purges.
    pub async fn note_purge(&self, what: PurgeCache, deadline: Duration) -> Result<u64, HubError> {
        let note = NotePurge { what: Some(what), id: rand::random::<u64>() | 1 };
        let noted = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = note.clone();
            async move { PurgesClient::new(channel).note(request).await }
        });
        Ok(noted.await?.number)
    }
}

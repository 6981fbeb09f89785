//! Caches of apps, as the hub's leader is asked for them.

use crate::{
    Hub, HubError, MESSAGE_MAX,
    leader::TRY_TIMEOUT,
    numbered::{Place, Writer, Writes},
};
use proto::hub::v1::{
    CacheCleared, CacheWrite, CachedLoaded, CachesDescribed, CachesWritten, ClearCache, DescribeCaches,
    LoadCached, WriteCaches, cache_outcome::Outcome, caches_client::CachesClient,
};
use std::time::Duration;
use tonic::{Response, Status, transport::Channel};

/// Writes to caches.
struct OfCaches;

impl Writes for OfCaches {
    type Write = CacheWrite;
    type Outcome = Outcome;
    type Answer = CachesWritten;

    async fn send(
        channel: Channel,
        place: Place,
        writes: Vec<CacheWrite>,
    ) -> Result<Response<CachesWritten>, Status> {
        let Place { server, started_ms, first, settled } = place;
        let call = WriteCaches { server, started_ms, first, settled, writes, max_bytes: 0 };
        let client = CachesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        client.max_encoding_message_size(MESSAGE_MAX).write(call).await
    }

    fn outcomes(answer: CachesWritten) -> Vec<Option<Outcome>> {
        answer.outcomes.into_iter().map(|it| it.outcome).collect()
    }
}

/// Writes to caches, of one process of a server. Clones share the queue.
#[derive(Debug, Clone)]
pub struct CacheWriter(Writer<OfCaches>);

impl Hub {
    /// What writes to caches for this process, which was started at `started_ms`. There may be one alone in a process: its writes are numbered.
    pub fn cache_writer(&self, started_ms: u64) -> CacheWriter {
        CacheWriter(Writer::start(self.leader.clone(), started_ms))
    }

    /// A value as of now; with a watch the hub tells that watch's server when it changes.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn load_cached(&self, load: LoadCached, deadline: Duration) -> Result<CachedLoaded, HubError> {
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| {
                let mut client = CachesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
                let request = crate::traced(load.clone());
                async move { client.load(request).await }
            })
            .await
    }

    /// How the caches are.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn describe_caches(&self, deadline: Duration) -> Result<CachesDescribed, HubError> {
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| async move {
                CachesClient::new(channel).describe(DescribeCaches {}).await
            })
            .await
    }

    /// Clears a cache, for an operator.
    ///
    /// # Errors
    /// See [`HubError`]; refused for what is no cache's name. After [`HubError::Unavailable`] it may have been cleared.
    pub async fn clear_cache(&self, clear: ClearCache, deadline: Duration) -> Result<CacheCleared, HubError> {
        let cleared = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let clear = clear.clone();
            async move { CachesClient::new(channel).manage(clear).await }
        });
        cleared.await
    }
}

impl CacheWriter {
    /// Writes, once, whatever becomes of the hub's leader meanwhile.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may have happened, and is not sent again.
    pub async fn write(&self, write: CacheWrite, deadline: Duration) -> Result<Outcome, HubError> {
        self.0.write(write, deadline).await
    }
}

//! What the configuration says of the cache, as one worker has it.

use super::Cache;
use common::config::{CacheMapping, ProxyCache};
use http_cache::{freshness::Heuristic, store::StoreRules};
use std::{rc::Rc, sync::Arc, time::Duration};

/// `proxy-cache`, and what is kept by it.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    pub(crate) cache: Arc<Cache>,
    pub(crate) config: Rc<ProxyCache>,
}

impl CacheSettings {
    /// What is said of answers to requests for a path.
    pub(crate) fn rules(&self, path: &str) -> StoreRules {
        let matches = |it: &&CacheMapping| it.regexp.as_ref().is_none_or(|regexp| regexp.is_match(path));
        let mapping = self.config.mappings.iter().find(matches);
        StoreRules {
            heuristic: mapping
                .and_then(|it| Some(Heuristic { percent: it.heuristic?, max: seconds(it.heuristic_max) })),
            default_lifetime: mapping.and_then(|it| it.max_age).map(seconds),
            error_max: seconds(self.config.error_max_age),
            set_cookie: self.config.store_set_cookie,
            vary_is_private: self.config.vary_is_private,
        }
    }
}

/// As a field has it.
pub(crate) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

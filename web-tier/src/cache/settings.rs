//! What the configuration says of the cache, as one worker has it.

use super::Cache;
use common::config::{CacheMapping, ProxyCache};
use http_cache::{freshness::Heuristic, store::StoreRules};
use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

/// `proxy-cache`, and what is kept by it.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    pub(crate) cache: Arc<Cache>,
    pub(crate) config: Rc<ProxyCache>,
    /// A mapping has parameters that choose no answer.
    ignores: bool,
}

impl CacheSettings {
    /// By a cluster's `proxy-cache`.
    pub(crate) fn new(cache: Arc<Cache>, config: ProxyCache) -> Self {
        let ignores = config.mappings.iter().any(|it| !it.ignore_query.is_empty());
        Self { cache, config: Rc::new(config), ignores }
    }

    /// Path and query, without the parameters that choose no answer.
    pub(crate) fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let Some((path, query)) = self.ignores.then(|| target.split_once('?')).flatten() else {
            return target.into();
        };
        let ignored = self.mapping(path).map(|it| &it.ignore_query[..]).unwrap_or_default();
        let counts = |it: &&str| {
            let name = it.split('=').next().unwrap_or_default();
            // Some servers take what is behind a semicolon for another parameter.
            it.contains(';') || !ignored.iter().any(|known| known.is(name))
        };
        if query.split('&').all(|it| counts(&it)) {
            return target.into();
        }
        let counted: Vec<&str> = query.split('&').filter(counts).collect();
        if counted.is_empty() {
            path.to_owned().into()
        } else {
            format!("{path}?{}", counted.join("&")).into()
        }
    }

    fn mapping(&self, path: &str) -> Option<&CacheMapping> {
        let matches = |it: &&CacheMapping| it.regexp.as_ref().is_none_or(|regexp| regexp.is_match(path));
        self.config.mappings.iter().find(matches)
    }

    /// What is said of answers to requests for a path.
    pub(crate) fn rules(&self, path: &str) -> StoreRules {
        let mapping = self.mapping(path);
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

//! What a worker's requests found in the cache.

use super::counters::Count;
use http_cache::store::WhyNot;
use std::ops::Add;

/// A worker's.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    /// Answered by what is kept.
    pub(crate) hits: Count,
    /// Found on disk.
    pub(crate) from_disk: Count,
    /// Of the hits, by what is stale while its server is asked.
    pub(crate) stale: Count,
    /// A server was asked for all who want to know.
    pub(crate) misses: Count,
    /// Of these, it said that what is kept is still so.
    pub(crate) revalidated: Count,
    /// Answered by what is stale, as the server failed.
    pub(crate) stale_on_error: Count,
    /// Waited for another request's answer.
    pub(crate) collapsed: Count,
    /// Passed on without a look at what is kept.
    pub(crate) passed: Count,
    /// Answers that were too long, or came when too much was coming.
    pub(crate) too_large: Count,
    /// Answers that may not be kept, by [`WhyNot`].
    pub(crate) not_kept: [Count; WhyNot::ALL.len()],
}

impl CacheCounters {
    /// The counts now.
    pub(crate) fn totals(&self) -> CacheTotals {
        CacheTotals {
            hits: self.hits.read(),
            from_disk: self.from_disk.read(),
            stale: self.stale.read(),
            misses: self.misses.read(),
            revalidated: self.revalidated.read(),
            stale_on_error: self.stale_on_error.read(),
            collapsed: self.collapsed.read(),
            passed: self.passed.read(),
            too_large: self.too_large.read(),
            not_kept: std::array::from_fn(|it| self.not_kept[it].read()),
        }
    }
}

/// What requests found in the cache, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheTotals {
    /// Answered by what was kept.
    pub hits: u64,
    /// Found on disk.
    pub from_disk: u64,
    /// Of the hits, by what was stale while its server was asked.
    pub stale: u64,
    /// A server was asked for all who wanted to know.
    pub misses: u64,
    /// Of these, it said that what was kept was still so.
    pub revalidated: u64,
    /// Answered by what was stale, as the server failed.
    pub stale_on_error: u64,
    /// Waited for another request's answer.
    pub collapsed: u64,
    /// Passed on without a look at what is kept.
    pub passed: u64,
    /// Answers that were too long to be kept, or came when too much was coming.
    pub too_large: u64,
    /// Answers that may not be kept, in the order of [`WhyNot::ALL`].
    pub not_kept: [u64; WhyNot::ALL.len()],
}

impl CacheTotals {
    fn with(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            hits: join(self.hits, other.hits),
            from_disk: join(self.from_disk, other.from_disk),
            stale: join(self.stale, other.stale),
            misses: join(self.misses, other.misses),
            revalidated: join(self.revalidated, other.revalidated),
            stale_on_error: join(self.stale_on_error, other.stale_on_error),
            collapsed: join(self.collapsed, other.collapsed),
            passed: join(self.passed, other.passed),
            too_large: join(self.too_large, other.too_large),
            not_kept: std::array::from_fn(|it| join(self.not_kept[it], other.not_kept[it])),
        }
    }

    /// What has been counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        self.with(before, u64::saturating_sub)
    }
}

impl Add for CacheTotals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(&other, |one, other| one + other)
    }
}

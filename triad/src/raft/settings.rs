//! The library's settings, and why they are what they are.

use common::witness::TIMES;
use openraft::{Config, SnapshotPolicy};
use std::time::Duration;

/// Followers wait 710 to 780 ms without a word from the leader (a lease of the maximum, then an election time-out) before they
/// ask for votes, so that writes pause for well below a second when a leader dies, and a machine that is busy for half a second
/// elects nobody. It is more than [`LEASE`].
///
/// The minimum is also how long a vote may take, the voter's sync behind what it is just writing included: on a slow disk,
/// a shorter one elects nobody at all.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MIN_MS: u64 = 320;
const ELECTION_MAX_MS: u64 = 390;

/// Who has acknowledged a leader's word helps no other to lead for so long: watchers take that leader's word for the present for up
/// to 600 ms after it was acknowledged. The library's own lease of a voter is shorter, the maximum above: with it a server that was
/// cut off from the leader alone, and has waited long ago, would lead too soon.
pub(super) const LEASE: Duration = Duration::from_millis(650);

/// Nobody asks to be elected within this after it has acknowledged a leader: a follower waits for a lease of the maximum, then for a
/// time-out of at least the minimum. Whom it asks goes by [`LEASE`]. What watchers believe goes by both: see
/// [`Times::are_safe`](common::witness::Times).
const SOONEST_MS: u64 = ELECTION_MAX_MS + ELECTION_MIN_MS;
const _: () = assert!(
    TIMES.election.as_millis() <= SOONEST_MS as u128 && TIMES.election.as_millis() <= LEASE.as_millis(),
    "signs of life would outlive their leader"
);

/// A snapshot travels and is installed within this.
const SNAPSHOT_MS: u64 = 10 * 60 * 1000;

/// The library's configuration.
pub(super) fn raft() -> Config {
    Config {
        cluster_name: "hub".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        enable_pre_vote: Some(true),
        install_snapshot_timeout: SNAPSHOT_MS,
        // Snapshots and purges are ours to trigger: by bytes, which the library can't see.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // Only a follower that needs purged entries gets a snapshot.
        replication_lag_threshold: u64::MAX / 2,
        max_payload_entries: 1024,
        // The followers' syncs run beside the leader's own.
        broadcast_submitted_on_append: Some(true),
        // A leader that has restarted is elected anew: in its old term it would lead at once, with a state that lacks what it had
        // acknowledged but not yet noted as committed, and its first reads would not wait for that.
        enable_leader_restore: Some(false),
        // A member that lost its data comes back empty: see `bootstrap`, which keeps that safe.
        allow_log_reversion: Some(true),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..Config::default()
    }
}

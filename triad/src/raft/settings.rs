//! The library's settings, and why they are what they are.

use common::witness::TIMES;
use openraft::{Config, SnapshotPolicy};

/// Followers wait 775 to 850 ms without a word from the leader (a lease of the maximum, then an election time-out) before they
/// ask for votes, so that writes pause for less than a second when a leader dies, and a machine that is busy for half a
/// second elects nobody.
///
/// The minimum is also how long a vote may take, the voter's sync behind what it is just writing included: on a slow disk,
/// a shorter one elects nobody at all.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MIN_MS: u64 = 350;
const ELECTION_MAX_MS: u64 = 425;

/// Nobody else is elected within this after a majority has acknowledged a leader: a follower waits for a lease of the maximum, then
/// for a time-out of at least the minimum. What watchers believe goes by it: see [`Times::are_safe`](common::witness::Times).
const SOONEST_MS: u64 = ELECTION_MAX_MS + ELECTION_MIN_MS;
const _: () =
    assert!(TIMES.election.as_millis() <= SOONEST_MS as u128, "signs of life would outlive their leader");

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

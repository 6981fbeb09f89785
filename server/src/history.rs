//! On a hub server: every 10 seconds all servers are asked how they are, and what they say is kept for the status page's graphs.

use admin::Admin;
use common::{
    clock::{Clock, SystemClock},
    config::Config,
    id::ServerId,
};
use history::{History, STEP_S, Sampler};
use proto::history::v1::history_server::{History as Read, HistoryServer};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;

/// Below the data folder.
const FOLDER: &str = "history";

const STEP_MS: u64 = STEP_S * 1000;

/// The history of a hub server, which goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    history: Arc<History>,
    _task: AbortOnDropHandle<()>,
}

impl Kept {
    /// Answers other servers.
    pub(crate) fn service(&self) -> HistoryServer<impl Read> {
        history::service(self.history.clone())
    }
}

/// `None` where `id` is no hub server.
pub(crate) fn start(config: &Config, id: &ServerId, data: &Path, admin: &Admin) -> Option<Kept> {
    let place = config.triad.iter().position(|it| it == id)?;
    let (history, turn) = (Arc::new(History::open(&data.join(FOLDER))), turn_ms(place, config.triad.len()));
    let task = tokio::spawn(keep(history.clone(), admin.clone(), turn));
    Some(Kept { history, _task: AbortOnDropHandle::new(task) })
}

async fn keep(history: Arc<History>, admin: Admin, turn_ms: u64) {
    let mut sampler = Sampler::default();
    loop {
        tokio::time::sleep(until_turn(SystemClock.unix_ms(), turn_ms)).await;
        // The step is that of the question: an answer may take until the next one has begun.
        let unix_s = SystemClock.unix_ms() / 1000;
        let (said, now) = (admin.statuses().await, SystemClock.now());
        let points = sampler.points(&said, now);
        let history = history.clone();
        // The next one waits for a disk that hangs, so nothing queues up.
        let written = tokio::task::spawn_blocking(move || history.keep(unix_s, &points, now)).await;
        if written.is_err() {
            return;
        }
    }
}

/// When in a step a hub server asks, in milliseconds: each at another time, and away from the ends, so that one that is a little late
/// is still in the same step.
fn turn_ms(place: usize, servers: usize) -> u64 {
    let (place, servers) = (place as u64, servers.max(1) as u64);
    (2 * place + 1) * STEP_MS / (2 * servers)
}

/// How long it is until the next turn. One that is near is left out: a sleep that ended a little early is not to make two.
fn until_turn(unix_ms: u64, turn_ms: u64) -> Duration {
    let wait = (STEP_MS + turn_ms - unix_ms % STEP_MS) % STEP_MS;
    Duration::from_millis(if wait < STEP_MS / 2 { wait + STEP_MS } else { wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_servers_ask_in_turn_once_in_each_step() {
        assert_eq!([0, 1, 2].map(|place| turn_ms(place, 3)), [1666, 5000, 8333]);
        assert_eq!(turn_ms(0, 1), 5000);
        let wait = |unix_ms| until_turn(unix_ms, 5000).as_millis();
        assert_eq!([0, 4999, 5000, 5001, 9999, 20_001].map(wait), [5000, 10_001, 10_000, 9999, 5001, 14_999]);
    }
}

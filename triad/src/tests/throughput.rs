//! How fast saves are acknowledged, in one process and unoptimised: a look, not a measure. `bench/` measures.

use super::harness::{TestHub, save};
use proto::hub::v1::{SessionWrite, WriteSessions, session_outcome::Outcome};
use std::time::{Duration, Instant};

/// `calls` at once, each with `saves` saves of one KB, `rounds` times: saves a second, and a call's median.
async fn rate(hub: &TestHub, calls: usize, saves: usize, rounds: u64) -> (f64, Duration) {
    let sessions = hub.sessions(hub.leader().await);
    let value = "x".repeat(1024);
    let began = Instant::now();
    let tasks: Vec<_> = (0..calls)
        .map(|call| {
            let (mut sessions, value) = (sessions.clone(), value.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for version in 0..rounds {
                    let write = |at| save(&format!("{calls}-{call}-{at}"), version, version + 1, &value);
                    let writes = (0..saves).map(|at| SessionWrite { write: Some(write(at)) }).collect();
                    let sent = Instant::now();
                    let answered = sessions.write(WriteSessions { writes }).await.unwrap().into_inner();
                    latencies.push(sent.elapsed());
                    let saved = |it: &proto::hub::v1::SessionOutcome| {
                        it.outcome == Some(Outcome::Version(version + 1))
                    };
                    assert!(answered.outcomes.iter().all(saved));
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    let rate = (latencies.len() * saves) as f64 / began.elapsed().as_secs_f64();
    (rate, latencies[latencies.len() / 2])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes seconds; run it to see the rates"]
async fn saves_are_acknowledged_at_some_rate() {
    let hub = TestHub::started(3).await;
    for (calls, saves, rounds) in [(1, 1, 2000), (64, 1, 200), (256, 1, 100), (4, 64, 200), (2, 128, 200)] {
        let (rate, median) = rate(&hub, calls, saves, rounds).await;
        println!("{calls} calls of {saves} in flight: {rate:.0}/s, p50 {median:?}");
        assert!(rate > 100.0, "{rate}");
    }
}

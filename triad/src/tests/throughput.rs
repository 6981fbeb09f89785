//! How fast saves are acknowledged, in one process and unoptimised: a look, not a measure. `bench/` measures.

use super::harness::{TestHub, save};
use proto::hub::v1::{SessionWrite, WriteSessions, session_outcome::Outcome};
use std::time::{Duration, Instant};

async fn rate(hub: &TestHub, in_flight: usize, per_task: u64) -> (f64, Duration) {
    let leader = hub.leader().await;
    let sessions = hub.sessions(leader);
    let value = "x".repeat(1024);
    let began = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let (mut sessions, value) = (sessions.clone(), value.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for version in 0..per_task {
                    let id = format!("{in_flight}-{task}");
                    let write = SessionWrite { write: Some(save(&id, version, version + 1, &value)) };
                    let sent = Instant::now();
                    let answered =
                        sessions.write(WriteSessions { writes: vec![write] }).await.unwrap().into_inner();
                    latencies.push(sent.elapsed());
                    assert_eq!(answered.outcomes[0].outcome, Some(Outcome::Version(version + 1)));
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
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    (rate, latencies[latencies.len() / 2])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes seconds; run it to see the rates"]
async fn saves_are_acknowledged_at_some_rate() {
    let hub = TestHub::started(3).await;
    for (in_flight, per_task) in [(1, 2000), (64, 200), (256, 100)] {
        let (rate, median) = rate(&hub, in_flight, per_task).await;
        println!("{in_flight} in flight: {rate:.0}/s, p50 {median:?}");
        assert!(rate > 100.0, "{rate}");
    }
}

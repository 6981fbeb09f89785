//! A leader whose wall clock is wrong.

use super::harness::{LIMIT, TestHub, save, until};
use crate::command::VERSION;
use common::clock::{Clock, ManualClock};
use proto::hub::v1::{session_outcome::Outcome, session_write::Write};
use std::{sync::Arc, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_a_day_ahead_ends_no_session() {
    let mut hub = TestHub::new(3);
    let right = Arc::new(ManualClock::new(1_700_000_000_000));
    let ahead = ManualClock::new(right.unix_ms() + 24 * 3600 * 1000);
    hub.clock = right.clone();
    hub.odd_clock = Some((0, Arc::new(ahead)));
    hub.start_all().await;
    hub.make_leader(1).await;
    for id in ["s", "t"] {
        let Write::Save(mut hourly) = save(id, 0, 1, "one") else { unreachable!() };
        hourly.timeout_ms = 10 * 1000;
        assert_eq!(hub.write(Write::Save(hourly)).await, Outcome::Version(1));
    }
    hub.make_leader(0).await;
    assert_eq!(
        hub.write(save("other", 0, 1, "a write with the new leader's time")).await,
        Outcome::Version(1)
    );
    let found = hub.load("s").await.expect("the session lives");
    assert_eq!(found.created_ms, right.unix_ms());
    assert_eq!(hub.write(save("t", 1, 2, "two")).await, Outcome::Version(2));
    let changed = hub.load("t").await.unwrap().accessed_ms;
    assert!(changed < right.unix_ms() + 60_000, "{changed}");
    // The next leader has heard the clocks: nobody was there for a day, and that ends no session either.
    until("all servers read everything", || {
        (0..3).all(|at| hub.triad(at).hub.node().view().read().state.commands() == VERSION)
    })
    .await;
    right.advance(DAY);
    hub.make_leader(1).await;
    let day_ms = u64::try_from(DAY.as_millis()).unwrap();
    until("the hub's time is that of the clocks", || {
        let state = &hub.triad(1).hub.node().view().read().state;
        state.time_ms() >= 1_700_000_000_000 + day_ms
    })
    .await;
    assert!(hub.load("s").await.is_some());
    // It expires in its time, with the hub there.
    let expired = async {
        while hub.load("s").await.is_some() {
            right.advance(Duration::from_secs(1));
            hub.write(save("other", 0, 1, "sent again and again")).await;
        }
    };
    tokio::time::timeout(LIMIT, expired).await.expect("the session has expired");
}

//! The promise as a property: no value that was answered is ever repeated or lost, whatever fails in between.

use super::*;
use common::config::OnHubLoss;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Count {
        on_b: bool,
    },
    Look {
        on_b: bool,
    },
    Hear {
        on_b: bool,
    },
    CutOff {
        on_b: bool,
    },
    Restart {
        on_b: bool,
    },
    LoseAnswer,
    Down,
    Up,
    /// A request that dies between the change and the answer.
    GiveUp {
        on_b: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let on = any::<bool>();
    prop_oneof![
        6 => on.prop_map(|on_b| Step::Count { on_b }),
        2 => on.prop_map(|on_b| Step::Look { on_b }),
        2 => on.prop_map(|on_b| Step::Hear { on_b }),
        1 => on.prop_map(|on_b| Step::CutOff { on_b }),
        1 => on.prop_map(|on_b| Step::Restart { on_b }),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::Down),
        2 => Just(Step::Up),
        1 => on.prop_map(|on_b| Step::GiveUp { on_b }),
    ]
}

/// An answer that has left without the hub is the one exception, and `on-hub-loss: fail` excludes it.
async fn run(steps: Vec<Step>) {
    let session = config(|it| it.on_hub_loss = OnHubLoss::Fail);
    let (hub, mut a, mut b) = pair(&session);
    let mut user = User::default();
    let mut answered = 0;
    // Values of requests whose answers were not given may or may not have been saved.
    for (place, step) in steps.iter().copied().enumerate() {
        let server = |on_b| if on_b { &b } else { &a };
        match step {
            Step::Count { on_b } => {
                if let Ok(count) = server(on_b).count(&mut user).await {
                    assert!(count > answered, "step {place}: {count} answered after {answered}: {steps:?}");
                    answered = count;
                }
            }
            // Reading may be stale for as long as an event takes, writing never.
            Step::Look { on_b } => {
                server(on_b).hears();
                if let Ok(count) = server(on_b).look(&mut user).await {
                    assert!(count >= answered, "step {place}: {count} seen after {answered}: {steps:?}");
                }
            }
            Step::Hear { on_b } => {
                server(on_b).hears();
                server(on_b).link_is_current();
            }
            Step::CutOff { on_b } => server(on_b).is_cut_off(),
            Step::Restart { on_b: true } => b = Server::new("b", 1, &hub, session.clone()),
            Step::Restart { on_b: false } => a = Server::new("a", 0, &hub, session.clone()),
            Step::LoseAnswer => hub.lose_an_answer(),
            Step::Down => hub.set_down(true),
            Step::Up => hub.set_down(false),
            Step::GiveUp { on_b } => {
                let guard = server(on_b).begin(&user);
                if let Ok(count) = read(&guard, "count").await {
                    let _ = write(&guard, "count", count + 1).await;
                }
            }
        }
    }
}

/// With `on-hub-loss: serve` it holds as well, as long as events arrive, a loss ends before another server is asked, and no
/// server is killed with answers that the hub lacks.
async fn run_serving(steps: Vec<Step>) {
    let session = config(|it| it.on_hub_loss = OnHubLoss::Serve);
    let (hub, mut a, mut b) = pair(&session);
    let mut user = User::default();
    let mut answered = 0;
    let mut down = false;
    for (place, step) in steps.iter().copied().enumerate() {
        for server in [&a, &b] {
            server.hears();
            if !down {
                assert_eq!(server.sessions.save_all(Duration::from_secs(60)).await, 0);
            }
        }
        let server = |on_b| if on_b { &b } else { &a };
        match step {
            Step::Count { on_b } => {
                if let Ok(count) = server(on_b).count(&mut user).await {
                    assert!(count > answered, "step {place}: {count} answered after {answered}: {steps:?}");
                    answered = count;
                }
            }
            Step::Look { on_b } => {
                if let Ok(count) = server(on_b).look(&mut user).await {
                    assert!(count >= answered, "step {place}: {count} seen after {answered}: {steps:?}");
                }
            }
            Step::Hear { on_b } if !down => server(on_b).link_is_current(),
            Step::CutOff { on_b } => server(on_b).is_cut_off(),
            Step::Restart { on_b } if !down => {
                let restarted = Server::new(server(on_b).name, u16::from(on_b), &hub, session.clone());
                *(if on_b { &mut b } else { &mut a }) = restarted;
            }
            Step::LoseAnswer => hub.lose_an_answer(),
            Step::Down => {
                down = true;
                hub.set_down(true);
                a.is_cut_off();
                b.is_cut_off();
            }
            Step::Up => {
                down = false;
                hub.set_down(false);
            }
            Step::Hear { .. } | Step::Restart { .. } | Step::GiveUp { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_answered_value_is_repeated_or_lost_while_apps_keep_serving(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run_serving(steps));
    }

    #[test]
    fn no_answered_value_is_repeated_or_lost(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}

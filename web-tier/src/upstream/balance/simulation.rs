//! A thousand servers and one worker, in simulated time: skewed latencies, deaths and returns. The seeds are fixed; a failed
//! assertion prints its own.

use super::{budget::RetryBudget, *};
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

const SERVERS: usize = 1000;
const SEEDS: [u64; 2] = [1, 0x5eed];
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A server of the simulation.
#[derive(Debug, Clone, Default)]
struct Simulated {
    millis: u32,
    dead: bool,
    /// Requests that it has answered.
    answered: u32,
    /// When it was probed.
    probes: Vec<Instant>,
    /// A probe has neither an answer nor ended.
    probing: bool,
}

#[derive(Debug)]
struct World {
    seed: u64,
    start: Instant,
    now: Instant,
    chance: Draw,
    balance: Balance,
    budget: RetryBudget,
    strategy: Strategy,
    servers: Vec<Simulated>,
    /// How many answers of a thousand live on after their head, and how long: streams, tunnels and downloads.
    streams: (usize, Duration),
    /// When requests in flight have their answer's head, or end: the time, the server, the request's place in `tickets`,
    /// whether the head has come before.
    due: BinaryHeap<Reverse<(Instant, usize, usize, bool)>>,
    tickets: Vec<Option<Ticket>>,
    free: Vec<usize>,
    requests: u32,
    retries: u32,
    /// Requests that no server has answered.
    lost: u32,
    /// Of all answers.
    waited: Duration,
}

impl World {
    fn new(seed: u64, strategy: Strategy, millis: impl Fn(usize) -> u32, warmup_time: Duration) -> Self {
        let backend = |index| Backend {
            id: format!("app-{index}").into(),
            weight: 100,
            recover_time: SECOND * 15,
            busy_recover_time: SECOND * 15,
            warmup_time,
            backup: false,
        };
        let start = Instant::now();
        Self {
            seed,
            start,
            now: start,
            chance: Draw::new(seed, &[1; 1000]),
            balance: Balance::of((0..SERVERS).map(backend), seed),
            budget: RetryBudget::new(start),
            strategy,
            servers: (0..SERVERS)
                .map(|it| Simulated { millis: millis(it), ..Simulated::default() })
                .collect(),
            streams: (0, Duration::ZERO),
            due: BinaryHeap::new(),
            tickets: Vec::new(),
            free: Vec::new(),
            requests: 0,
            retries: 0,
            lost: 0,
            waited: Duration::ZERO,
        }
    }

    /// `rate` requests a second for some time.
    fn run(&mut self, rate: u32, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += SECOND / rate;
            self.end_due();
            self.request();
        }
    }

    fn end_due(&mut self) {
        while let Some(Reverse((at, index, place, has_head))) = self.due.peek().copied()
            && at <= self.now
        {
            self.due.pop();
            let mut ticket = self.tickets[place].take().unwrap();
            if !has_head {
                self.balance.answered(index, at, &mut ticket, 200);
                self.servers[index].probing &= ticket.probe.is_none();
                let (per_mille, time) = self.streams;
                if per_mille > 0 && self.chance.next() < per_mille {
                    self.tickets[place] = Some(ticket);
                    self.due.push(Reverse((at + time, index, place, true)));
                    continue;
                }
            }
            self.free.push(place);
            self.balance.server(index).end(ticket);
        }
    }

    fn request(&mut self) {
        self.requests += 1;
        self.budget.request(self.now);
        let mut tried = Tried::default();
        for _ in 0..TRIES_MAX {
            let Some(index) = self.balance.choose(self.now, None, self.strategy, tried) else { break };
            let ticket = self.balance.server(index).begin(self.now);
            if ticket.probe.is_some() {
                assert!(!self.servers[index].probing, "seed {}: two probes of {index} at once", self.seed);
                self.servers[index].probing = true;
                self.servers[index].probes.push(self.now);
            }
            if !self.servers[index].dead {
                return self.serve(index, ticket);
            }
            self.balance.server(index).connect_failed(self.now);
            self.servers[index].probing &= ticket.probe.is_none();
            self.balance.server(index).end(ticket);
            tried.add(index);
            if !self.budget.try_retry(self.now) {
                break;
            }
            self.retries += 1;
        }
        self.lost += 1;
    }

    /// It takes between a half and one and a half times the server's usual time.
    fn serve(&mut self, index: usize, ticket: Ticket) {
        let server = &mut self.servers[index];
        server.answered += 1;
        let takes = MS * server.millis * (500 + self.chance.next() as u32) / 1000;
        self.waited += takes;
        let place = self.free.pop().unwrap_or_else(|| {
            self.tickets.push(None);
            self.tickets.len() - 1
        });
        self.tickets[place] = Some(ticket);
        self.due.push(Reverse((self.now + takes, index, place, false)));
    }

    fn forget_counts(&mut self) {
        self.servers.iter_mut().for_each(|it| it.answered = 0);
        (self.requests, self.retries, self.lost, self.waited) = (0, 0, 0, Duration::ZERO);
    }

    /// The answers of each server among `which`, and the least and the most of them, in parts of what each would get if all
    /// got the same.
    fn shares(&self, which: impl Fn(usize) -> bool) -> (f64, f64, f64) {
        let all: u32 = self.servers.iter().map(|it| it.answered).sum();
        let fair = f64::from(all) / SERVERS as f64;
        let of: Vec<_> = (0..SERVERS)
            .filter(|it| which(*it))
            .map(|it| f64::from(self.servers[it].answered) / fair)
            .collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        (of.iter().copied().fold(f64::MAX, f64::min), mean, of.iter().copied().fold(0.0, f64::max))
    }

    fn mean_wait(&self) -> Duration {
        self.waited / (self.requests - self.lost)
    }
}

#[test]
fn equals_get_equal_shares() {
    for (seed, strategy, least, most) in [
        (SEEDS[0], Strategy::RoundRobin, 0.97, 1.03),
        (SEEDS[0], Strategy::LeastConnection, 0.5, 1.6),
        (SEEDS[1], Strategy::LeastConnection, 0.5, 1.6),
        (SEEDS[0], Strategy::Adaptive, 0.4, 1.7),
        (SEEDS[1], Strategy::Adaptive, 0.4, 1.7),
    ] {
        let mut world = World::new(seed, strategy, |_| 50, Duration::ZERO);
        world.run(20_000, SECOND * 2);
        let (min, _, max) = world.shares(|_| true);
        assert!(min >= least && max <= most, "seed {seed}, {strategy:?}: {min:.2} to {max:.2}");
        assert_eq!((world.lost, world.retries), (0, 0));
    }
}

#[test]
fn slow_servers_get_less_and_never_nothing() {
    // Every tenth takes ten times as long.
    let slow = |index: usize| index.is_multiple_of(10);
    let run = |seed, strategy| {
        let mut world = World::new(seed, strategy, |it| if slow(it) { 200 } else { 20 }, Duration::ZERO);
        world.run(20_000, SECOND);
        world.forget_counts();
        world.run(20_000, SECOND * 2);
        world
    };
    let turns = run(SEEDS[0], Strategy::RoundRobin).mean_wait();
    let few = run(SEEDS[0], Strategy::LeastConnection).mean_wait();
    for seed in SEEDS {
        let world = run(seed, Strategy::Adaptive);
        let ((_, slow_mean, _), (fast_least, _, fast_most)) =
            (world.shares(slow), world.shares(|it| !slow(it)));
        let waits = (world.mean_wait(), few, turns);
        assert!(waits.0 < few && few < turns && waits.0 < turns * 3 / 4, "seed {seed}: {waits:?}");
        assert!(slow_mean < 0.5, "seed {seed}: {slow_mean:.2}");
        assert!(fast_least > 0.4 && fast_most < 1.9, "seed {seed}: {fast_least:.2} to {fast_most:.2}");
        // Where nearly all are idle the slow ones win no comparison until what was seen of them has faded.
        let mut world = world;
        world.run(1000, SECOND * 10);
        world.forget_counts();
        world.run(1000, SECOND * 30);
        let (least, ..) = world.shares(slow);
        assert!(least > 0.0, "seed {seed}: {least:.2}");
    }
}

#[test]
fn the_dead_cost_no_request_are_probed_once_a_window_and_come_back_warm() {
    let died = |index: usize| index % 5 == 3;
    for (seed, strategy) in [(SEEDS[0], Strategy::Adaptive), (SEEDS[1], Strategy::RoundRobin)] {
        let mut world = World::new(seed, strategy, |_| 20, SECOND * 16);
        world.run(4000, SECOND);
        (0..SERVERS).filter(|it| died(*it)).for_each(|it| world.servers[it].dead = true);
        world.run(4000, SECOND);
        // While nobody knows yet, one in 125 chances on three of them.
        assert!(world.lost < 20, "seed {seed}: {}", world.lost);
        world.lost = 0;
        world.run(4000, SECOND * 7);
        assert_eq!(world.lost, 0, "seed {seed}: others are there");
        let windows: Vec<_> = world.servers.iter().filter(|it| it.dead).map(|it| it.probes.clone()).collect();
        for probes in &windows {
            // A window of 1 s, one of 2 s, one of 4 s.
            assert!(probes.len() <= 3, "seed {seed}: {probes:?}");
            let gaps: Vec<_> = probes.windows(2).map(|two| two[1] - two[0]).collect();
            assert!(
                gaps.iter().zip([2, 4]).all(|(gap, least)| *gap >= SECOND * least),
                "seed {seed}: {gaps:?}"
            );
        }
        assert!(windows.iter().filter(|it| !it.is_empty()).count() > 190, "seed {seed}");
        world.servers.iter_mut().for_each(|it| it.dead = false);
        // All windows end within 8 s; the warm-up of 16 s follows.
        let mut shares = Vec::new();
        for _ in 0..8 {
            world.forget_counts();
            world.run(4000, SECOND * 4);
            shares.push(world.shares(died).1);
        }
        let rises = shares.windows(2).all(|two| two[1] > two[0] - 0.08);
        assert!(rises && shares[0] < 0.4 && shares[7] > 0.9, "seed {seed}: {shares:.2?}");
        assert_eq!(world.lost, 0, "seed {seed}");
    }
}

#[test]
fn servers_whose_probe_became_a_stream_are_probed_again_when_they_fail_again() {
    let stumbles = |index: usize| index % 5 == 3;
    for seed in SEEDS {
        let mut world = World::new(seed, Strategy::RoundRobin, |_| 20, Duration::ZERO);
        // Half of all answers, those of probes too, outlive the test.
        world.streams = (500, SECOND * 3600);
        for _ in 0..3 {
            world.run(4000, SECOND);
            (0..SERVERS).filter(|it| stumbles(*it)).for_each(|it| world.servers[it].dead = true);
            world.run(4000, SECOND / 2);
            world.servers.iter_mut().for_each(|it| it.dead = false);
            world.run(4000, SECOND * 2);
            world.forget_counts();
            world.run(4000, SECOND * 4);
            let (least, mean, most) = world.shares(stumbles);
            assert!(least > 0.8 && most < 1.2, "seed {seed}: {least:.2} to {most:.2}, {mean:.2} on average");
            assert_eq!(world.lost, 0, "seed {seed}");
        }
        let probes = (0..SERVERS).filter(|it| stumbles(*it)).map(|it| world.servers[it].probes.len());
        assert!(probes.sum::<usize>() > 500, "seed {seed}: each time all are probed");
    }
}

#[test]
fn a_cluster_that_dies_gets_a_fifth_more_and_the_living_serve_on() {
    for seed in SEEDS {
        let mut world = World::new(seed, Strategy::Adaptive, |_| 20, Duration::ZERO);
        world.run(2000, SECOND * 2);
        assert_eq!(world.retries, 0);
        world.servers.iter_mut().skip(10).for_each(|it| it.dead = true);
        for second in 1..=8 {
            let before = world.lost;
            world.run(2000, SECOND);
            let allowed = world.requests / 5 + 30;
            assert!(world.retries <= allowed, "seed {seed}: {} retries of {}", world.retries, world.requests);
            if second == 8 {
                assert!(
                    world.lost - before < 50,
                    "seed {seed}: {} lost in the last second",
                    world.lost - before
                );
            }
        }
        assert!(world.start + SECOND * 10 <= world.now + MS);
    }
}

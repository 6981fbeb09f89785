//! Tests of the time-outs: time is an argument.

use super::*;

const LIMITS: Limits = Limits {
    keepalive: Duration::from_secs(15),
    head: Duration::from_secs(10),
    socket: Duration::from_secs(65),
    rate_min: 240,
    shortest: Duration::from_secs(10),
};

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn verdict(progress: &Progress, at: Instant) -> Verdict {
    progress.verdict(at, &LIMITS)
}

#[test]
fn a_head_has_its_time_however_it_trickles() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.read(after(t, 9));
    assert_eq!(verdict(&progress, after(t, 9)), Verdict::Wait(after(t, 10)));
    assert_eq!(verdict(&progress, after(t, 10)), Verdict::Late);
}

#[test]
fn an_idle_connection_has_its_time_until_a_head_begins() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, false);
    progress.answering(t);
    progress.answered(after(t, 1));
    assert_eq!(verdict(&progress, after(t, 15)), Verdict::Wait(after(t, 16)));
    assert_eq!(verdict(&progress, after(t, 16)), Verdict::Idle);
    progress.read(after(t, 15));
    assert_eq!(verdict(&progress, after(t, 16)), Verdict::Wait(after(t, 25)));
    assert_eq!(verdict(&progress, after(t, 25)), Verdict::Late);
}

#[test]
fn a_silent_server_is_told_before_and_broken_off_within_an_answer() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, false);
    assert!(
        matches!(verdict(&progress, after(t, 10_000)), Verdict::Wait(_)),
        "connecting has its own time-out"
    );
    progress.forwarded(t, Duration::from_secs(600));
    assert_eq!(verdict(&progress, after(t, 600)), Verdict::ServerSilent);
    progress.server_moved(after(t, 599));
    progress.answering(after(t, 599));
    assert_eq!(verdict(&progress, after(t, 1198)), Verdict::Wait(after(t, 1199)));
    assert_eq!(verdict(&progress, after(t, 1199)), Verdict::AnswerStuck);
}

#[test]
fn a_stuck_upload_is_the_clients_only_while_the_proxy_reads() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, true);
    progress.forwarded(t, Duration::from_secs(600));
    // The server takes nothing, so the proxy does not read.
    assert!(matches!(verdict(&progress, after(t, 65)), Verdict::Wait(_)));
    progress.read_waits(after(t, 60));
    assert!(
        matches!(verdict(&progress, after(t, 124)), Verdict::Wait(_)),
        "its turn begins when the server's ends"
    );
    assert_eq!(verdict(&progress, after(t, 125)), Verdict::Late);
    progress.read(after(t, 120));
    progress.read_waits(after(t, 120));
    assert!(matches!(verdict(&progress, after(t, 125)), Verdict::Wait(_)));
    // At the end of the body it is the server's turn.
    progress.uploaded();
    assert_eq!(verdict(&progress, after(t, 720)), Verdict::ServerSilent);
}

#[test]
fn who_waits_to_be_told_to_go_on_is_not_late() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, true);
    progress.holds_back();
    progress.forwarded(t, Duration::from_secs(600));
    progress.read_waits(t);
    assert!(matches!(verdict(&progress, after(t, 65)), Verdict::Wait(_)), "the server has not said it yet");
    assert_eq!(verdict(&progress, after(t, 600)), Verdict::ServerSilent, "it is its fault");
    progress.told_to_go_on(after(t, 100));
    progress.read_waits(after(t, 100));
    assert_eq!(verdict(&progress, after(t, 164)), Verdict::Wait(after(t, 165)));
    assert_eq!(verdict(&progress, after(t, 165)), Verdict::Late);
}

#[test]
fn a_client_that_takes_nothing_is_stuck_in_any_phase() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, false);
    progress.forwarded(t, Duration::from_secs(600));
    progress.answering(t);
    progress.write_waits();
    assert_eq!(verdict(&progress, after(t, 65)), Verdict::ClientStuck);
    progress.wrote(after(t, 64));
    assert!(matches!(verdict(&progress, after(t, 65)), Verdict::Wait(_)));
}

/// A body of which `bytes` come every `millis`, for so many seconds; when it is late, if it is.
fn uploads(
    progress: &Progress,
    start: Instant,
    (bytes, millis): (usize, u64),
    seconds: u64,
) -> Option<Instant> {
    for step in 1..=seconds * 1000 / millis {
        let now = start + Duration::from_millis(step * millis);
        if verdict(progress, now) == Verdict::Late {
            return Some(now);
        }
        progress.body_came(now, bytes, || LIMITS.rate_min);
        progress.read_waits(now);
    }
    None
}

fn asked(t: Instant) -> Progress {
    let progress = Progress::new(t);
    progress.asked(t, true);
    progress.forwarded(t, Duration::from_secs(600));
    progress.read_waits(t);
    progress
}

#[test]
fn a_body_has_a_least_rate() {
    let t = Instant::now();
    // A byte is worth 4 ms.
    let late = uploads(&asked(t), t, (1, 1500), 3600).expect("it is late");
    assert!(late > after(t, 64) && late < after(t, 68), "{:?}", late - t);
    assert_eq!(uploads(&asked(t), t, (100, 1000), 100), None, "it may be behind for a while");
    assert!(uploads(&asked(t), t, (100, 1000), 200).is_some());
    assert_eq!(uploads(&asked(t), t, (250, 1000), 3600), None);
    // What came fast makes up for what does not, but is worth no more than that.
    let progress = asked(t);
    assert_eq!(uploads(&progress, t, (15_000, 60_000), 600), None, "pauses of a minute");
    assert!(uploads(&progress, after(t, 600), (1, 1000), 100).is_some());
}

#[test]
fn the_time_of_the_server_and_of_conversations_is_not_the_clients() {
    let t = Instant::now();
    let progress = asked(t);
    progress.streams();
    assert_eq!(uploads(&progress, t, (1, 30_000), 3600), None, "on a stream");
    let progress = asked(t);
    progress.answering(t);
    assert_eq!(uploads(&progress, t, (1, 30_000), 3600), None, "while the server answers");
    assert_eq!(progress.kept_waiting(after(t, 3600)), None);
    let progress = Progress::new(t);
    progress.asked(t, true);
    // The proxy does not read, as the server does not take it.
    for step in 1..100 {
        progress.body_came(after(t, step * 10), 1, || LIMITS.rate_min);
    }
    assert_eq!((progress.time_behind(), progress.kept_waiting(after(t, 2000))), (Duration::ZERO, None));
}

#[test]
fn an_answer_has_the_same_rate() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, false);
    progress.answering(t);
    let takes = |from: Instant, bytes: usize, seconds: u64| {
        (1..=seconds).map(|second| after(from, second)).find(|now| {
            progress.write_waits();
            let stuck = verdict(&progress, *now) == Verdict::ClientStuck;
            progress.took(*now, bytes, || LIMITS.rate_min);
            stuck
        })
    };
    assert_eq!(takes(t, 250, 600), None);
    assert!(takes(after(t, 600), 1, 70).is_some());
    progress.write_waits();
    assert!(progress.kept_waiting(after(t, 671)) > Some(LIMITS.socket));
    // The next request is another one.
    progress.answered(after(t, 671));
    progress.asked(after(t, 671), true);
    progress.read_waits(after(t, 671));
    assert_eq!(progress.kept_waiting(after(t, 672)), Some(Duration::from_secs(1)));
}

#[test]
fn the_timer_is_never_set_past_the_shortest_time_out() {
    let t = Instant::now();
    let progress = Progress::new(t);
    progress.asked(t, false);
    progress.forwarded(t, Duration::from_secs(600));
    assert_eq!(verdict(&progress, t), Verdict::Wait(after(t, 10)));
}

#[test]
fn a_client_that_has_said_its_last_is_not_waited_for_as_long_as_a_server_may_take() {
    let t = Instant::now();
    let silence = Duration::from_secs(600);
    for begun in [false, true] {
        let progress = Progress::new(t);
        progress.asked(t, false);
        progress.forwarded(t, silence);
        if begun {
            progress.answering(t);
        }
        assert!(matches!(verdict(&progress, after(t, 65)), Verdict::Wait(_)));
        progress.client_ended();
        progress.server_moved(after(t, 60));
        assert!(matches!(verdict(&progress, after(t, 124)), Verdict::Wait(_)));
        assert_eq!(verdict(&progress, after(t, 125)), Verdict::ClientStuck);
        // A server that has to be faster is the one that is late.
        progress.forwarded(after(t, 125), Duration::from_secs(5));
        let late = if begun { Verdict::AnswerStuck } else { Verdict::ServerSilent };
        assert_eq!(verdict(&progress, after(t, 130)), late);
        progress.tunnelling(after(t, 130));
        progress.forwarded(after(t, 130), silence);
        assert!(matches!(verdict(&progress, after(t, 200)), Verdict::Wait(_)), "a tunnel has two sides");
    }
}

#[test]
fn a_connection_is_spare_when_nobody_has_asked_for_a_second() {
    let t = Instant::now();
    let progress = Progress::new(t);
    let spare = |millis| progress.is_spare(t + Duration::from_millis(millis));
    assert!(!spare(999) && spare(1_000), "its first head");
    progress.asked(after(t, 1), false);
    assert!(!spare(60_000), "it waits for an answer");
    progress.answering(after(t, 2));
    assert!(!spare(60_000));
    progress.answered(after(t, 3));
    assert!(!spare(3_999) && spare(4_000), "between requests");
    progress.read(after(t, 5));
    assert!(!spare(5_999) && spare(6_000), "a head that trickles");
    progress.tunnelling(after(t, 7));
    assert!(!spare(60_000));
}

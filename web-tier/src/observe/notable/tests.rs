//! What is kept of requests, and what is cut out of it.

use super::*;
use crate::http1::HeadLimits;

const LIMITS: HeadLimits = HeadLimits { count: 100, bytes: 64 * 1024, target: 16 * 1024 };

fn head(target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n");
    head.parse(text.as_bytes(), &LIMITS).unwrap().unwrap();
    head.noted.id.extend_from_slice(b"0123");
    head.noted.server = Some("app-a".into());
    head
}

fn kept(target: &str, status: u16, why: &'static str, taken: Duration) -> Kept {
    let status = StatusCode::from_u16(status).unwrap();
    Kept::of(&head(target), status, Cow::Borrowed(why), taken, UNIX_EPOCH)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn one_kind_of_failure_pushes_no_other_kind_out() {
    let notable = Notable::new(Instant::now());
    notable.fail(kept("/rare", 502, "the server broke off before it answered", millis(1)));
    (0..10_000).for_each(|_| notable.fail(kept("/often", 503, "no server", millis(1))));
    let failed = notable.report(Instant::now()).failed;
    assert_eq!((failed.len(), failed[0].path.as_str()), (1 + ALIKE_MAX, "/rare"));
    for status in 500..600 {
        notable.fail(kept("/each", status, "the server answers so", millis(1)));
    }
    assert_eq!(notable.report(Instant::now()).failed.len(), FAILED_MAX);
}

#[test]
fn the_slowest_of_two_windows_are_kept_and_the_others_cost_nothing() {
    let start = Instant::now();
    let notable = Notable::new(start);
    (0..1000).for_each(|ms| notable.slow(kept("/", 200, "", millis(ms))));
    assert_eq!(notable.threshold.get(), millis(980));
    let times = |now| {
        let report = notable.report(now);
        let us: Vec<_> = report.slow.iter().map(|it| it.taken_us / 1000).collect();
        (us, report.passed)
    };
    let (slow, passed) = times(start + millis(10));
    assert_eq!((slow.len(), slow[0], slow[19], passed), (SLOW_MAX, 999, 980, millis(10)));
    notable.tick(start + WINDOW);
    assert_eq!(notable.threshold.get(), Duration::ZERO, "of the next window each may be one of the slowest");
    notable.slow(kept("/", 200, "", millis(7)));
    let (slow, passed) = times(start + WINDOW + millis(10));
    assert_eq!((slow.len(), slow[0], passed), (SLOW_MAX + 1, 7, WINDOW + millis(10)));
    notable.tick(start + WINDOW * 2);
    assert_eq!(times(start + WINDOW * 2).0, [7]);
}

#[test]
fn a_path_is_told_without_query_and_session_in_a_bounded_length() {
    let told = |target: &str| kept(target, 500, "", millis(1)).told();
    let told_path = |target: &str| told(target).path;
    assert_eq!(told_path("/cart;jsessionid=aaSecret/x?card=4111"), "/cart;jsessionid=***/x");
    assert_eq!(told_path("/cart%3BJSESSIONID=aaSecret"), "/cart%3BJSESSIONID=***");
    assert_eq!(told_path("/<script>alert(1)</script>"), "/%3Cscript%3Ealert(1)%3C/script%3E");
    let long = told_path(&format!("/{}", "x".repeat(10_000)));
    assert!(long.len() <= PATH_MAX + 3 && long.ends_with('…'));
    let all = told("/cart?card=4111");
    assert_eq!(
        (all.id.as_str(), all.method.as_str(), all.host.as_str(), all.server.as_str(), all.status),
        ("0123", "GET", "shop", "app-a", 500)
    );
    assert_eq!(&*cut("a\u{1b}[2J\nb", 100), "a\\u{1b}[2J\\u{a}b");
}

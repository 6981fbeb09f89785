//! What is kept, what is told of it, and how an event becomes a line.

use super::*;
use tracing_subscriber::layer::SubscriberExt;

fn line(app: &str, text: &str) -> LogLine {
    let target = if app.is_empty() { "triad" } else { APP };
    let (target, app, text) = (target.to_owned(), app.to_owned(), text.to_owned());
    LogLine { sequence: 0, time_ms: 0, level: LogLevel::Info, target, app, text }
}

fn texts(logs: &RecentLogs, filter: &LogFilter, max: usize) -> Vec<String> {
    logs.tail(filter, max).lines.iter().map(|it| it.text.clone()).collect()
}

#[test]
fn the_newest_lines_are_told_oldest_first_and_who_goes_on_misses_none() {
    let logs = RecentLogs::new(1000, 100, 1 << 20);
    (0..10).for_each(|number| logs.push(line("", &format!("line {number}"))));
    let all = logs.tail(&LogFilter::default(), 3);
    assert_eq!(all.lines.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1007, 1008, 1009]);
    assert_eq!((all.first, all.last), (1000, 1009));
    let mut filter = LogFilter { after: 1003, ..LogFilter::default() };
    let mut seen = Vec::new();
    loop {
        let tail = logs.tail(&filter, 4);
        if tail.lines.is_empty() {
            break;
        }
        seen.extend(tail.lines.iter().map(|it| it.sequence));
        filter.after = tail.last;
    }
    assert_eq!(seen, [1004, 1005, 1006, 1007, 1008, 1009]);
}

#[test]
fn a_filter_looks_at_level_app_and_text() {
    let logs = RecentLogs::new(1, 100, 1 << 20);
    logs.push(line("", "The disk is FULL"));
    logs.push(LogLine { level: LogLevel::Error, ..line("", "the hub has failed") });
    logs.push(line("shop", "a disk of music was sold"));
    let of = |filter: LogFilter| texts(&logs, &filter, 10);
    assert_eq!(of(LogFilter { text: "full".into(), ..LogFilter::default() }), ["The disk is FULL"]);
    assert_eq!(of(LogFilter { text: "TRIAD".into(), ..LogFilter::default() }).len(), 2, "by its target");
    assert_eq!(of(LogFilter { app: "shop".into(), ..LogFilter::default() }), ["a disk of music was sold"]);
    let least = Some(LogLevel::Warn);
    assert_eq!(of(LogFilter { least, ..LogFilter::default() }), ["the hub has failed"]);
}

#[test]
fn who_writes_the_most_loses_the_oldest_first() {
    let logs = RecentLogs::new(1, 50, 1 << 20);
    (0..5).for_each(|number| logs.push(line("", &format!("own {number}"))));
    (0..5).for_each(|number| logs.push(line("quiet", &format!("quiet {number}"))));
    (0..10_000).for_each(|number| logs.push(line("loud", &format!("loud {number}"))));
    let of = |app: &str| texts(&logs, &LogFilter { app: app.into(), ..LogFilter::default() }, 1000);
    assert_eq!((of("quiet").len(), of("loud").len(), of("").len()), (5, 40, 50));
    assert_eq!(of("loud").last().unwrap(), "loud 9999");
    let small = RecentLogs::new(1, 1000, 10 * OVERHEAD);
    (0..1000).for_each(|_| small.push(line("", &"x".repeat(OVERHEAD))));
    assert!(texts(&small, &LogFilter::default(), 1000).len() < 6, "the bytes are bounded too");
}

#[test]
fn an_event_becomes_a_line_without_control_characters() {
    let logs: &'static RecentLogs = Box::leak(Box::new(RecentLogs::new(1, 100, 1 << 20)));
    let subscriber = tracing_subscriber::registry().with(Keeper(logs));
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(target: "triad::log", server = "app-a", bytes = 7, why = ?"a\"b", "a disk\nis \u{1b}[31mfull\u{202e}");
        tracing::info!(target: "app", app = %"shop", "{}", "bought");
        tracing::info!(target: "app_tier::process", app = "shop", "started");
        tracing::debug!(target: "h2::codec", "a frame with a cookie");
        tracing::info!(target: "h2::codec", "closed");
        tracing::info!(target: "triad", "{}", "é".repeat(TEXT_MAX));
    });
    let lines = logs.tail(&LogFilter::default(), 10).lines;
    let shown: Vec<_> = lines
        .iter()
        .map(|it| (it.level.name(), it.target.as_str(), it.app.as_str(), it.text.as_str()))
        .collect();
    assert_eq!(
        shown[..4],
        [
            (
                "warn",
                "triad::log",
                "",
                "a disk\\u{a}is \\u{1b}[31mfull\\u{202e} server=app-a bytes=7 why=\"a\\\"b\""
            ),
            ("info", "app", "shop", "bought"),
            ("info", "app_tier::process", "shop", "started app=shop"),
            ("info", "h2::codec", "", "closed"),
        ]
    );
    assert!(shown[4].3.len() <= TEXT_MAX + 4 && shown[4].3.ends_with('…'));
}

#[test]
fn an_app_is_meant_by_its_name_with_its_host_or_by_its_tag() {
    for words in ["default/shop", "shop", "production/webapp/default/shop"] {
        assert!(is_app("default/shop", words), "{words}");
    }
    for words in
        ["op", "shop-1.2", "fault/shop", "webapp/default/shop", "other/shop", "production/webapp/other/shop"]
    {
        assert!(!is_app("default/shop", words), "{words}");
    }
}

//! Lines, as they are written.

use super::*;
use crate::http1::{HeadLimits, RequestHead};
use common::config::{AccessLog as Settings, AccessLogFormat, LogFormat};
use expect_test::{Expect, expect};
use http::StatusCode;
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: HeadLimits = HeadLimits { count: 100, bytes: 32 * 1024, target: 16 * 1024 };

const NOW: Duration = Duration::from_millis(1_795_389_290_007);

fn read(record: &mut Record, head: &[u8]) {
    let mut parsed = RequestHead::default();
    parsed.parse(head, &LIMITS).unwrap().unwrap();
    record.head(&parsed, &[]);
}

/// The line of a request that began 1234 µs ago.
fn line(format: &AccessLogFormat, fill: impl FnOnce(&mut Record)) -> String {
    let (start, mut record) = (Instant::now(), Record::default());
    record.begin(start);
    fill(&mut record);
    if record.answered.is_some() {
        record.answered = Some(start + Duration::from_micros(1000));
    }
    let mut out = Vec::new();
    let stamp = Stamp::new(SystemTime::UNIX_EPOCH + NOW);
    let end = start + Duration::from_micros(1234);
    format::put(&mut out, format, &Line::new(&stamp, "192.0.2.7", &record, end));
    String::from_utf8(out).unwrap()
}

fn check(fill: impl Fn(&mut Record), common: &Expect, combined: &Expect, json: &Expect) {
    common.assert_eq(&line(&AccessLogFormat::Common, &fill));
    combined.assert_eq(&line(&AccessLogFormat::Combined, &fill));
    json.assert_eq(&line(&AccessLogFormat::Json, &fill));
}

#[test]
fn a_plain_request() {
    let fill = |record: &mut Record| {
        read(
            record,
            b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nReferer: http://shop.example/\r\nUser-Agent: curl/8\r\n\r\n",
        );
        record.ids(b"0123", b"4bf9");
        record.tried(&"app-b".into());
        record.tried(&"app-a".into());
        record.head_put(100);
        record.answered(StatusCode::OK);
        record.sent(40);
        record.sent(1060);
        record.ended(End::Complete);
    };
    check(
        fill,
        &expect![[r#"
            192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "GET /a?b=c HTTP/1.1" 200 1000
        "#]],
        &expect![[r#"
            192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "GET /a?b=c HTTP/1.1" 200 1000 "http://shop.example/" "curl/8"
        "#]],
        &expect![[r#"
            {"time":"2026-11-22T23:14:50.007Z","client":"192.0.2.7","method":"GET","target":"/a?b=c","version":"1.1","host":"shop.example","status":200,"bytes":1000,"duration-us":1234,"answer-us":1000,"end":"complete","server":"app-a","tries":2,"request-id":"0123","trace-id":"4bf9","referer":"http://shop.example/","user-agent":"curl/8"}
        "#]],
    );
}

#[test]
fn a_hostile_request() {
    let fill = |record: &mut Record| {
        let head =
            b"GET /\"a\\ HTTP/1.0\r\nUser-Agent: \"x\" - - [now]\xc3\xa9\xff\tz\r\nReferer: \\\r\n\r\n";
        read(record, head);
        record.answered(StatusCode::BAD_REQUEST);
    };
    check(
        fill,
        &expect![[r#"
            192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "GET /%22a\x5C HTTP/1.0" 400 0
        "#]],
        &expect![[r#"
            192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "GET /%22a\x5C HTTP/1.0" 400 0 "\x5C" "\x22x\x22 - - [now]\xC3\xA9\xFF\x09z"
        "#]],
        &expect![[r#"
            {"time":"2026-11-22T23:14:50.007Z","client":"192.0.2.7","method":"GET","target":"/%22a\\","version":"1.0","status":400,"bytes":0,"duration-us":1234,"answer-us":1000,"end":"cut","tries":0,"referer":"\\","user-agent":"\"x\" - - [now]\u00E9\uFFFD\u0009z"}
        "#]],
    );
}

#[test]
fn a_request_that_could_not_be_read() {
    let fill = |record: &mut Record| {
        record.unread(b"\x16\x03\x01 \"TLS\"\r\nmore");
        record.answered(StatusCode::BAD_REQUEST);
        record.ended(End::Complete);
    };
    check(
        fill,
        &expect![[r#"
        192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "\x16\x03\x01 \x22TLS\x22" 400 0
    "#]],
        &expect![[r#"
        192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "\x16\x03\x01 \x22TLS\x22" 400 0 "-" "-"
    "#]],
        &expect![[r#"
        {"time":"2026-11-22T23:14:50.007Z","client":"192.0.2.7","unread":"\u0016\u0003\u0001 \"TLS\"","status":400,"bytes":0,"duration-us":1234,"answer-us":1000,"end":"complete","tries":0}
    "#]],
    );
    let long = line(&AccessLogFormat::Common, |record| record.unread(&[b'a'; 5000]));
    assert!(long.len() < 1200, "{long}");
}

#[test]
fn a_client_that_went_away() {
    let fill = |record: &mut Record| {
        read(record, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n");
        record.tried(&"app-a".into());
        record.ended(End::ClientGone);
    };
    check(
        fill,
        &expect![[r#"
        192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "POST / HTTP/1.1" 499 0
    "#]],
        &expect![[r#"
        192.0.2.7 - - [22/Nov/2026:23:14:50 +0000] "POST / HTTP/1.1" 499 0 "-" "-"
    "#]],
        &expect![[r#"
        {"time":"2026-11-22T23:14:50.007Z","client":"192.0.2.7","method":"POST","target":"/","version":"1.1","host":"h","status":499,"bytes":0,"duration-us":1234,"end":"client-gone","server":"app-a","tries":1}
    "#]],
    );
}

#[test]
fn a_record_forgets_the_last_request() {
    let mut record = Record::default();
    record.begin(Instant::now());
    read(&mut record, b"GET /secret HTTP/1.1\r\nHost: h\r\nReferer: r\r\nUser-Agent: u\r\n\r\n");
    record.ids(b"id", b"trace");
    record.tried(&"app-a".into());
    record.answered(StatusCode::OK);
    record.sent(9);
    record.ended(End::Complete);
    let again = line(&AccessLogFormat::Json, |fresh| {
        mem::swap(fresh, &mut record);
        fresh.begin(Instant::now());
        fresh.started = record.started;
    });
    expect![[r#"
        {"time":"2026-11-22T23:14:50.007Z","client":"192.0.2.7","status":499,"bytes":0,"duration-us":1234,"end":"cut","tries":0}
    "#]].assert_eq(&again);
}

/// A format of one's own.
fn own(format: &str) -> AccessLogFormat {
    AccessLogFormat::Own(LogFormat::parse(format).unwrap().into())
}

#[test]
fn a_format_of_ones_own() {
    let fill = |record: &mut Record| {
        let head = b"GET /a;jsessionid=aaX?b=c|d HTTP/1.1\r\nHost: Shop.example:80\r\nUser-Agent: a |b\"\r\nX-A: 1 2\r\nX-A: 3\r\n\r\n";
        let mut parsed = RequestHead::default();
        parsed.parse(head, &LIMITS).unwrap().unwrap();
        record.head(&parsed, &["x-a".into()]);
        record.ids(b"0123", b"4bf9");
        record.tried(&"app-a".into());
        record.answered(StatusCode::BAD_GATEWAY);
        record.cached("miss");
        record.failed(Some("no server can take the request now".into()));
        record.sent(7);
        record.ended(End::Complete);
    };
    let text = r#"$remote-addr|$status|$user-agent|"$user-agent" $time [$time-common] $scheme $host $path $query "$request" $protocol"#;
    expect![[r#"
        192.0.2.7|502|a\x20\x7Cb\x22|"a |b\x22" 2026-11-22T23:14:50.007Z [22/Nov/2026:23:14:50\x20+0000] http shop.example /a;jsessionid=*** b=c\x7Cd "GET /a;jsessionid=***?b=c|d HTTP/1.1" HTTP/1.1
    "#]].assert_eq(&line(&own(text), fill));
    let text = r"$method $request-uri $bytes $duration $duration-us $answer-us $end $server $tries $cache $request-id $trace-id $tls $referer $header{X-A} $$1";
    expect![[r#"
        GET /a;jsessionid=***?b=c|d 7 0.001234 1234 1000 complete app-a 1 miss 0123 4bf9 - - 1\x202,\x203 $1
    "#]]
    .assert_eq(&line(&own(text), fill));
    let json = line(
        &own(
            r#"{"agent":$user-agent,"tls":$tls,"status":$status,"took":$duration,"text":"$why: $host $referer"}"#,
        ),
        fill,
    );
    expect![[r#"
        {"agent":"a |b\"","tls":null,"status":502,"took":0.001234,"text":"no server can take the request now: shop.example "}
    "#]].assert_eq(&json);
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

#[test]
fn what_could_not_be_read_in_a_format_of_ones_own() {
    let unread =
        line(&own(r#"$method $path "$request" $why"#), |record| record.unread(b"\x16 \"TLS\r\nmore"));
    assert_eq!(unread, "- - \"\\x16 \\x22TLS\" -\n");
}

#[test]
fn json_has_the_reason() {
    let json = line(&AccessLogFormat::Json, |record| {
        record.answered(StatusCode::SERVICE_UNAVAILABLE);
        record.failed(Some("all connections to the servers are in use".into()));
        record.failed(None);
    });
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["why"], "all connections to the servers are in use");
}

#[tokio::test]
async fn failed_requests_are_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let errors = folder.path().join("errors.log");
    let settings = Settings {
        path: None,
        errors: Some(errors.clone()),
        ..Settings::to_file("log".into(), AccessLogFormat::Json)
    };
    let logs = Logs::start(Some(settings)).unwrap().unwrap();
    let log = AccessLog::new(logs.pipes());
    let recording = Recording::default();
    let request = |why: Option<&'static str>| {
        recording.begin(&Records::default());
        recording.note(|record| record.failed(why.map(Into::into)));
        recording.finish(Some(&log), "::1");
    };
    request(None);
    for _ in 0..150 {
        request(Some("busy"));
    }
    log.tick(SystemTime::UNIX_EPOCH + NOW);
    request(Some("late"));
    drop(log);
    for writer in logs.into_writers() {
        writer.finish().await;
    }
    let text = std::fs::read_to_string(&errors).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["why"], &lines[99]["why"]), (101, &"busy".into(), &"busy".into()));
    assert_eq!((&lines[100]["why"], &lines[100]["left-out"]), (&"late".into(), &50.into()));
    assert!(lines[99].get("left-out").is_none() && !folder.path().join("log").exists());
}

#[tokio::test]
async fn lines_gather_until_a_tick_or_a_batch_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/access.log");
    let settings = Settings::to_file(file.clone(), AccessLogFormat::Common);
    let logs = Logs::start(Some(settings)).unwrap().unwrap();
    let log = AccessLog::new(logs.pipes());
    let recording = Recording::default();
    let request = |target: &str| {
        recording.begin(&Records::default());
        recording.note(|record| read(record, format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()));
        recording.finish(Some(&log), "::1");
        // A second end of the same request is none.
        recording.finish(Some(&log), "::1");
    };
    request("/1");
    assert_eq!(log.requests.count.get(), 1);
    log.tick(SystemTime::UNIX_EPOCH + NOW);
    assert_eq!(log.requests.count.get(), 0);
    let mut count = 1;
    while count == 1 || log.requests.count.get() > 0 {
        request("/2");
        count += 1;
    }
    assert!((BATCH / 100..BATCH / 40).contains(&count), "{count} lines of a batch");
    request("/3");
    drop(log);
    assert_eq!(logs.lost(), 0);
    for writer in logs.into_writers() {
        writer.finish().await;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), count + 1);
    let first = "::1 - - [22/Nov/2026:23:14:50 +0000] \"GET /2 HTTP/1.1\" 499 0";
    assert_eq!(text.lines().nth(1), Some(first));
    assert!(text.ends_with("\"GET /3 HTTP/1.1\" 499 0\n"), "the last lines are written at the end");
}

#[test]
fn without_a_log_nothing_is_noted() {
    let recording = Recording::default();
    recording.note(|_| panic!("there is no record"));
    recording.finish(None, "::1");
}

proptest! {
    /// Whatever a client sends, there is one line, and it reads back.
    #[test]
    fn any_request_is_one_line(target: Vec<u8>, referer: Vec<u8>, agent: Vec<u8>) {
        let fill = |record: &mut Record| {
            record.version = Some(crate::http1::Version::Http11);
            record.target = target.clone();
            record.referer = referer.clone();
            record.user_agent = agent.clone();
        };
        let combined = line(&AccessLogFormat::Combined, fill);
        prop_assert_eq!(combined.matches('\n').count(), 1);
        prop_assert_eq!(combined.matches('"').count(), 6);
        let fields = line(&own("$path|$referer $user-agent \"$referer\""), fill);
        prop_assert_eq!((fields.matches('\n').count(), fields.matches('|').count()), (1, 1 + referer.iter().filter(|it| **it == b'|').count()));
        prop_assert!(fields.split(' ').nth(2).is_some_and(|it| it.starts_with('"')) && fields.matches('"').count() == 2);
        let json = line(&own(r#"{"a":$referer,"b":"$user-agent"}"#), fill);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let text = String::from_utf8_lossy(&agent);
        prop_assert_eq!(json["b"].as_str(), Some(&*text));
        let json: serde_json::Value = serde_json::from_str(&line(&AccessLogFormat::Json, fill)).unwrap();
        let target = String::from_utf8_lossy(&target);
        let expected = if target.is_empty() { None } else { Some(&*target) };
        prop_assert_eq!(json["target"].as_str(), expected);
    }
}

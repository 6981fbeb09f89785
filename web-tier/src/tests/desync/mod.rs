//! The public corpus of AWS's HTTP Desync Guardian (`corpus/`, Apache-2.0, unchanged): what it calls severe or ambiguous is refused,
//! or answered and the connection closed; what it calls compliant passes, but for a listed few that we are stricter about.

mod corpus;

use super::hostile::{SMUGGLED, exchange, recorded, recorder::Recorder, sentinel, verdict::Answers};
use crate::tests::cluster::Cluster;
use corpus::{Case, Tier, cases};

/// Compliant to the corpus, refused by reference/bad-input.md or RFC 9112; with the reason.
const STRICTER: [(&str, &str); 9] = [
    ("Transfer-Encoding: identity and chunked OK", ONE_CHUNKED),
    ("Multiple transfer encoding headers in a single request OK", ONE_CHUNKED),
    ("TE with custom parameters OK", ONE_CHUNKED),
    ("Correct TE OK", ONE_CHUNKED),
    ("Different Transfer-Encoding headers", ONE_CHUNKED),
    ("Different Transfer-Encoding headers combined", ONE_CHUNKED),
    ("Transfer-Encoding with a param: chunked;custom_param", ONE_CHUNKED),
    (
        "Compliant URL",
        "RFC 9112 §3.2: a target has no fragment (HAProxy refuses it too), RFC 3986 §2.1: no lone %",
    ),
    ("Empty URI", "RFC 9112 §3: a request line has a target (nginx and HAProxy refuse it too)"),
];

/// Ambiguous to the corpus and served, as nginx, HAProxy and Envoy do: where the body ends is certain. The server's connection, which
/// someone may see otherwise, does not serve another request.
const CERTAIN: [&str; 6] = [
    "Get with a body and Content-Length",
    "Get with a body and Transfer-Encoding",
    "Head with a body and Content-Length",
    "Head with a body and Transfer-Encoding",
    "Has a CL in GET",
    "Has a TE in GET",
];

const ONE_CHUNKED: &str = "any Transfer-Encoding but one `chunked` is refused";

/// The bytes of a case, with a `Host`, which the corpus leaves out, before or behind its own headers.
fn request(case: &Case, host_last: bool, latin: bool) -> Vec<u8> {
    let host = "Host: h\r\n";
    let mut text = format!("{} {} {}\r\n", case.method, case.uri, case.version);
    if !host_last {
        text.push_str(host);
    }
    for (name, value) in &case.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if host_last {
        text.push_str(host);
    }
    text.push_str("\r\n");
    let one_byte = |it: char| u8::try_from(u32::from(it)).ok();
    match text.chars().map(one_byte).collect::<Option<Vec<_>>>() {
        Some(bytes) if latin => bytes,
        _ => text.into_bytes(),
    }
}

/// The body that its headers promise, as a lenient reader would read them.
fn body(case: &Case) -> String {
    let value = |wanted: &str| {
        let mut found = case.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    if value("transfer-encoding").is_some() {
        return "5\r\nhello\r\n0\r\n\r\n".to_owned();
    }
    "x".repeat(value("content-length").and_then(|it| it.parse().ok()).unwrap_or(0))
}

async fn check(cluster: &Cluster, recorder: &Recorder, case: &Case, bytes: &[u8]) -> Result<(), String> {
    recorder.forget();
    let sent = [bytes, body(case).as_bytes(), SMUGGLED.as_bytes()].concat();
    let text = exchange(cluster, &sent, 1).await?;
    let answers = match case.method.as_str() {
        "HEAD" => Answers::read(&text, true).or_else(|_| Answers::read_refusal(&text))?,
        _ => Answers::read(&text, false)?,
    };
    let stricter = STRICTER.iter().any(|(name, _)| *name == case.name);
    match case.tier {
        Tier::Compliant if stricter => {
            answers.one_refusal(&[400, 501])?;
            recorder.untouched()?;
        }
        Tier::Compliant => passed(&answers, recorder)?,
        Tier::Acceptable => told_apart(&answers, recorder)?,
        Tier::Ambiguous if CERTAIN.contains(&case.name.as_str()) => passed(&answers, recorder)?,
        Tier::Ambiguous | Tier::Severe => refused_or_closed(&answers, recorder)?,
    }
    sentinel(cluster).await
}

/// It was served, and so was the next request.
fn passed(answers: &Answers, recorder: &Recorder) -> Result<(), String> {
    match (answers.statuses().as_slice(), recorder.requests().len()) {
        ([200, 200], 2) => Ok(()),
        (statuses, seen) => Err(format!("answered {statuses:?}, the server saw {seen} requests")),
    }
}

/// As many answers as requests, and no more than were sent.
fn told_apart(answers: &Answers, recorder: &Recorder) -> Result<(), String> {
    let (statuses, seen) = (answers.statuses(), recorder.requests().len());
    let served = statuses.iter().filter(|status| **status == 200).count();
    if !(1..=2).contains(&statuses.len()) || served != seen {
        return Err(format!("answered {statuses:?}, the server saw {seen} requests"));
    }
    Ok(())
}

/// There is one answer, and the connection ended: whatever stood behind the request was served by nobody.
fn refused_or_closed(answers: &Answers, recorder: &Recorder) -> Result<(), String> {
    let (statuses, seen) = (answers.statuses(), recorder.requests());
    if seen.iter().any(|request| request.starts_with("get /smuggled ")) {
        return Err("what stood behind it was served".to_owned());
    }
    match (statuses.as_slice(), seen.len()) {
        ([400..=599], 0) | ([200], 1) if answers.says_close() => Ok(()),
        (_, seen) => Err(format!("answered {statuses:?} without a close, the server saw {seen} requests")),
    }
}

#[tokio::test]
async fn the_corpus_of_http_desync_guardian() {
    let (cluster, recorder) = recorded().await;
    let mut failures = Vec::new();
    for case in cases() {
        let mut forms = Vec::new();
        for (host_last, latin) in [(false, false), (true, false), (false, true)] {
            forms.push(request(&case, host_last, latin));
        }
        forms.dedup();
        for bytes in forms {
            if let Err(why) = check(&cluster, &recorder, &case, &bytes).await {
                failures.push(format!("{:?} {:?}: {why}", case.tier, case.name));
            }
        }
    }
    failures.dedup();
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn each_exception_is_a_compliant_case() {
    let cases = cases();
    for (name, reason) in STRICTER {
        let known = cases.iter().any(|case| case.name == name && case.tier == Tier::Compliant);
        assert!(known && !reason.is_empty(), "{name}");
    }
    for name in CERTAIN {
        assert!(cases.iter().any(|case| case.name == name && case.tier == Tier::Ambiguous), "{name}");
    }
}

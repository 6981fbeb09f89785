//! `health`: defaults, what it takes, and what it refuses without showing secrets.

use super::{super::health_checks::*, *};

fn health(text: &str) -> Result<HealthChecks, String> {
    let file = format!("clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}]}}]\nhealth: {text}\n");
    load_text(&file).map(|loaded| loaded.config.health)
}

#[test]
fn without_the_section_the_checks_are_on_and_nobody_is_told() {
    assert_eq!(health("~").unwrap(), HealthChecks::default());
    assert_eq!(health("{}").unwrap(), HealthChecks::default());
    let default = HealthChecks::default();
    assert!(default.webhooks.is_empty() && default.restarts_per_hour.is_none() && default.off.is_empty());
}

#[test]
fn everything_can_be_said() {
    let found = health(
        "{interval: 1s, for: 0s, off: [versions, cpu], disk-free-min: [20, 10], memory-free-min: [3, 3], files-open-max: 50, \
         load-max: 100, cpu-max: 90, clock-skew-max: 500ms, hub-silent-max: 2s, hub-lag-max: 5, error-rate-max: 1, \
         error-requests-min: 7, certificate-days: [60, 14, 2], restart-apps: 3, \
         webhooks: [{webhook-url: 'http://localhost:1/x', secret: 0123456789abcdef, severity: fault, checks: disk, timeout: 1s, retries: 0}]}",
    )
    .unwrap();
    let limits = &found.thresholds;
    assert_eq!(
        (limits.disk_free_min, limits.certificate_days, limits.cpu_max),
        ([20, 10], [60, 14, 2], Some(90))
    );
    assert_eq!((found.off.as_slice(), found.restarts_per_hour), (&["versions", "cpu"][..], Some(3)));
    let hook = &found.webhooks[0];
    assert_eq!(
        (hook.severity, hook.checks.as_slice(), hook.retries),
        (LeastSeverity::Fault, &["disk"][..], 0)
    );
}

#[test]
fn what_is_wrong_is_told_and_no_secret_is_shown() {
    for (text, words) in [
        ("{off: [disc]}", "did you mean `disk`?"),
        ("{disk-free-min: [5, 10]}", "expected a list of 2 numbers, the greatest first"),
        ("{disk-free-min: [10]}", "expected a list of 2 numbers"),
        ("{disk-free-min: 10}", "expected a list"),
        ("{certificate-days: [1, 2, 3]}", "expected a list of 3 numbers, the greatest first"),
        ("{for: 2D}", "expected a duration from 0 to 1D"),
        ("{restart-apps: 0}", "expected a whole number from 1 to 60"),
        ("{webhook: []}", "did you mean `webhooks`?"),
        ("{webhooks: [{webhook-url: 'https://h/T0KEN'}]}", "a webhook has no `secret`"),
        ("{webhooks: [{secret: 0123456789abcdef}]}", "a webhook has no `webhook-url`"),
        (
            "{webhooks: [{webhook-url: 'ftp://h/T0KEN', secret: 0123456789abcdef}]}",
            "expected http://HOST:PORT/PATH",
        ),
        (
            "{webhooks: [{webhook-url: 'https://u:T0KEN@h/', secret: 0123456789abcdef}]}",
            "with neither a user",
        ),
        (
            "{webhooks: [{webhook-url: 'https://h/', secret: T0KEN}]}",
            "the secret has 5 bytes: expected at least 16",
        ),
    ] {
        let told = health(text).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
        assert!(!told.contains("T0KEN"), "{told}");
    }
}

#[test]
fn more_webhooks_than_there_may_be_are_refused() {
    let hook = "{webhook-url: 'https://h/', secret: 0123456789abcdef}";
    assert_eq!(health(&format!("{{webhooks: [{}]}}", [hook; 8].join(", "))).unwrap().webhooks.len(), 8);
    let told = health(&format!("{{webhooks: [{}]}}", [hook; 9].join(", "))).unwrap_err();
    assert!(told.contains("`webhooks` has 9 entries: expected at most 8"), "{told}");
}

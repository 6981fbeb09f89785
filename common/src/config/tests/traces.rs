//! `traces`: where spans go.

use super::*;

fn traces(text: &str) -> Result<Option<Traces>, String> {
    let text = format!(
        "{text}\nclusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}], \
         hosts: [{{id: '', web-apps: [{{id: '', root-directory: htdocs}}]}}]}}]"
    );
    let files = Files::new(&[("copal.yaml", &text)]);
    files.load("copal.yaml", &options()).map(|it| it.config.traces)
}

#[test]
fn a_collector_and_a_rate() {
    let to = |otlp: &str, sampled_ppm| Ok(Some(Traces { otlp: otlp.to_owned(), sampled_ppm }));
    assert_eq!(traces(""), Ok(None));
    assert_eq!(traces("traces: {otlp: 'http://127.0.0.1:4317'}"), to("http://127.0.0.1:4317", 10_000));
    assert_eq!(
        traces("traces: {otlp: 'http://[::1]:4317/', sample: 0.5}"),
        to("http://[::1]:4317/", 500_000)
    );
    assert_eq!(traces("traces: {otlp: 'http://a:1', sample: 0}"), to("http://a:1", 0));
    for (wrong, words) in [
        ("traces: {}", "name the collector"),
        ("traces: {otlp: 'https://a:4317'}", "expected `http://host:port`"),
        ("traces: {otlp: 'http://a'}", "found \"http://a\""),
        ("traces: {otlp: 'http://a:1/v1/traces'}", "expected `http://host:port`"),
        ("traces: {otlp: 'http://a:1', sample: 2}", "expected a rate from 0 to 1"),
        ("traces: {otlp: 'http://a:1', sample: NaN}", "found \"NaN\""),
        ("traces: {otlp: 'http://a:1', colour: red}", "unknown key `colour`"),
    ] {
        let errors = traces(wrong).unwrap_err();
        assert!(errors.contains(words), "{wrong}: {errors}");
    }
}

//! The keys of the cluster port: the key's quality, encryption, certificates.

use super::*;

const OPEN: &str = "clusters: [{id: c, servers: [{id: app-a, address: 10.0.0.1}]}]";
const LOOPBACK: &str = "clusters: [{id: c, servers: [{id: app-a, address: 127.0.0.1}]}]";
const GOOD: &str = "q7d1o0cS3R2r8y6TqU0mJx8wKzv5oGm3yPBeN4iLhXA=";

fn load_as(text: &str, strict: bool) -> Result<Loaded, String> {
    let files = Files::new(&[("copal.yaml", text), ("a.key", "a phrase that one remembers\n")]);
    files.load("copal.yaml", &LoadOptions { refuse_guessable_key: strict, ..options() })
}

#[test]
fn a_key_that_can_be_guessed_is_refused_by_a_check_and_warned_of_by_a_start() {
    for key in ["at-least-sixteen-secret-bytes", "{file: a.key}", "abcabcabcabcabcabcabc"] {
        let text = format!("cluster-key: {key}\n{OPEN}");
        let refused = load_as(&text, true).unwrap_err();
        assert!(refused.contains("error: the cluster key can be guessed: it "), "{refused}");
        assert!(refused.contains("make one with `openssl rand -base64 32`"), "{refused}");
        assert!(!refused.contains("at-least") && !refused.contains("abcabc"), "the key is shown: {refused}");
        let warnings = load_as(&text, false).unwrap().warnings;
        assert!(warnings[0].message().starts_with("the cluster key can be guessed"), "{warnings:?}");
        let alone = load_as(&format!("cluster-key: {key}\n{LOOPBACK}"), true).unwrap();
        assert_eq!(alone.warnings, [], "nobody listens in on loopback");
    }
    assert_eq!(load_as(&format!("cluster-key: {GOOD}\n{OPEN}"), true).unwrap().warnings, []);
    let also = format!("cluster-key: {GOOD}\ncluster-key-also: another-phrase-that-one-remembers\n{OPEN}");
    assert!(
        load_as(&also, true).unwrap_err().contains("the cluster key can be guessed: it is made of words")
    );
}

#[test]
fn encryption_and_certificates_are_read() {
    let encryption = |line: &str| {
        load_text(&format!("cluster-key: {GOOD}\n{line}\n{OPEN}")).unwrap().config.cluster_encryption
    };
    assert_eq!(encryption(""), ClusterEncryption::BeyondLoopback);
    assert_eq!(encryption("cluster-encryption: true"), ClusterEncryption::Always);
    assert_eq!(encryption("cluster-encryption: false"), ClusterEncryption::Never);
    assert_eq!(encryption("cluster-encryption: optional"), ClusterEncryption::Optional);
    let wrong = messages(&format!("cluster-encryption: yes\n{LOOPBACK}"));
    assert_eq!(wrong, ["expected `true`, `false` or `optional`, found `yes`"]);

    let files = Files::new(&[(
        "copal.yaml",
        &format!(
            "cluster-tls: {{ca: tls/ca.pem, cert: 'tls/${{server.id}}.pem', key: '/k/${{server.id}}.key'}}\n{LOOPBACK}"
        ),
    )]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    let tls = config.cluster_tls.unwrap();
    let own = tls.of(&"app-a".into());
    assert_eq!(tls.ca.path, files.path("tls/ca.pem"));
    assert_eq!((own.cert.path, own.key.path), (files.path("tls/app-a.pem"), PathBuf::from("/k/app-a.key")));
}

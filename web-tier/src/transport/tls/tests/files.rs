//! What `copal check` says of files.

use super::*;
use common::config::Problem;
use rcgen::date_time_ymd;

/// Good files, of which each test spoils some.
fn folder() -> (Authority, Folder) {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("good", &authority.issue(&["a.test"]));
    folder.put("other", &authority.issue(&["b.test"]));
    folder.write("ca.pem", &authority.pem);
    (authority, folder)
}

fn errors(folder: &Folder, tls: &str) -> Vec<String> {
    let errors = check_tls(&folder.config(tls), None).unwrap_err();
    errors.problems().iter().map(|it| folder.shown(it.message())).collect()
}

fn warnings(folder: &Folder, tls: &str) -> Vec<String> {
    let found = check_tls(&folder.config(tls), None).unwrap();
    found.iter().map(|it| folder.shown(it.message())).collect()
}

#[test]
fn good_files_are_good() {
    let (authority, folder) = folder();
    let leaf = authority.issue(&["a.test"]);
    folder.write("chain.pem", format!("{}{}", leaf.pem, authority.pem));
    folder.write("chain.key", &leaf.key);
    folder.write("both.pem", format!("{}{}", leaf.key, leaf.pem));
    assert_eq!(
        warnings(
            &folder,
            "certs: [{cert: good.pem, key: good.key}, {cert: chain.pem, key: chain.key}], client-ca: ca.pem"
        ),
        [""; 0]
    );
    assert_eq!(warnings(&folder, "certs: [{cert: both.pem, key: both.pem}]"), [""; 0]);
}

#[test]
fn every_fault_is_told_at_its_place() {
    let (_, folder) = folder();
    let tls = "certs: [{cert: good.pem, key: other.key}, {cert: no.pem, key: no.key}], client-ca: good.key";
    let error = check_tls(&folder.config(tls), None).unwrap_err();
    expect(&folder.shown(&error.to_string()));
}

fn expect(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "error: other.key: it is not the private key of the certificate in good.pem");
    assert_eq!(lines[1], " --> copal.yaml:8:43");
    assert_eq!(
        lines[3],
        "8 |       tls: {certs: [{cert: good.pem, key: other.key}, {cert: no.pem, key: no.key}], client-ca: good.key}"
    );
    assert_eq!(lines[4], "  |                                           ^^^^^^^^^");
    let told: Vec<&&str> = lines.iter().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        told,
        [
            &"error: other.key: it is not the private key of the certificate in good.pem",
            &"error: no.pem: there is no such file",
            &"error: no.key: there is no such file",
            &"error: good.key: no certificate in it: it holds a private key",
        ]
    );
    assert_eq!(lines.last(), Some(&"4 errors"));
}

#[test]
fn a_listener_that_cannot_start_says_the_same() {
    let (_, folder) = folder();
    let tls = folder.tls("certs: [{cert: good.pem, key: other.key}, {cert: no.pem, key: other.key}]");
    let error = TlsListener::load(&tls, &context(&keys("key")), true, None).unwrap_err();
    assert_eq!(
        folder.shown(&error.to_string()),
        "other.key: it is not the private key of the certificate in good.pem; no.pem: there is no such file"
    );
    assert_eq!(error.problems().iter().map(Problem::line).collect::<Vec<_>>(), [8, 8]);
}

#[test]
fn what_a_file_holds_instead_is_named() {
    let (authority, folder) = folder();
    let good = authority.issue(&["a.test"]);
    folder.write("empty", "");
    folder.write("text", "hello");
    folder.write("der", &good.der);
    folder.write("cut.pem", &good.pem[..good.pem.len() / 2]);
    folder.write("encrypted.key", good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    folder.write("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    folder.write("nonsense.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    fs::create_dir(folder.path("folder")).unwrap();
    let large = fs::File::create(folder.path("large")).unwrap();
    large.set_len((4 << 20) + 1).unwrap();
    for (cert, told) in [
        ("empty", "no certificate in it: it is empty"),
        ("text", "no certificate in it: expected `-----BEGIN CERTIFICATE-----`"),
        ("der", "no certificate in it: it is DER; convert it with `openssl x509 -inform der -outform pem`"),
        ("good.key", "no certificate in it: it holds a private key"),
        ("nonsense.pem", "its first certificate is not an X.509 certificate"),
        ("folder", "can't read it: it is a folder, a file was expected"),
        ("large", "it is larger than 4 MiB"),
    ] {
        assert_eq!(
            errors(&folder, &format!("certs: [{{cert: {cert}, key: good.key}}]")),
            [format!("{cert}: {told}")]
        );
    }
    let cut = errors(&folder, "certs: [{cert: cut.pem, key: good.key}]");
    assert!(cut.len() == 1 && cut[0].starts_with("cut.pem: it is not valid PEM: "), "{cut:?}");
    for (key, told) in [
        ("empty", "no private key in it: it is empty"),
        ("text", "no private key in it: expected `-----BEGIN PRIVATE KEY-----`"),
        ("der", "no private key in it: it is DER; convert it with `openssl pkey -inform der`"),
        ("good.pem", "no private key in it: it holds a certificate"),
        (
            "encrypted.key",
            "the private key is encrypted, and there is nobody to ask for its password: decrypt it with `openssl pkey`",
        ),
    ] {
        assert_eq!(
            errors(&folder, &format!("certs: [{{cert: good.pem, key: {key}}}]")),
            [format!("{key}: {told}")]
        );
    }
    let nonsense = errors(&folder, "certs: [{cert: good.pem, key: nonsense.key}]");
    assert!(
        nonsense.len() == 1 && nonsense[0].starts_with("nonsense.key: this private key can't be used: "),
        "{nonsense:?}"
    );
}

#[test]
fn what_clients_may_stumble_over_is_warned_of() {
    let (authority, folder) = folder();
    let put = |name: &str, names: &[&str], change: &dyn Fn(&mut CertificateParams)| {
        folder.put(name, &authority.issue_with(names, &KeyPair::generate().unwrap(), change));
    };
    put("old", &["a.test"], &|params| params.not_after = date_time_ymd(2020, 2, 29));
    put("early", &["a.test"], &|params| params.not_before = date_time_ymd(2090, 1, 1));
    put("nameless", &[], &|_| {});
    let (leaf, other) = (authority.issue(&["a.test"]), Authority::new());
    folder.write("mixed.pem", format!("{}{}", leaf.pem, authority.issue(&["b.test"]).pem));
    folder.write("mixed.key", &leaf.key);
    for (name, told) in [
        ("old", "the certificate expired on 2020-02-29"),
        ("early", "the certificate is not valid before 2090-01-01"),
        ("nameless", "the certificate has no subjectAltName: browsers refuse it"),
        ("mixed", "certificate 2 of the chain is not the issuer of the one before it"),
    ] {
        let certs = format!("certs: [{{cert: {name}.pem, key: {name}.key}}]");
        assert_eq!(warnings(&folder, &certs), [format!("{name}.pem: {told}")]);
        assert!(
            TlsListener::load(&folder.tls(&certs), &context(&keys("key")), true, None).is_ok(),
            "{name}: it starts all the same"
        );
    }
    drop(other);
}

#[test]
fn only_the_files_of_the_server_that_is_asked_for_are_read() {
    let (_, folder) = folder();
    let config = folder.config("certs: [{cert: no.pem, key: no.key}]");
    assert_eq!(check_tls(&config, Some(&"web-b".into())).unwrap(), []);
    assert!(check_tls(&config, Some(&"web-a".into())).is_err());
}

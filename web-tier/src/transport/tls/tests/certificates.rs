//! Which certificate a client is shown, and which hosts it may then ask for.

use super::*;
use credulous::Credulous;
use rustls::SignatureScheme;

#[tokio::test]
async fn the_name_that_is_asked_for_chooses() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let [first, exact, star] =
        [&["a.test"][..], &["www.b.test", "b.test"], &["*.b.test"]].map(|names| authority.issue(names));
    folder.put("first", &first);
    folder.put("star", &star);
    folder.put("exact", &exact);
    let listener = folder.listener(&["first", "star", "exact"], "");
    let client = authority.client(|_| {});
    for (name, expected) in [
        ("a.test", &first),
        ("A.Test", &first),
        ("b.test", &exact),
        // The exact name goes before the wildcard, though it stands behind it.
        ("www.b.test", &exact),
        ("other.b.test", &star),
        ("OTHER.B.TEST", &star),
    ] {
        let connected = connect(&listener, &client, name).await;
        assert_eq!(*connected.shown(), expected.der, "{name}");
        assert_eq!(connected.connection.server_name.as_deref(), Some(name.to_lowercase().as_str()));
    }
}

#[tokio::test]
async fn who_names_nothing_known_gets_the_first() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (first, second) = (authority.issue(&["a.test", "127.0.0.1"]), authority.issue(&["b.test"]));
    folder.put("first", &first);
    folder.put("second", &second);
    let listener = folder.listener(&["first", "second"], "");
    let client = authority.client(|_| {});
    // By address, there is no SNI.
    let connected = connect(&listener, &client, "127.0.0.1").await;
    assert_eq!((connected.shown(), connected.connection.server_name.as_deref()), (&first.der, None));
    let (client_error, server_error) = try_connect(&listener, &client, "unknown.test").await.unwrap_err();
    assert!(client_error.unwrap().to_string().contains("not valid for name"));
    assert_eq!(server_error.unwrap().failure(), Failure::RefusedByClient);
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_cover_is_misdirected() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("a", &authority.issue(&["a.test", "*.a.test", "127.0.0.1"]));
    folder.put("b", &authority.issue(&["b.test"]));
    let listener = folder.listener(&["a", "b"], "");
    let client = authority.client(|_| {});
    let connection = connect(&listener, &client, "a.test").await.connection;
    for host in ["a.test", "A.TEST", "a.test.", "www.a.test", "127.0.0.1"] {
        assert!(!connection.is_misdirected(host), "{host}");
    }
    for host in ["b.test", "x.www.a.test", "", "127.0.0.2", "[::1]"] {
        assert!(connection.is_misdirected(host), "{host}");
    }
    let connection = connect(&listener, &client, "127.0.0.1").await.connection;
    assert!(!connection.is_misdirected("b.test"), "a client without SNI said nothing to hold it to");
}

#[tokio::test]
async fn of_two_keys_for_a_name_the_client_gets_one_that_it_takes() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ecdsa = authority.issue(&["a.test"]);
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = authority.issue_with(&["a.test"], &key, |_| {});
    folder.put("ecdsa", &ecdsa);
    folder.put("rsa", &rsa);
    let listener = folder.listener(&["ecdsa", "rsa"], "");
    for (scheme, expected) in
        [(SignatureScheme::RSA_PSS_SHA256, &rsa), (SignatureScheme::ECDSA_NISTP256_SHA256, &ecdsa)]
    {
        let client = authority.client(|config| {
            config.dangerous().set_certificate_verifier(Credulous::of(vec![scheme]));
        });
        // Without a name as well: the first certificate has the same names as the other.
        for name in ["a.test", "127.0.0.1"] {
            let connected = connect(&listener, &client, name).await;
            assert_eq!(*connected.shown(), expected.der, "{scheme:?} {name}");
        }
    }
    let client = authority.client(|config| {
        config.dangerous().set_certificate_verifier(Credulous::of(vec![SignatureScheme::ED448]));
    });
    let (_, server) = try_connect(&listener, &client, "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::NothingInCommon);
}

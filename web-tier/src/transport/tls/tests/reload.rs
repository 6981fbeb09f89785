//! Certificates that change while connections live.

use super::*;
use std::os::unix::fs::symlink;

struct Setup {
    authority: Authority,
    folder: Folder,
    old: Issued,
    listener: TlsListener,
}

fn setup() -> Setup {
    let (authority, folder) = (Authority::new(), Folder::new());
    let old = authority.issue(&["a.test"]);
    folder.put("site", &old);
    let listener = folder.listener(&["site"], "");
    Setup { authority, folder, old, listener }
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_live() {
    let Setup { authority, folder, old, listener } = setup();
    let client = || authority.client(|_| {});
    let mut before = connect(&listener, &client(), "a.test").await;
    assert_eq!(*before.shown(), old.der);
    assert_eq!(listener.reload().unwrap(), Changed::Nothing);
    let new = authority.issue(&["a.test", "b.test"]);
    folder.put("site", &new);
    assert_eq!(listener.reload().unwrap(), Changed::Certificates);
    for name in ["a.test", "b.test"] {
        assert_eq!(*connect(&listener, &client(), name).await.shown(), new.der);
    }
    before.exchange().await;
    assert!(before.connection.is_misdirected("b.test"), "what it was shown does not cover b.test");
}

#[tokio::test]
async fn tickets_outlive_a_renewal() {
    let Setup { authority, folder, listener, .. } = setup();
    let client = authority.client(|_| {});
    connect(&listener, &client, "a.test").await;
    folder.put("site", &authority.issue(&["a.test"]));
    assert_eq!(listener.reload().unwrap(), Changed::Certificates);
    assert!(connect(&listener, &client, "a.test").await.resumed());
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told_once() {
    let Setup { authority, folder, old, listener } = setup();
    let new = authority.issue(&["a.test"]);
    // The new certificate beside the old key, as in the midst of a renewal.
    folder.write("site.pem", &new.pem);
    assert!(listener.look().is_none(), "changed just now: somebody may still be writing");
    let error = listener.look().unwrap().unwrap_err();
    assert_eq!(
        folder.shown(&error.to_string()),
        "site.key: it is not the private key of the certificate in site.pem"
    );
    assert!(listener.look().is_none(), "told already");
    let client = authority.client(|_| {});
    assert_eq!(*connect(&listener, &client, "a.test").await.shown(), old.der);
    folder.write("site.key", &new.key);
    assert!(listener.look().is_none());
    assert_eq!(listener.look().unwrap().unwrap(), Changed::Certificates);
    assert!(listener.look().is_none());
    assert_eq!(*connect(&listener, &authority.client(|_| {}), "a.test").await.shown(), new.der);
    fs::remove_file(folder.path("site.pem")).unwrap();
    assert!(listener.look().is_none());
    assert!(listener.look().unwrap().unwrap_err().to_string().ends_with("site.pem: there is no such file"));
    assert_eq!(*connect(&listener, &authority.client(|_| {}), "a.test").await.shown(), new.der);
}

/// As certbot and Kubernetes do: the name stays, what it links to changes.
#[tokio::test]
async fn a_link_that_points_elsewhere_is_a_change() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (old, new) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    folder.put("old", &old);
    folder.put("new", &new);
    let link = |to: &str| {
        for kind in ["pem", "key"] {
            let name = folder.path(&format!("live.{kind}"));
            let _ = fs::remove_file(&name);
            symlink(folder.path(&format!("{to}.{kind}")), name).unwrap();
        }
    };
    link("old");
    let listener = folder.listener(&["live"], "");
    assert!(listener.look().is_none());
    link("new");
    assert!(listener.look().is_none());
    assert_eq!(listener.look().unwrap().unwrap(), Changed::Certificates);
    assert_eq!(*connect(&listener, &authority.client(|_| {}), "a.test").await.shown(), new.der);
}

#[tokio::test]
async fn a_file_that_is_written_anew_with_the_same_content_changes_nothing() {
    let Setup { folder, old, listener, .. } = setup();
    fs::remove_file(folder.path("site.pem")).unwrap();
    folder.write("site.pem.new", &old.pem);
    fs::rename(folder.path("site.pem.new"), folder.path("site.pem")).unwrap();
    assert!(listener.look().is_none());
    assert_eq!(listener.look().unwrap().unwrap(), Changed::Nothing);
    assert!(listener.look().is_none());
}

/// File systems count time in ticks: what is written twice within one looks the same.
#[tokio::test]
async fn a_file_that_is_written_again_at_once_is_found() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (old, new) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    // As far ahead as is fresh, so that a slow test has two seconds.
    let time = SystemTime::now() + Duration::from_secs(1);
    let write = |name: &str, text: &str| folder.write_at(name, format!("{text:4096}"), time);
    write("site.pem", &old.pem);
    write("site.key", &old.key);
    let listener = folder.listener(&["site"], "");
    assert!(listener.look().is_none(), "it was read again, and is the same");
    write("site.pem", &new.pem);
    write("site.key", &new.key);
    assert_eq!(listener.look().unwrap().unwrap(), Changed::Certificates);
    write("site.key", &old.key);
    assert!(listener.look().unwrap().is_err());
    assert!(listener.look().is_none(), "told already");
    assert_eq!(*connect(&listener, &authority.client(|_| {}), "a.test").await.shown(), new.der);
    write("site.key", &new.key);
    assert!(listener.look().is_none(), "it is what is served");
}

#[test]
fn certificates_that_end_are_told() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("good", &authority.issue(&["a.test"]));
    let old = authority.issue_with(&["b.test"], &KeyPair::generate().unwrap(), |params| {
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
    });
    folder.put("old", &old);
    let listener = folder.listener(&["good", "old"], "");
    let told: Vec<_> =
        listener.ending().into_iter().map(|(file, what)| (folder.shown(&file), what)).collect();
    assert_eq!(told, [("old.pem".to_owned(), "the certificate expired on 2020-02-29".to_owned())]);
}

#[tokio::test]
async fn the_files_are_looked_after() {
    let Setup { authority, folder, listener, .. } = setup();
    let new = authority.issue(&["a.test"]);
    folder.put("site", &new);
    let watching = tokio::spawn(watch(vec![listener.clone()], Duration::from_millis(1)));
    let before = listener.current();
    // Bounded by the test runner's patience alone: the event is the exchange itself.
    while Arc::ptr_eq(&before, &listener.current()) {
        tokio::task::yield_now().await;
    }
    watching.abort();
    assert_eq!(*connect(&listener, &authority.client(|_| {}), "a.test").await.shown(), new.der);
    watch(Vec::new(), INTERVAL).await;
}

#[test]
fn new_authorities_are_taken_too() {
    let Setup { folder, .. } = setup();
    folder.write("ca.pem", &Authority::new().pem);
    let listener = folder.listener(&["site"], "client-ca: ca.pem");
    folder.write("ca.pem", &Authority::new().pem);
    assert_eq!(listener.reload().unwrap(), Changed::Certificates);
    folder.write("ca.pem", "nothing of the kind");
    let error = listener.reload().unwrap_err().to_string();
    assert!(
        error.ends_with("ca.pem: no certificate in it: expected `-----BEGIN CERTIFICATE-----`"),
        "{error}"
    );
}

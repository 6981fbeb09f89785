//! Sessions that go on, on another server, after a restart, under an older key.

use super::*;

const KEY: &str = "the key of a cluster";
const EPOCH: Duration = Duration::from_secs(8 * 3600);

struct Setup {
    authority: Authority,
    folder: Folder,
    clock: Arc<ManualClock>,
}

fn setup() -> Setup {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("site", &authority.issue(&["a.test"]));
    Setup { authority, folder, clock: Arc::new(ManualClock::new(1_800_000_000_000)) }
}

impl Setup {
    /// A server's process, by itself.
    fn server(&self, cluster_key: &str) -> TlsListener {
        self.folder.listener_of(&["site"], "", &keys_at(cluster_key, self.clock.clone()))
    }
}

#[tokio::test]
async fn a_client_resumes_on_any_server_and_after_a_restart() {
    let setup = setup();
    let client = setup.authority.client(|_| {});
    let (one, other) = (setup.server(KEY), setup.server(KEY));
    assert!(!connect(&one, &client, "a.test").await.resumed());
    assert!(connect(&one, &client, "a.test").await.resumed());
    assert!(connect(&other, &client, "a.test").await.resumed(), "another web-tier server");
    drop((one, other));
    assert!(connect(&setup.server(KEY), &client, "a.test").await.resumed(), "after a restart");
}

#[tokio::test]
async fn another_cluster_knows_nothing_of_it() {
    let setup = setup();
    let client = setup.authority.client(|_| {});
    connect(&setup.server(KEY), &client, "a.test").await;
    assert!(!connect(&setup.server("the key of another"), &client, "a.test").await.resumed());
    assert!(!connect(&setup.server(""), &client, "a.test").await.resumed());
}

#[tokio::test]
async fn the_key_before_is_taken_and_older_ones_are_not() {
    let setup = setup();
    let server = setup.server(KEY);
    for (waits, resumes) in [(1, true), (2, false)] {
        let client = setup.authority.client(|_| {});
        connect(&server, &client, "a.test").await;
        setup.clock.advance(EPOCH * waits);
        assert_eq!(connect(&server, &client, "a.test").await.resumed(), resumes, "{waits} epochs");
        assert!(connect(&server, &client, "a.test").await.resumed(), "by the new ticket");
    }
}

/// TLS 1.2 has no fresh key exchange when it resumes: its tickets are of one process (docs/tls.md). This also holds the
/// assumption on how rustls writes a session (`tickets::is_tls13`).
#[tokio::test]
async fn tls12_resumes_on_its_own_server_alone() {
    let setup = setup();
    let client = setup.authority.client12();
    let (one, other) = (setup.server(KEY), setup.server(KEY));
    assert!(!connect(&one, &client, "a.test").await.resumed());
    assert!(connect(&one, &client, "a.test").await.resumed());
    setup.clock.advance(EPOCH);
    assert!(connect(&one, &client, "a.test").await.resumed(), "the key before");
    assert!(!connect(&other, &client, "a.test").await.resumed());
    // Without SNI the session is written otherwise.
    let bare = setup.authority.issue(&["127.0.0.1"]);
    setup.folder.put("bare", &bare);
    let keys = || keys_at(KEY, setup.clock.clone());
    let (one, other) =
        (setup.folder.listener_of(&["bare"], "", &keys()), setup.folder.listener_of(&["bare"], "", &keys()));
    connect(&one, &client, "127.0.0.1").await;
    assert!(connect(&one, &client, "127.0.0.1").await.resumed());
    assert!(!connect(&other, &client, "127.0.0.1").await.resumed());
    let client13 = setup.authority.client(|_| {});
    connect(&one, &client13, "127.0.0.1").await;
    assert!(connect(&other, &client13, "127.0.0.1").await.resumed());
}

/// Requests that could be played back are not taken: no ticket allows early data.
#[tokio::test]
async fn there_is_no_early_data() {
    let setup = setup();
    let client = setup.authority.client(|config| config.enable_early_data = true);
    let server = setup.server(KEY);
    connect(&server, &client, "a.test").await;
    let name = ServerName::try_from("a.test").unwrap();
    let mut offer = rustls::ClientConnection::new(client.clone(), name).unwrap();
    assert!(offer.early_data().is_none());
    assert!(connect(&server, &client, "a.test").await.resumed());
}

//! `sdk::CopalStore`, the store for sessions of `tower-sessions`, under `examples/axum-sessions` and by itself: what it keeps outlives every server.

use crate::{
    client::{Answer, User},
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use hyper::{Method, StatusCode};
use sdk::{CopalStore, Environment};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    time::{Duration, SystemTime},
};
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
};

/// The example as a process of Copal's: this binary, which is told to run this test alone.
#[test]
fn app() {
    if std::env::var_os("COPAL_HUB").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(axum_sessions::run()).unwrap();
}

/// A cluster of three servers with the example.
async fn start() -> Cluster {
    let this = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let command = [&this, "--exact", "session_store::app", "--nocapture"].map(str::to_owned);
    let has_example = |it: &mut crate::cluster::Configuration| it.command = command.into();
    Cluster::start_with(3, has_example).await
}

/// Counts until that is answered, which it may not be while servers die: then nobody knows whether it has counted. The count, by whom, and how often it was asked.
async fn counted(user: &mut User) -> (u64, String, u64) {
    let answered = async {
        let mut asked = 1;
        loop {
            let answer = user.get("/count").await;
            if answer.status == StatusCode::OK {
                let (count, server) = answer.count();
                return (count, server, asked);
            }
            assert!(answer.status.is_server_error(), "{answer:?}");
            tell(&format!("not counted: {answer:?}"));
            asked += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it is counted")
}

async fn post(user: &mut User, path: &str) -> Answer {
    user.request(Method::POST, path).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_the_servers_that_it_was_on() {
    let mut cluster = start().await;
    let mut user = cluster.user();
    assert_eq!(counted(&mut user).await.0, 1);
    let first = user.cookie.clone().unwrap();
    assert!(first.starts_with("axum-sessions="), "{first}");
    // A login changes the id, and the old one is nobody's.
    assert_eq!(post(&mut user, "/login").await.status, StatusCode::OK);
    let cookie = user.cookie.clone().unwrap();
    let mut stranger = cluster.user().with_cookie(first.clone());
    assert_eq!(counted(&mut stranger).await.0, 1);
    assert!(cookie != first && stranger.cookie.as_deref() != Some(first.as_str()));
    // A logout ends a session on all servers.
    let ended = stranger.cookie.clone().unwrap();
    assert_eq!(post(&mut stranger, "/logout").await.status, StatusCode::OK);
    for _ in 0..6 {
        let mut late = cluster.user().with_cookie(ended.clone());
        assert_eq!(counted(&mut late).await.0, 1);
    }
    // Whichever server dies, the hub's leader among them, another goes on.
    let (mut before, mut server, _) = counted(&mut user).await;
    assert_eq!(before, 2);
    for _ in 0..3 {
        cluster.kill(&server).await;
        let (count, other, asked) = counted(&mut user).await;
        assert_ne!(other, server);
        // The web-tier sends a GET once more whose server is said to be down, and that one may have counted too.
        let counts = before + 1..=before + 2 * asked;
        assert!(counts.contains(&count), "{count} after {before}, asked {asked} times");
        assert_eq!(user.cookie.as_deref(), Some(cookie.as_str()));
        cluster.start_one(&server).await;
        (before, server) = (count, other);
    }
}

/// The stores of the apps of all servers, by what their processes were told.
fn stores(cluster: &Cluster) -> BTreeMap<String, CopalStore> {
    let folder = cluster.folder();
    let mut stores = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let variables: HashMap<&str, &str> =
            environment.split('\0').filter_map(|it| it.split_once('=')).collect();
        if variables.get("COPAL_HUB").is_some_and(|it| it.starts_with(folder.to_str().unwrap())) {
            let lookup = |name: &str| variables.get(name).map(|it| (*it).to_owned());
            let environment = Environment::from_lookup(lookup).unwrap();
            assert_eq!(environment.app, "default/");
            stores.insert(environment.server.clone(), CopalStore::new(&environment));
        }
    }
    stores
}

/// One that ends in an hour.
fn record(count: u64) -> Record {
    let expiry = SystemTime::now() + Duration::from_secs(3600);
    Record {
        id: Id::default(),
        data: [("count".to_owned(), count.into())].into(),
        expiry_date: expiry.into(),
    }
}

async fn count_in(store: &CopalStore, id: Id) -> Option<u64> {
    store.load(&id).await.unwrap().map(|it| it.data["count"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_has_what_another_has_answered_and_old_copies_without_a_hub() {
    let mut cluster = start().await;
    let stores = stores(&cluster);
    let [a, b, c] = ["app-a", "app-b", "app-c"].map(|it| &stores[it]);
    let mut first = record(1);
    assert_eq!(count_in(b, first.id).await, None);
    a.create(&mut first).await.unwrap();
    assert_eq!((count_in(b, first.id).await, count_in(c, first.id).await), (Some(1), Some(1)));
    // An id that is taken is changed, on whichever server.
    let mut second = Record { id: first.id, ..record(2) };
    b.create(&mut second).await.unwrap();
    assert_ne!(second.id, first.id);
    // All who save at the same time are answered, and what one of them has saved last counts, everywhere.
    let save = async |store: &CopalStore, from: u64| {
        for count in from..from + 20 {
            let data = [("count".to_owned(), count.into())].into();
            store.save(&Record { data, ..first.clone() }).await.unwrap();
        }
    };
    tokio::join!(save(a, 100), save(b, 200), save(c, 300));
    let last = count_in(a, first.id).await.unwrap();
    assert!([119, 219, 319].contains(&last), "{last}");
    assert_eq!((count_in(b, first.id).await, count_in(c, first.id).await), (Some(last), Some(last)));
    // What was ended is ended everywhere, and a request that runs meanwhile does not bring it back.
    a.delete(&first.id).await.unwrap();
    assert_eq!((count_in(b, first.id).await, count_in(c, first.id).await), (None, None));
    let refused = b.save(&first).await.unwrap_err();
    assert_eq!(refused.to_string(), "the session was ended meanwhile");
    assert_eq!(count_in(c, first.id).await, None);
    // Without a hub what is near is read on, unless the app says no, and nothing is saved.
    assert_eq!(count_in(a, second.id).await, Some(2));
    cluster.kill_all(&["app-b", "app-c"].map(str::to_owned)).await;
    let careful = a.clone().without_stale();
    let missed = async {
        while careful.load(&second.id).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut third = record(3);
    let (missed, saved, created) =
        tokio::join!(tokio::time::timeout(PATIENCE, missed), a.save(&second), a.create(&mut third));
    assert!(saved.is_err() && created.is_err());
    missed.expect("the hub is missed");
    assert_eq!(count_in(a, second.id).await, Some(2));
    // It is back, and nothing is lost.
    cluster.start_all().await;
    let heard = async {
        while careful.load(&second.id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the hub is heard");
    assert_eq!(count_in(&careful, second.id).await, Some(2));
}

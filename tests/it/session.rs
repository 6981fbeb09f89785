//! Sessions: no answered value is ever lost, repeated or older, whichever server dies.

use crate::{
    client::User,
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// One user's counting, and what was seen of it.
#[derive(Debug)]
struct Counter {
    user: User,
    method: Method,
    last: u64,
    /// Requests that counted twice: sent again, because their server died with them.
    twice: u64,
    /// Requests that failed: not to be sent again, because their server died with them.
    failed: Vec<String>,
    failed_since: u64,
    /// Safe requests may fail too: by `on-hub-loss: fail`, while no server can ask the hub.
    may_fail: bool,
    /// Who answered last, and who should.
    server: String,
    home: &'static str,
}

impl Counter {
    /// A user whose session's home is the app server with this index.
    fn new(cluster: &Cluster, home: u8, name: usize, method: Method) -> Self {
        Self {
            user: cluster.user_of(home, name),
            method,
            last: 0,
            twice: 0,
            failed: Vec::new(),
            failed_since: 0,
            may_fail: false,
            server: String::new(),
            home: ["app-a", "app-b", "app-c", "app-d"][usize::from(home)],
        }
    }

    /// Counts once and checks the answer against all before it.
    async fn count(&mut self) {
        match self.user.request(self.method.clone(), "/count").await {
            Ok(answer) if answer.status == StatusCode::OK => {
                let (count, server) = answer.count();
                let step =
                    count.checked_sub(self.last).unwrap_or_else(|| panic!("{count} after {}", self.last));
                // One that was sent again, or that failed, may have counted before its server died.
                let uncertain = 1 + std::mem::take(&mut self.failed_since);
                assert!((1..=1 + uncertain).contains(&step), "{count} after {}: {self:?}", self.last);
                self.twice += step - 1;
                self.last = count;
                self.server = server;
            }
            other => {
                let safe = self.method == Method::GET && !self.may_fail;
                assert!(!safe, "a safe request failed: {other:?} {self:?}");
                self.failed_since += 1;
                self.failed.push(format!("after {} by {}: {other:?}", self.last, self.server));
            }
        }
    }
}

/// Counts until `stop`, telling how many answers there have been.
fn counting(counters: Vec<Counter>, stop: &Arc<AtomicBool>, answers: &Arc<AtomicU64>) -> JoinSet<Counter> {
    let mut tasks = JoinSet::new();
    for mut counter in counters {
        let (stop, answers) = (stop.clone(), answers.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                counter.count().await;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            counter
        });
    }
    tasks
}

/// Waits until `more` further answers have come.
async fn progress(answers: &AtomicU64, more: u64) {
    let goal = answers.load(Ordering::Relaxed) + more;
    let waiting = async {
        while answers.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("counting goes on");
}

/// Ten users at home on `app-a`, five each on the others.
fn twenty(cluster: &Cluster) -> Vec<Counter> {
    let home = |n: usize| match n {
        0..10 => 0,
        10..15 => 1,
        _ => 2,
    };
    let method = |n: usize| if n % 5 == 4 { Method::POST } else { Method::GET };
    (0..20).map(|n| Counter::new(cluster, home(n), n, method(n))).collect()
}

/// Counts with each user until its home server answers, or panics when it does not get there.
async fn everyone_at_home(counters: &mut [Counter]) {
    for counter in counters {
        let end = Instant::now() + PATIENCE;
        loop {
            counter.count().await;
            if counter.server == counter.home {
                break;
            }
            assert!(Instant::now() < end, "does not get home: {counter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_killed_and_every_count_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let mut counters = twenty(&cluster);
    everyone_at_home(&mut counters).await;
    killed_between_requests(&mut cluster, &mut counters).await;
    counters = killed_during_requests(&mut cluster, counters).await;
    all_killed_at_once(&mut cluster, &mut counters).await;
}

async fn killed_between_requests(cluster: &mut Cluster, counters: &mut [Counter]) {
    let before: Vec<_> = counters.iter().map(|counter| counter.last).collect();

    cluster.kill("app-a").await;
    for counter in counters.iter_mut() {
        counter.count().await;
    }
    for (counter, before) in counters.iter().zip(before) {
        assert_eq!((counter.last, counter.twice, counter.failed.len()), (before + 1, 0, 0), "{counter:?}");
        assert_ne!(counter.server, "app-a");
    }

    cluster.start_one("app-a").await;
    everyone_at_home(counters).await;
    assert!(counters.iter().all(|counter| counter.twice == 0 && counter.failed.is_empty()), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_during_requests_over_encrypted_connections() {
    let mut cluster = Cluster::start_with(3, |it| it.encryption = Some("true")).await;
    let mut counters = twenty(&cluster);
    everyone_at_home(&mut counters).await;
    killed_during_requests(&mut cluster, counters).await;
}

/// Only those in flight notice.
async fn killed_during_requests(cluster: &mut Cluster, counters: Vec<Counter>) -> Vec<Counter> {
    let (stop, answers) = (Arc::default(), Arc::default());
    let tasks = counting(counters, &stop, &answers);
    progress(&answers, 200).await;
    cluster.kill("app-a").await;
    progress(&answers, 200).await;
    cluster.start_one("app-a").await;
    progress(&answers, 200).await;
    stop.store(true, Ordering::Relaxed);
    let mut counters = tasks.join_all().await;

    for counter in &counters {
        // One request of each user can have been in flight at that instant; one that failed may have counted.
        assert!(counter.failed.len() <= 1 && counter.twice <= 1, "{counter:?}");
    }
    everyone_at_home(&mut counters).await;
    counters
}

/// Every acknowledged session is there.
async fn all_killed_at_once(cluster: &mut Cluster, counters: &mut [Counter]) {
    cluster.kill_all(&cluster.configuration.servers()).await;
    cluster.start_all().await;
    for counter in counters {
        let before = counter.last;
        counter.count().await;
        assert_eq!(counter.last, before + 1, "{counter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_hub_servers_down_and_counting_goes_on_from_memory() {
    // app-d serves the users and is not of the hub, so that the hub's servers can die.
    let mut cluster = Cluster::start_with(4, |it| it.session.push("save-timeout: 200ms".into())).await;
    let mut counter = Counter::new(&cluster, 3, 0, Method::GET);
    counter.count().await;
    assert_eq!(counter.server, "app-d");

    cluster.kill("app-b").await;
    cluster.kill("app-c").await;
    for _ in 0..5 {
        counter.count().await;
    }
    assert_eq!((counter.last, counter.twice), (6, 0), "{counter:?}");

    cluster.start_one("app-b").await;
    cluster.start_one("app-c").await;
    let key = proto::hub::v1::SessionKey {
        app: app_key(),
        id: counter.user.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned(),
    };
    let hub = cluster.hub();
    let saved = async {
        loop {
            if let Ok(Some(record)) = hub.load(key.clone(), PATIENCE).await
                && record.attributes.values().any(|value| &value[..] == b"6")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, saved).await.expect("the hub gets the final value");
    cluster.kill("app-d").await;
    counter.count().await;
    assert_eq!((counter.last, counter.twice), (7, 0), "{counter:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_server_that_comes_back_with_the_hub_shows_what_others_have_answered_without_it() {
    let mut cluster = Cluster::start_with(4, |it| it.session.push("save-timeout: 1500ms".into())).await;
    let mut counters: Vec<Counter> = (0..8).map(|n| Counter::new(&cluster, 0, n, Method::GET)).collect();
    everyone_at_home(&mut counters).await;
    cluster.kill("app-a").await;
    for counter in &mut counters {
        counter.count().await;
    }
    // These are in the memory of servers that live on when there is no majority.
    counters.retain(|counter| counter.server != "app-b");
    assert!(!counters.is_empty());
    cluster.kill("app-b").await;
    for counter in &mut counters {
        counter.may_fail = true;
        for _ in 0..3 {
            counter.count().await;
        }
    }
    cluster.launch("app-a");
    cluster.launch("app-b");
    let all = counters.iter_mut().map(|counter| everyone_at_home(std::slice::from_mut(counter)));
    futures_util::future::join_all(all).await;
}

/// The name under which the hub keeps the sessions of the test cluster's app.
fn app_key() -> String {
    "app-tier||".into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_paused_never_shows_an_older_value() {
    let mut cluster =
        Cluster::start_with(3, |it| it.server.push("load-balance-connect-timeout: 300ms".into())).await;
    let mut counter = Counter::new(&cluster, 0, 0, Method::GET);
    counter.count().await;
    counter.count().await;
    assert_eq!(counter.server, "app-a");
    // The hub loses one of three; web-a finds its connections silent, then takes the backup.
    cluster.process("app-a").signal(Signal::STOP);
    let elsewhere = async {
        while counter.server == "app-a" {
            counter.count().await;
        }
    };
    let moved = timeout(PATIENCE, elsewhere).await;
    cluster.process("app-a").signal(Signal::CONT);
    moved.expect("the user is served elsewhere");
    let back = async {
        while counter.server != "app-a" {
            counter.count().await;
        }
    };
    timeout(PATIENCE, back).await.expect("the user goes home");
    cluster.kill("app-b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_of_one_and_two_servers_keep_sessions() {
    for apps in [1, 2] {
        let mut cluster = Cluster::start(apps).await;
        let mut user = cluster.user();
        assert_eq!(user.count().await.0, 1);
        assert_eq!(user.count().await.0, 2);
        cluster.kill_all(&cluster.configuration.servers()).await;
        cluster.start_all().await;
        assert_eq!(user.count().await.0, 3, "with {apps} app servers");
    }
}

/// Pulls the cable of each app server in turn, under load.
async fn cables_are_pulled(on_hub_loss: &str) {
    let started = Cluster::start_in_network(3, |it| {
        it.session.push(format!("on-hub-loss: {on_hub_loss}"));
        it.server.push("load-balance-connect-timeout: 300ms".into());
    });
    let Some(cluster) = started.await else { return };
    let mut counters: Vec<_> =
        (0..6).map(|n| Counter::new(&cluster, u8::try_from(n % 3).unwrap(), n, Method::GET)).collect();
    everyone_at_home(&mut counters).await;
    counters.iter_mut().for_each(|counter| counter.may_fail = true);
    for cut in cluster.configuration.app_servers() {
        let (stop, answers) = (Arc::default(), Arc::default());
        let tasks = counting(counters, &stop, &answers);
        progress(&answers, 50).await;
        cluster.network().cut(&cut);
        // Everybody goes on, also those whose server is gone: more answers than there can be in flight.
        progress(&answers, 200).await;
        cluster.network().mend(&cut);
        progress(&answers, 100).await;
        stop.store(true, Ordering::Relaxed);
        counters = tasks.join_all().await;
        everyone_at_home(&mut counters).await;
    }
    let failed: usize = counters.iter().map(|counter| counter.failed.len()).sum();
    tell(&format!(
        "on-hub-loss: {on_hub_loss}, three servers cut off in turn: {failed} requests of six users were refused"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_cut_off_never_shows_an_older_value() {
    // A server that can't ask the hub answers 503, and the request goes to one that can.
    cables_are_pulled("fail").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_cut_off_and_serves_from_memory_never_shows_an_older_value() {
    // It does not, while the web-tier hears the hub.
    cables_are_pulled("serve").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_the_web_tier_reaches_gives_its_users_away() {
    // app-d is not of the hub.
    let started = Cluster::start_in_network(4, |it| {
        it.session.push("save-timeout: 500ms".into());
        // Long enough that the hub does not take it off before the users have noticed.
        it.heartbeat_interval = "3s".into();
    });
    let Some(cluster) = started.await else { return };
    let mut counters: Vec<_> = (0..4).map(|n| Counter::new(&cluster, 3, n, Method::GET)).collect();
    everyone_at_home(&mut counters).await;
    let hub = ["app-a", "app-b", "app-c"];
    for _ in 0..2 {
        let (stop, answers) = (Arc::default(), Arc::default());
        let tasks = counting(counters, &stop, &answers);
        progress(&answers, 50).await;
        cluster.network().part("app-d", &hub);
        progress(&answers, 100).await;
        stop.store(true, Ordering::Relaxed);
        counters = tasks.join_all().await;
        for counter in &mut counters {
            counter.count().await;
            assert_ne!(counter.server, "app-d", "{counter:?}");
        }
        cluster.network().join("app-d", &hub);
        everyone_at_home(&mut counters).await;
    }
    // A server that only the web-tier reaches has users, but none of them ever sees a request fail.
    assert!(counters.iter().all(|counter| counter.failed.is_empty()), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_the_other_hub_servers_do_not_reach_gives_its_users_away() {
    // So long that no heartbeat tells anybody anything.
    let started = Cluster::start_in_network(4, |it| it.heartbeat_interval = "10s".into());
    let Some(cluster) = started.await else { return };
    let mut counters: Vec<_> =
        (0..8).map(|n| Counter::new(&cluster, u8::try_from(n % 4).unwrap(), n, Method::GET)).collect();
    everyone_at_home(&mut counters).await;
    counters.iter_mut().for_each(|counter| counter.may_fail = true);
    let leader = cluster.hub().leader(PATIENCE).await.unwrap();
    let others: Vec<_> =
        ["app-a", "app-b", "app-c"].into_iter().filter(|it| *it != leader.as_str()).collect();
    let (stop, answers) = (Arc::default(), Arc::default());
    let tasks = counting(counters, &stop, &answers);
    progress(&answers, 50).await;
    // It goes on believing that it leads, and the web-tier and all app servers reach it.
    cluster.network().part(leader.as_str(), &others);
    progress(&answers, 300).await;
    stop.store(true, Ordering::Relaxed);
    counters = tasks.join_all().await;
    // Its users are with the others, who lack nothing that it has answered.
    for counter in &mut counters {
        counter.count().await;
        assert_ne!(counter.server, leader.as_str(), "{counter:?}");
    }
    cluster.network().join(leader.as_str(), &others);
    everyone_at_home(&mut counters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_comes_with_the_cookie_of_an_ended_session_gets_a_new_one() {
    let cluster = Cluster::start(2).await;
    let mut user = cluster.user();
    user.count().await;
    assert_eq!(user.count().await.0, 2);
    let old = user.cookie.clone();
    let forgotten = user.request(Method::POST, "/forget").await.unwrap();
    assert_eq!(forgotten.status, StatusCode::OK, "{forgotten:?}");
    user.cookie.clone_from(&old);
    assert_eq!(user.count().await.0, 1);
    assert_ne!(user.cookie, old);
    assert_eq!(user.count().await.0, 2);
    // Once more, with a request that is not sent twice.
    let mut other = cluster.user().with_cookie(old.clone().unwrap());
    let answer = other.request(Method::POST, "/count").await.unwrap();
    assert_eq!(answer.count().0, 1);
    assert!(other.cookie != old && other.cookie != user.cookie, "{other:?}");
}

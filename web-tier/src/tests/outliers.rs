//! `outlier-detection`: servers of which many requests fail, through a whole web tier.

use super::{
    backend::{Backend, OnConnection, echo, http},
    cluster::Cluster,
    foreign::{inserted, proxy, put, until_async},
    reload::file,
};
use bytes::Bytes;
use common::config::{HttpProxy, OutlierDetection};
use http_body_util::Full;
use hyper::Response;
use proto::status::v1::{Standing, WorkerView};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Out soon, and back soon.
fn quick() -> OutlierDetection {
    OutlierDetection {
        requests_min: 5,
        window: Duration::from_secs(60),
        eject_time: Duration::from_millis(400),
        eject_time_max: Duration::from_secs(60),
        ..OutlierDetection::default()
    }
}

/// A server that answers `bad`, and 500 as long as it is ill.
fn ill() -> (OnConnection, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (ill, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_ill, count) = (ill.clone(), asked.clone());
    let backend = http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let status = if is_ill.load(Ordering::SeqCst) { 500 } else { 200 };
        async move { Response::builder().status(status).body(Full::<Bytes>::from("bad")).unwrap() }
    });
    (backend, ill, asked)
}

/// How the only worker sees a server.
async fn seen(cluster: &Cluster, server: usize) -> WorkerView {
    cluster.web.view().status().await.upstreams[0].servers[server].workers[0]
}

async fn is_ejected(cluster: &Cluster, server: usize) -> bool {
    seen(cluster, server).await.standing() == Standing::Ejected
}

/// Asks until it is out.
async fn until_ejected(cluster: &Cluster, server: usize) {
    until_async(async || {
        let mut client = cluster.client().await;
        for _ in 0..6 {
            client.ask("GET /", "").await;
        }
        is_ejected(cluster, server).await
    })
    .await;
}

#[tokio::test]
async fn a_server_of_ours_that_fails_more_than_others_is_left_alone_and_comes_back_slowly() {
    let (bad, is_ill, asked) = ill();
    let cluster = Cluster::start_with([echo("a"), bad, echo("c")], |config| {
        config.clusters[0].outlier_detection = Some(quick());
    })
    .await;
    until_ejected(&cluster, 1).await;
    is_ill.store(false, Ordering::SeqCst);
    let view = seen(&cluster, 1).await;
    assert_eq!((view.ejections, view.probe_in_ms.is_some()), (1, true), "{view:?}");
    let before = asked.load(Ordering::SeqCst);
    let mut client = cluster.client().await;
    for _ in 0..4 {
        assert_eq!(client.ask("GET /", "").await.status, 200);
        // A session on the hub goes on elsewhere.
        assert_eq!(client.ask("GET /", "Cookie: JSESSIONID=baXyz\r\n").await.status, 200);
    }
    if is_ejected(&cluster, 1).await {
        assert_eq!(asked.load(Ordering::SeqCst), before, "nothing has gone there meanwhile");
    }
    until_async(async || !is_ejected(&cluster, 1).await).await;
    let view = seen(&cluster, 1).await;
    assert_eq!(view.standing(), Standing::Well);
    assert!(view.warmup < 16, "it warms up: {view:?}");
    until_async(async || cluster.ask("GET /", "").await.body == "bad").await;
}

#[tokio::test]
async fn users_who_are_bound_to_it_stay_and_get_its_answers() {
    let (bad, is_ill, _asked) = ill();
    let (good, bad) = (Backend::plain(0, echo("good")).await, Backend::plain(0, bad).await);
    let settings = OutlierDetection { eject_time: Duration::from_secs(60), ..quick() };
    let rule = HttpProxy {
        outlier_detection: Some(settings),
        cookie: inserted("SRV"),
        ..proxy(&[good.port, bad.port])
    };
    let cluster = Cluster::start_with([], |config| put(config, rule)).await;
    let mut cookie = String::new();
    until_async(async || cluster.ask("GET /", "").await.body == "bad").await;
    while cookie.is_empty() {
        let answer = cluster.ask("GET /", "").await;
        if answer.body == "bad" {
            let set = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
            cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
        }
    }
    until_ejected(&cluster, 1).await;
    is_ill.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(cluster.ask("GET /", &cookie).await.body, "bad");
        assert!(cluster.ask("GET /", "").await.body.starts_with("good"));
    }
}

#[tokio::test]
async fn where_all_fail_nobody_is_out_and_one_that_can_not_be_reached_takes_no_ejected_one_along() {
    let ((one, ..), (two, ..)) = (ill(), ill());
    let cluster = Cluster::start_with([one, two], |config| {
        config.clusters[0].outlier_detection = Some(quick());
    })
    .await;
    let mut client = cluster.client().await;
    for _ in 0..40 {
        assert_eq!(client.ask("GET /", "").await.status, 500);
    }
    assert!(!is_ejected(&cluster, 0).await && !is_ejected(&cluster, 1).await);

    let (bad, ..) = ill();
    let settings = OutlierDetection { eject_time: Duration::from_secs(60), ..quick() };
    let mut cluster = Cluster::start_with([echo("good"), bad], |config| {
        config.clusters[0].outlier_detection = Some(settings);
    })
    .await;
    until_ejected(&cluster, 1).await;
    cluster.kill(0).await;
    let answer = cluster.ask("GET /", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "bad"), "rather than nobody");
}

#[tokio::test]
async fn a_reload_keeps_who_is_out_and_one_that_takes_the_key_away_lets_all_in() {
    let (bad, ..) = ill();
    let settings = OutlierDetection { eject_time: Duration::from_secs(60), ..quick() };
    let mut cluster = Cluster::start_with([echo("a"), bad], |config| {
        config.clusters[0].outlier_detection = Some(settings);
    })
    .await;
    until_ejected(&cluster, 1).await;
    let other = OutlierDetection { error_rate_max: 60, ..settings };
    let config = file(&cluster, |config| config.clusters[0].outlier_detection = Some(other));
    let changes = cluster.web.reload(config).await.unwrap();
    assert_eq!(changes.to_string(), "cluster app-tier: outlier-detection");
    assert!(is_ejected(&cluster, 1).await);
    let config = file(&cluster, |config| config.clusters[0].outlier_detection = None);
    cluster.web.reload(config).await.unwrap();
    assert!(!is_ejected(&cluster, 1).await);
}

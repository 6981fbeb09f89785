//! Servers that stop together, and one whose app does not start: what the hub is needed for goes on as long as it is.

use crate::{
    client::{User, connect},
    cluster::{Cluster, PATIENCE},
};
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::{
    Request, StatusCode,
    body::Frame,
    header::{COOKIE, HOST},
};
use proto::hub::v1::{Member, MemberState};
use rustix::process::Signal;
use std::{convert::Infallible, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// Asks the hub for its members until they are as wanted; a hub that is gone is an error.
async fn members(cluster: &Cluster, mut wanted: impl FnMut(&[Member]) -> bool) {
    let hub = cluster.hub();
    let asked = async {
        loop {
            let members = hub.members(PATIENCE).await.expect("there is a hub");
            if wanted(&members) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("the members get there");
}

fn state(members: &[Member], id: &str) -> MemberState {
    members.iter().find(|it| it.id == id).map_or(MemberState::Unspecified, Member::state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_stopped_at_once_keep_the_hub_until_the_slowest_has_saved() {
    let mut cluster = Cluster::start_with(3, |it| it.session.push("save-mode: on-shutdown".into())).await;
    let mut users: Vec<User> = (0..12).map(|n| cluster.user_of(2, n)).collect();
    for user in &mut users {
        assert_eq!(user.count().await, (1, "app-c".to_owned()));
    }
    // A request that is in flight until the test ends it.
    let (body, pieces) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let stream =
        futures_util::stream::unfold(
            pieces,
            |mut it| async move { it.recv().await.map(|piece| (piece, it)) },
        );
    let stream = StreamBody::new(stream);
    let mut connection = connect(&cluster.web()).await;
    let request = Request::post("/echo").header(HOST, cluster.web());
    let request = request.header(COOKIE, users[0].cookie.clone().unwrap()).body(stream).unwrap();
    let (answer, ()) = tokio::join!(connection.send_request(request), async {
        body.send(Ok(Frame::data(Bytes::from_static(b"begun")))).await.unwrap();
    });
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let servers = cluster.configuration.servers();
    for id in &servers {
        cluster.process(id).signal(Signal::TERM);
    }
    // The others have nothing more to do.
    members(&cluster, |all| {
        state(all, "app-a") == MemberState::Down
            && state(all, "app-b") == MemberState::Down
            && state(all, "app-c") == MemberState::Standby
    })
    .await;
    drop((body, answer));
    for id in &servers {
        assert!(cluster.ended(id).await.success(), "{id}");
    }
    cluster.start_all().await;
    for user in &mut users {
        assert_eq!(user.count().await.0, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_fails_at_its_start_does_not_take_its_hub_server_with_it() {
    let mut cluster = Cluster::prepare(3, |it| {
        let app = it.command.join(" ");
        let script = format!("test ! -e broken-$COPAL_SERVER && exec {app}");
        it.command = vec!["sh".into(), "-c".into(), script];
        it.session.push("on-hub-loss: fail".into());
    });
    let broken = cluster.folder().join("app/broken-app-c");
    std::fs::write(&broken, "").unwrap();
    // It says that it is ready: for its part of the hub.
    cluster.start_all().await;
    let mut user = cluster.user_of(2, 0);
    let (count, server) = user.count().await;
    assert_eq!(count, 1);
    assert_ne!(server, "app-c");
    cluster.kill("app-a").await;
    // Two of three are left, and one of them is app-c.
    members(&cluster, |all| state(all, "app-a") == MemberState::Down).await;
    assert_eq!(user.count().await, (2, "app-b".to_owned()));

    std::fs::remove_file(&broken).unwrap();
    members(&cluster, |all| state(all, "app-c") == MemberState::Active).await;
    // Web-tiers hear of it, and the user comes home.
    let home = async {
        let mut last = 2;
        loop {
            let (count, server) = user.count().await;
            assert_eq!(count, last + 1);
            if server == "app-c" {
                return;
            }
            last = count;
        }
    };
    timeout(PATIENCE, home).await.expect("app-c takes requests");
    assert!(cluster.stop("app-c").await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_app_yaml_does_not_either() {
    let mut cluster = Cluster::start_with(2, |it| it.session.push("on-hub-loss: fail".into())).await;
    let mut user = cluster.user_of(0, 0);
    assert_eq!(user.count().await.0, 1);
    assert!(cluster.stop("app-b").await.success());
    std::fs::write(cluster.folder().join("app/app.yaml"), "comand: [x]\n").unwrap();
    cluster.start_one("app-b").await;
    // Of two hub servers both are needed for a change.
    assert_eq!(user.count().await, (2, "app-a".to_owned()));
    assert!(cluster.stop("app-b").await.success());
}

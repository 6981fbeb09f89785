//! Tests of what a cluster hands on to its successor.

use super::*;
use crate::{
    tests::cluster::{config, credentials},
    upstream::balance::Standing,
};

/// The app tier of a file with servers on these ports.
fn upstream(ports: &[u16], change: impl FnOnce(&mut Cluster)) -> Upstream {
    let mut config = config(ports);
    change(&mut config.clusters[0]);
    Upstream::new(
        &config.clusters[0],
        &"web-a".into(),
        &credentials(config.cluster_encryption),
        1,
        &Breaks::new(&config),
    )
}

fn standing(upstream: &Upstream, index: usize, now: Instant) -> Standing {
    upstream.balance.borrow_mut().server(index).standing(now)
}

#[tokio::test]
async fn servers_that_have_not_changed_keep_their_sockets_and_what_is_known_of_them() {
    let now = Instant::now();
    let former = Rc::new(upstream(&[1, 2], |_| {}));
    for index in 0..2 {
        former.balance.borrow_mut().server(index).connect_failed(now);
    }
    let mut next = upstream(&[1, 2, 3], |cluster| cluster.servers[1].weight = 50);
    assert!(next.succeeds(&former) && !next.is_like(&former));
    next.take_over(&former);
    assert!(matches!(standing(&next, 0, now), Standing::Failing(_)), "it fails");
    assert_eq!(standing(&next, 1, now), Standing::Well, "it may be another machine");
    assert_eq!(standing(&next, 2, now), Standing::Well, "it is new");
    let same_pool: Vec<_> =
        former.servers.iter().zip(&next.servers).map(|(old, new)| old.pool.is(&new.pool)).collect();
    assert_eq!(same_pool, [true, false]);
}

#[tokio::test]
async fn a_request_that_began_before_is_not_counted_by_the_successor() {
    let now = Instant::now();
    let former = Rc::new(upstream(&[1], |_| {}));
    former.balance.borrow_mut().server(0).connect_failed(now);
    let later = now + Duration::from_secs(1);
    let lease = former.lease(later, Affinity::None, Strategy::RoundRobin, Tried::default()).unwrap();
    let mut next = upstream(&[1], |cluster| cluster.session_cookie = "SID".to_owned());
    next.take_over(&former);
    assert_eq!(
        standing(&next, 0, later),
        Standing::Probe,
        "it does not wait for a probe whose end it does not hear of"
    );
    drop(lease);
    assert_eq!(next.balance.get_mut().server(0).active(), 0);
    assert_eq!(standing(&next, 0, later), Standing::Probe);
}

#[tokio::test]
async fn a_server_that_has_moved_up_in_its_cluster_is_the_same() {
    let now = Instant::now();
    let former = upstream(&[1, 2], |_| {});
    former.balance.borrow_mut().server(1).connect_failed(now);
    let mut next = upstream(&[1, 2], |cluster| {
        cluster.servers.remove(0);
        cluster.servers[0].index = ServerIndex(0);
    });
    next.take_over(&former);
    assert!(matches!(standing(&next, 0, now), Standing::Failing(_)));
    assert!(former.servers[1].pool.is(&next.servers[0].pool));
}

//! `hash-by` and `backup`, over sockets.

use super::{
    backend::{Backend, echo},
    cluster::Cluster,
    foreign::{proxy, put},
};
use common::config::{Config, HttpProxy, RequestKey};

async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config: &mut Config| put(config, proxy)).await
}

fn name(body: &str) -> &str {
    body.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn requests_with_one_key_go_to_one_server() {
    let (a, b) = (Backend::plain(0, echo("a")).await, Backend::plain(0, echo("b")).await);
    let hashed = |key| HttpProxy { hash_by: Some(key), ..proxy(&[a.port, b.port]) };
    let cluster = before(hashed(RequestKey::Header("x-tenant".to_owned()))).await;
    let mut seen = std::collections::HashSet::new();
    for tenant in 0..32 {
        let fields = format!("X-Tenant: {tenant}\r\n");
        let first = cluster.ask("GET /", &fields).await.body;
        for path in ["/", "/other"] {
            let again = cluster.ask(&format!("GET {path}"), &fields).await.body;
            assert_eq!(name(&again), name(&first), "{tenant}");
        }
        seen.insert(name(&first).to_owned());
    }
    assert_eq!(seen.len(), 2, "tenants are spread");
    // Without a key by the strategy, in turn.
    let (one, two) = (cluster.ask("GET /", "").await.body, cluster.ask("GET /", "").await.body);
    assert_ne!(name(&one), name(&two));
    let cluster = before(hashed(RequestKey::Path)).await;
    let one = cluster.ask("GET /a?x=1", "").await.body;
    assert_eq!(name(&cluster.ask("GET /a?x=2", "").await.body), name(&one));
}

#[tokio::test]
async fn a_backup_takes_over_and_gives_back() {
    let (a, b) = (Backend::plain(0, echo("a")).await, Backend::plain(0, echo("b")).await);
    let mut proxy = proxy(&[a.port, b.port]);
    proxy.backends[1].backup = true;
    let cluster = before(proxy).await;
    for _ in 0..5 {
        assert_eq!(name(&cluster.ask("GET /", "").await.body), "a");
    }
    let port = a.kill().await;
    for _ in 0..5 {
        assert_eq!(name(&cluster.ask("GET /", "").await.body), "b");
    }
    let _a = Backend::plain(port, echo("a")).await;
    let back = async {
        while name(&cluster.ask("GET /", "").await.body) != "a" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), back).await.unwrap();
}

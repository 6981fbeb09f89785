//! Certificates by ACME with real processes: what one web-tier gets, all have, on the hub and on their disks, and the status page tells.

use crate::{
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying},
};
use acme_server::AcmeServer;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_comes_to_all_web_tiers_and_is_there_after_a_restart() {
    let authority = AcmeServer::start().await;
    let mut cluster = Cluster::prepare(1, |configuration| {
        deploying(configuration);
        configuration.webs = 2;
        let ip = configuration.addresses[0];
        configuration.listener = Some(format!("{{address: {ip}, port: 8443, tls: {{acme: true}}}}"));
        configuration.web_tier = vec![format!(
            "acme: {{directory: '{}', ca: ca.pem, domains: [shop.example]}}",
            authority.directory()
        )];
    });
    std::fs::write(cluster.folder().join("ca.pem"), authority.root_pem()).unwrap();
    let addresses: Vec<_> = (0..2).map(|index| cluster.web_of(index).parse().unwrap()).collect();
    authority.set(|it| it.http = addresses);
    cluster.start_all().await;
    let secured = format!("{}:8443", cluster.configuration.addresses[0]);
    let shown = async || {
        let connected = async {
            loop {
                if let Ok(stream) = authority.connect(&secured, "shop.example").await {
                    return stream;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let mut stream = timeout(PATIENCE, connected).await.expect("a certificate of the authority");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let _ends_without_a_word = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    for id in ["web-a", "web-b"] {
        let copy = cluster.folder().join("data").join(id).join("acme/shop.example.sealed");
        timeout(PATIENCE, async {
            while !copy.exists() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no copy on the disk of {id}"));
    }
    assert_eq!((authority.orders(), authority.accounts()), (1, 1));
    check_told(&cluster.web()).await;
    cluster.kill("web-a").await;
    cluster.start_one("web-a").await;
    assert_eq!(shown().await, first);
    assert_eq!(authority.orders(), 1);
}

/// The metrics and the status tell of it.
async fn check_told(web: &str) {
    let (_, metrics) = curl(web, "GET /admin/metrics/web-a", OPS, "").await;
    let metrics = metrics.as_str().unwrap();
    for sample in [
        "copal_certificate_end_seconds{file=\"shop.example\"} ",
        "copal_acme_next_order_seconds{certificate=\"shop.example\"} ",
        "copal_acme_failed_orders{certificate=\"shop.example\"} 0",
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
    let (_, status) = curl(web, "GET /admin/api/v1/status", OPS, "").await;
    assert!(status.to_string().contains("\"acme\":{\"failures\":0"), "{status}");
}

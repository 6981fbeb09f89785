//! Clusters whose servers speak encrypted with each other: nothing that users see is another.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
};
use bytes::Bytes;
use cluster_port::{Protocol, dial};
use common::id::ServerId;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header::HOST};

/// More than all buffers on the way hold.
const LARGE: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_through_encrypted_connections() {
    let cluster = Cluster::start_with(1, |it| it.encryption = Some("true")).await;
    let web = cluster.web();
    let mut connection = connect(&web).await;
    let body = Full::new(Bytes::from(vec![7; LARGE]));
    let answer =
        connection.send_request(Request::post("/upload").header(HOST, &web).body(body).unwrap()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let counted = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8_lossy(&counted).trim(), format!("uploaded {LARGE} bytes"));
    let ask = Request::get(format!("/bytes?n={LARGE}")).header(HOST, &web).body(Full::default()).unwrap();
    let answer = connection.send_request(ask).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), LARGE);
}

/// From `false` to `true` through `optional`, one server after the other, while a user counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_cluster_begins_to_encrypt() {
    let mut cluster = Cluster::start_with(3, |it| it.encryption = Some("false")).await;
    let mut user = cluster.user_of(0, 1);
    let mut expected = 1;
    assert_eq!(user.count().await.0, expected);
    for encryption in ["optional", "true"] {
        cluster.configuration.encryption = Some(encryption);
        cluster.write();
        for id in cluster.configuration.servers() {
            assert!(cluster.stop(&id).await.success(), "{id}");
            cluster.start_one(&id).await;
            expected += 1;
            assert_eq!(user.count().await.0, expected, "{encryption}, after {id}");
        }
    }
    // All of them encrypt now, and only so.
    let plain = {
        let mut other = cluster.configuration.clone();
        other.encryption = Some("false");
        other.credentials()
    };
    let (address, from, to) =
        (cluster.configuration.cluster_port(0), ServerId::from("web-a"), ServerId::from("app-a"));
    assert!(dial(&address, &plain, &from, &to, Protocol::Http1, PATIENCE).await.is_err());
}

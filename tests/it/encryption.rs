//! Clusters whose servers speak encrypted with each other: nothing that users see is another.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE, copal},
};
use bytes::Bytes;
use cluster_port::{Protocol, dial};
use common::id::ServerId;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header::HOST};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{fs, path::PathBuf, process::Command};

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
    connection.ready().await.unwrap();
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

/// An authority, and the folder with `ca.pem` and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// `server.pem` and `server.key`, for `name`.
    fn issue(&self, server: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{server}.pem")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{server}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_show_each_other_certificates() {
    let mut cluster = Cluster::prepare(2, |it| {
        it.encryption = Some("true");
        let files = "{ca: tls/ca.pem, cert: 'tls/${server.id}.pem', key: 'tls/${server.id}.key'}";
        it.lines.push(format!("cluster-tls: {files}"));
    });
    let authority = Authority::new(cluster.folder().join("tls"));
    for id in cluster.configuration.servers() {
        authority.issue(&id, &id);
    }
    cluster.start_all().await;
    let mut user = cluster.user_of(0, 1);
    assert_eq!(user.count().await, (1, "app-a".to_owned()));
    cluster.kill("app-a").await;
    assert_eq!(user.count().await, (2, "app-b".to_owned()));

    // The key alone is not enough.
    let (address, from, to) =
        (cluster.configuration.cluster_port(1), ServerId::from("web-a"), ServerId::from("app-b"));
    let own = cluster.configuration.credentials();
    assert!(dial(&address, &own, &from, &to, Protocol::Http1, PATIENCE).await.is_err());

    // One with another's name is found out before it serves.
    authority.issue("app-a", "app-b");
    let check = ["check", "--server", "app-a", "--conf"];
    let output = Command::new(copal()).args(check).arg(cluster.file()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("app-a.pem: it does not bear this server's name"), "{said}");
}

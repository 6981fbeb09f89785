//! etcd: three members on this machine, and the calls that are measured, `etcdserverpb.KV/Put` and `Txn`, over one HTTP/2
//! connection like our own client's, to the member that leads.

use crate::process::Process;
use anyhow::{Context, ensure};
use bytes::Bytes;
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// `PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `PutResponse`; what it says is not looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// `Compare` of a key's version.
#[derive(Clone, PartialEq, prost::Message)]
struct Compare {
    /// 0: equal.
    #[prost(int32, tag = "1")]
    result: i32,
    /// 0: the version.
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(int64, optional, tag = "4")]
    version: Option<i64>,
}

/// `RequestOp` with a put.
#[derive(Clone, PartialEq, prost::Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

/// `TxnRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

/// `TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct TxnResponse {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

/// `StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `ResponseHeader`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// `StatusResponse`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    /// The member that leads.
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// No election takes longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where clients reach the members.
const CLIENTS: [&str; 3] = ["http://127.0.0.1:26820", "http://127.0.0.1:26821", "http://127.0.0.1:26822"];

/// A member's name, its port for clients, its port for the others.
const MEMBERS: [(&str, u16, u16); 3] =
    [("etcd-a", 26820, 26810), ("etcd-b", 26821, 26811), ("etcd-c", 26822, 26812)];

/// Starts three members with their data in `folder`, and connects to the one that leads.
pub(crate) async fn start(folder: &Path) -> anyhow::Result<(Etcd, Vec<Process>)> {
    let cluster = MEMBERS.map(|(id, _, peer)| format!("{id}=http://127.0.0.1:{peer}")).join(",");
    let mut processes = Vec::new();
    for (id, client, peer) in MEMBERS {
        let data = folder.join(id);
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let words = [
            ("--name", id),
            ("--data-dir", &data.to_string_lossy()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster),
            ("--initial-cluster-state", "new"),
            ("--log-level", "error"),
        ];
        let words: Vec<&str> = words.into_iter().flat_map(|(flag, value)| [flag, value]).collect();
        processes.push(Process::start(Path::new("etcd"), &words, None, &folder.join(format!("{id}.log")))?);
    }
    for (process, (_, client, _)) in processes.iter_mut().zip(MEMBERS) {
        process.listening(SocketAddr::from(([127, 0, 0, 1], client)))?;
    }
    let first = Etcd::connect(CLIENTS[0]).await?;
    let start = Instant::now();
    // Until it has elected a leader it refuses or holds the put.
    while tokio::time::timeout(DEADLINE, first.put("first".into(), Bytes::new())).await?.is_err() {
        ensure!(start.elapsed() < DEADLINE, "etcd elects no leader");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for url in CLIENTS {
        let etcd = Etcd::connect(url).await?;
        if etcd.leads().await? {
            return Ok((etcd, processes));
        }
    }
    anyhow::bail!("no member of etcd says that it leads")
}

/// A connection to one etcd server.
#[derive(Debug, Clone)]
pub(crate) struct Etcd(Channel);

impl Etcd {
    pub(crate) async fn connect(url: &'static str) -> anyhow::Result<Self> {
        Ok(Self(Endpoint::from_static(url).connect().await?))
    }

    /// Whether this member leads.
    async fn leads(&self) -> anyhow::Result<bool> {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
        let codec = ProstCodec::<StatusRequest, StatusResponse>::default();
        let status = client.unary(tonic::Request::new(StatusRequest {}), path, codec).await?.into_inner();
        Ok(status.header.context("a status has a header")?.member_id == status.leader)
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> anyhow::Result<()> {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        client.unary(tonic::Request::new(PutRequest { key, value }), path, codec).await?;
        Ok(())
    }

    /// Puts the number after `version`, if the key has been put that often.
    pub(crate) async fn increment(&self, key: Bytes, version: u64) -> anyhow::Result<()> {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Txn");
        let codec = ProstCodec::<TxnRequest, TxnResponse>::default();
        let compare =
            Compare { key: key.clone(), version: Some(i64::try_from(version)?), ..Compare::default() };
        let put = PutRequest { key, value: (version + 1).to_string().into() };
        let request = TxnRequest { compare: vec![compare], success: vec![RequestOp { put: Some(put) }] };
        let answer = client.unary(tonic::Request::new(request), path, codec).await?;
        ensure!(answer.into_inner().succeeded, "the transaction found another version");
        Ok(())
    }
}

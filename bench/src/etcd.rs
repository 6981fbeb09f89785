//! The calls of etcd that are measured, `etcdserverpb.KV/Put` and `Txn`, over one HTTP/2 connection like our own client's.

use bytes::Bytes;
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

/// A connection to one etcd server.
#[derive(Debug, Clone)]
pub(crate) struct Etcd(Channel);

impl Etcd {
    pub(crate) async fn connect(url: &'static str) -> anyhow::Result<Self> {
        Ok(Self(Endpoint::from_static(url).connect().await?))
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
        anyhow::ensure!(answer.into_inner().succeeded, "the transaction found another version");
        Ok(())
    }
}

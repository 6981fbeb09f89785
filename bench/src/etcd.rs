//! The one call of etcd that is measured, `etcdserverpb.KV/Put`, over one HTTP/2 connection like our own client's.

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
}

//! The servers behind the proxies: 100-byte answers over plain HTTP/1.1 and behind the cluster port's handshake, from one
//! program, so that every proxy has the same backend.

use bytes::Bytes;
use common::{
    cluster_port::{Acceptor, ClusterKey, Protocol},
    config::Secret,
};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::net::{TcpListener, TcpStream};

const BODY: [u8; 100] = [b'x'; 100];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Plain HTTP/1.1 listens at this address
    #[arg(long)]
    plain: Vec<String>,
    /// A cluster port, as ID=ADDRESS
    #[arg(long)]
    cluster: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for address in &arguments.plain {
            let listener = TcpListener::bind(address).await?;
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream));
                }
            });
        }
        for server in &arguments.cluster {
            let Some((id, address)) = server.split_once('=') else {
                anyhow::bail!("--cluster {server}: expected ID=ADDRESS");
            };
            let listener = TcpListener::bind(address).await?;
            let mut acceptor = Acceptor::start(listener, ClusterKey::new(&Secret::default()), id.into());
            tokio::spawn(async move {
                while let Some(accepted) = acceptor.next().await {
                    if accepted.peer.protocol == Protocol::Http1 {
                        tokio::spawn(serve(accepted.stream));
                    }
                }
            });
        }
        std::future::pending().await
    })
}

async fn serve(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&BODY))))
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

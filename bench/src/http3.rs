//! A load in HTTP/3, as h2load of Debian does none: connections with many streams each, or idle ones that are held.

use crate::say;
use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::Request;
use quinn::{ClientConfig, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    cell::Cell,
    future::poll_fn,
    io::Read,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{runtime, task::LocalSet, time::timeout};

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to connect, over UDP
    #[arg(long)]
    to: SocketAddr,
    /// Seconds
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests at once on each
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// What is asked for
    #[arg(long, default_value = "/")]
    path: String,
    /// Asks once on each connection, and holds them until standard input ends
    #[arg(long)]
    hold: bool,
    /// A cookie of each request
    #[arg(long, default_value = "")]
    cookie: String,
}

type Client = SendRequest<OpenStreams, Bytes>;

/// Prints how many requests were answered, or a line once all connections are open.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        endpoint.set_default_client_config(config()?);
        let mut clients = Vec::with_capacity(arguments.connections);
        for number in 0..arguments.connections {
            clients.push(
                connect(&endpoint, arguments.to).await.with_context(|| format!("connection {number}"))?,
            );
        }
        if arguments.hold { hold(arguments, clients).await } else { load(arguments, clients).await }
    })
}

async fn hold(arguments: &Arguments, mut clients: Vec<Client>) -> anyhow::Result<()> {
    for client in &mut clients {
        ask(client, arguments).await?;
    }
    say("open");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

async fn load(arguments: &Arguments, clients: Vec<Client>) -> anyhow::Result<()> {
    let count = Rc::new(Cell::new(0_u64));
    let end = Instant::now() + Duration::from_secs(arguments.seconds.into());
    let request = request(arguments.to, &arguments.path, &arguments.cookie)?;
    let mut tasks = Vec::new();
    for client in clients {
        for _ in 0..arguments.streams {
            let (mut client, request, count) = (client.clone(), request.clone(), count.clone());
            tasks.push(tokio::task::spawn_local(async move {
                while Instant::now() < end {
                    timeout(PATIENCE, answer(&mut client, request.clone())).await??;
                    count.set(count.get() + 1);
                }
                anyhow::Ok(())
            }));
        }
    }
    for task in tasks {
        task.await??;
    }
    say(&format!("answered: {}", count.get()));
    Ok(())
}

/// What [`run`] prints.
pub(crate) fn answered(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("answered: "))?.parse().ok()
}

async fn connect(endpoint: &Endpoint, to: SocketAddr) -> anyhow::Result<Client> {
    let quic = timeout(PATIENCE, endpoint.connect(to, "localhost")?).await??;
    let (mut connection, client) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
    tokio::task::spawn_local(async move { poll_fn(|cx| connection.poll_close(cx)).await });
    Ok(client)
}

fn request(to: SocketAddr, path: &str, cookie: &str) -> anyhow::Result<Request<()>> {
    Ok(Request::get(format!("https://localhost:{}{path}", to.port())).header("cookie", cookie).body(())?)
}

async fn ask(client: &mut Client, arguments: &Arguments) -> anyhow::Result<()> {
    let request = request(arguments.to, &arguments.path, &arguments.cookie)?;
    timeout(PATIENCE, answer(client, request)).await?
}

async fn answer(client: &mut Client, request: Request<()>) -> anyhow::Result<()> {
    let mut stream = client.send_request(request).await?;
    stream.finish().await?;
    let head = stream.recv_response().await?;
    if !head.status().is_success() {
        bail!("answered {}", head.status());
    }
    let mut bytes = 0;
    while let Some(mut data) = stream.recv_data().await? {
        bytes += data.remaining();
        data.advance(data.remaining());
    }
    ensure!(bytes > 0, "an answer without a body");
    Ok(())
}

fn config() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)));
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(10)));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Takes any certificate: the server is this machine's.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        assert_eq!(answered("answered: 12\n"), Some(12.0));
        assert_eq!(answered("open\n"), None);
    }
}

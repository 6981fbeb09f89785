//! QUIC (RFC 9000), which HTTP/3 comes by: what its connections may take, their keys, and how packets find the worker that has their
//! connection. `quinn` does the rest.

mod connection_id;
mod keys;
mod socket;

pub(crate) use keys::QuicKeys;
pub(crate) use socket::{WorkerSocket, shares};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::{Tls13CipherSuite, crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256};
use std::{io, sync::Arc, time::Duration};

/// How many requests a client may have under way, and how many streams of one direction: three, and some that nobody knows.
const REQUESTS_MAX: u32 = 128;
const UNIDIRECTIONAL_MAX: u32 = 16;

/// How many bytes a client may send ahead of one body, and at first of all bodies of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// How many bytes of answers are held for a client until it acknowledges them, at first and at most.
pub(crate) const SEND_WINDOW: u64 = 128 * 1024;
pub(crate) const SEND_WINDOW_MAX: u64 = 4 * 1024 * 1024;

/// A client of which nothing comes for so long is gone, and how often it is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Connections whose first packet waits to be looked at, how many bytes more each may bring until then, and all of them.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How TLS and QUIC are spoken with clients, by a listener's `tls`.
pub(crate) fn server_config(mut tls: rustls::ServerConfig, keys: &QuicKeys) -> Option<Arc<ServerConfig>> {
    tls.alpn_protocols = vec![b"h3".to_vec()];
    // Whatever a listener's `ciphers` say, the first packets are under this one (RFC 9001 §5.2).
    let initial = TLS13_AES_128_GCM_SHA256.tls13().and_then(Tls13CipherSuite::quic_suite)?;
    let crypto = QuicServerConfig::with_initial(Arc::new(tls), initial).ok()?;
    let mut config = ServerConfig::new(Arc::new(crypto), keys.tokens());
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    Some(Arc::new(config))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        // Nobody sends datagrams.
        .datagram_receive_buffer_size(None);
    transport
}

/// Begins to serve on a worker's socket.
///
/// # Errors
/// The socket has no address, or the runtime does not take it.
pub(crate) fn open(socket: WorkerSocket, server: &Arc<ServerConfig>) -> io::Result<Endpoint> {
    let ids = socket.ids();
    let mut config = EndpointConfig::new(socket.keys().resets(socket.address()?));
    config.cid_generator(move || Box::new(ids.clone()));
    let socket = socket.open()?;
    let server = ServerConfig::clone(server);
    Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))
}

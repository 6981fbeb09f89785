//! A gRPC channel to one server, through the handshake of its cluster port.

use cluster_port::{Credentials, Protocol, dial_in_task};
use common::id::ServerId;
use futures_util::TryFutureExt;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that is paused or cut off answers no ping: its connection is given up after the two together.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Wide enough that a batch of sessions need not wait for window updates.
const WINDOW: u32 = 8 << 20;

/// A channel from the server `me` to the server `to`, whose cluster port is at `address` (`host:port`). It connects when it is
/// first used, and again whenever it has been cut.
pub fn channel(me: &ServerId, credentials: &Credentials, to: &ServerId, address: &str) -> Channel {
    let (credentials, from, to, address) = (credentials.clone(), me.clone(), to.clone(), address.to_owned());
    let connector = tower::service_fn(move |_: Uri| {
        let (credentials, from, to, address) =
            (credentials.clone(), from.clone(), to.clone(), address.clone());
        dial_in_task(address, credentials, from, to, Protocol::Grpc, CONNECT_TIMEOUT).map_ok(TokioIo::new)
    });
    Endpoint::from_static("http://hub.copal")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

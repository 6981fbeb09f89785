//! Whether a member's address refuses connections, as that of a process does that has ended.

use std::{io::ErrorKind, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// A dial takes no longer; one that takes longer was not refused.
const DIAL: Duration = Duration::from_millis(500);

/// Whether nobody listens at `address`: its machine is there and refuses the connection.
pub(crate) async fn is_refused(address: &str) -> bool {
    let dialed = timeout(DIAL, TcpStream::connect(address)).await;
    matches!(dialed, Ok(Err(cause)) if cause.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_refusal_is_a_refusal() {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap().to_string();
        assert!(!is_refused(&address).await);
        drop(port);
        assert!(is_refused(&address).await);
        assert!(!is_refused("no address at all").await);
    }
}

//! Which requests may become something else, and how a tunnel ends.

use super::*;
use crate::body::{empty, full};
use tokio::io::{DuplexStream, duplex};

const LIMIT: Duration = Duration::from_secs(60);

fn request(lines: &[(&str, &str)]) -> Request {
    let mut request = http::Request::builder();
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(empty()).unwrap()
}

#[test]
fn only_what_can_become_something_else_is_asked_to() {
    for (lines, expected) in [
        (&[("connection", "Upgrade"), ("upgrade", "websocket")][..], Some("websocket")),
        (&[("connection", "keep-alive, UPGRADE"), ("upgrade", "a/1, b")], Some("a/1, b")),
        (&[("connection", "x"), ("connection", "upgrade"), ("upgrade", "a")], Some("a")),
        (&[("upgrade", "websocket")], None),
        (&[("connection", "keep-alive"), ("upgrade", "websocket")], None),
        (&[("connection", "upgrade")], None),
        (&[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")], None),
        (&[("connection", "upgrade, http2-settings"), ("upgrade", "H2C")], None),
        (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], None),
    ] {
        let wanted = wanted(&request(lines));
        assert_eq!(wanted.as_ref().map(|it| it.to_str().unwrap()), expected, "{lines:?}");
    }
    let lines = &[("connection", "upgrade"), ("upgrade", "websocket")];
    let mut old = request(lines);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(wanted(&old), None);
    let with_body = request(lines).map(|_| full("body"));
    assert_eq!(wanted(&with_body), None);
}

/// A client, an app, and what joins them.
fn tunnel() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
    let ((client, near), (far, app)) = (duplex(1024), duplex(1024));
    (client, app, tokio::task::spawn_local(join(near, far, LIMIT)))
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_whatever_their_number_and_idle_tunnels_live() {
    local(async {
        let (mut client, mut app, joined) = tunnel();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for size in [1, SMALL, SMALL + 1, 200_000, 5] {
            for up in [true, false] {
                let (from, to) = if up { (&mut client, &mut app) } else { (&mut app, &mut client) };
                let mut got = vec![0; size];
                let (written, read) = tokio::join!(from.write_all(&sent[..size]), to.read_exact(&mut got));
                written.unwrap();
                read.unwrap();
                assert!(got == sent[..size], "{size} {up}");
            }
            tokio::time::sleep(100 * LIMIT).await;
        }
        drop((client, app));
        joined.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_side_may_end_while_the_other_goes_on() {
    local(async {
        let (mut client, mut app, joined) = tunnel();
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        app.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last");
        for n in 0..5 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            app.write_all(&[n]).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), n);
        }
        app.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        joined.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_side_that_stays_alone_and_silent_is_ended() {
    local(async {
        let (client, mut app, joined) = tunnel();
        let began = tokio::time::Instant::now();
        app.shutdown().await.unwrap();
        assert_eq!(joined.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((LIMIT..2 * LIMIT).contains(&began.elapsed()));
        drop(client);
    })
    .await;
}

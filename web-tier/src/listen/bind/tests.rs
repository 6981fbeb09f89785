//! Tests of binding, on ports of the system's choice.

use super::*;
use crate::tests::cluster::config;
use std::{net::TcpStream, num::NonZeroUsize};

fn me() -> ServerId {
    ServerId::from("web-a")
}

fn with_port(port: u16, workers: usize) -> Config {
    let mut config = config(&[]);
    config.clusters[1].workers = NonZeroUsize::new(workers);
    config.clusters[1].servers[0].http[0].port = port;
    config
}

#[test]
fn port_0_gives_all_workers_one_real_port() {
    let bound = bind(&with_port(0, 3), &me(), &mut Inherited::default()).unwrap();
    let port = bound.addresses()[0].port();
    assert_ne!(port, 0);
    assert_eq!((bound.workers, bound.listeners[0].sockets.len()), (3, 3));
    for socket in &bound.listeners[0].sockets {
        assert_eq!(socket.local_addr().unwrap().port(), port);
    }
}

#[test]
fn a_second_copal_does_not_join_the_port() {
    let bound = bind(&with_port(0, 2), &me(), &mut Inherited::default()).unwrap();
    let error =
        bind(&with_port(bound.addresses()[0].port(), 2), &me(), &mut Inherited::default()).unwrap_err();
    let expected = format!("listener {}: the address is in use by another process", bound.addresses()[0]);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_port_of_any_other_listener_is_in_use() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bind(&with_port(other.local_addr().unwrap().port(), 1), &me(), &mut Inherited::default())
        .unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
}

#[test]
fn a_port_is_free_again_after_a_stop() {
    let bound = bind(&with_port(0, 2), &me(), &mut Inherited::default()).unwrap();
    let port = bound.addresses()[0].port();
    drop(bound);
    assert_eq!(
        bind(&with_port(port, 2), &me(), &mut Inherited::default()).unwrap().addresses()[0].port(),
        port
    );
}

/// A reload that makes a listener wider, or narrower.
#[test]
fn an_address_can_be_bound_beside_one_of_our_own_that_includes_it() {
    let address = |text: &str, port: u16| SocketAddr::new(text.parse().unwrap(), port);
    for (old, new) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")] {
        let before = bind_listener(address(old, 0), 2, false, false).unwrap();
        let port = before.at.port();
        let error = bind_listener(address(new, port), 2, false, false).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)), "{old} {new}: {error}");
        let beside = bind_listener(address(new, port), 2, true, false).unwrap();
        let to = address("127.0.0.1", port);
        let _client = TcpStream::connect(to).unwrap();
        drop(before);
        let _later: Vec<_> = (0..8).map(|_| TcpStream::connect(to).unwrap()).collect();
        assert!(beside.sockets.iter().any(|it| it.accept().is_ok()), "{old} {new}");
        assert!(bind_listener(to, 1, false, false).is_err(), "{old} {new}: nobody else gets in");
    }
}

#[test]
fn the_kernel_spreads_connections_over_the_workers() {
    let bound = bind(&with_port(0, 2), &me(), &mut Inherited::default()).unwrap();
    let _clients: Vec<_> = (0..64).map(|_| TcpStream::connect(bound.addresses()[0]).unwrap()).collect();
    for socket in &bound.listeners[0].sockets {
        // Non-blocking: an error would mean that nothing waits here, of 64 connections.
        assert!(socket.accept().is_ok());
    }
}

#[test]
fn unknown_names_are_told() {
    let error = bind(&with_port(0, 1), &ServerId::from("web-z"), &mut Inherited::default()).unwrap_err();
    assert_eq!(error.to_string(), "server web-z is not in the configuration file");
    let mut config = with_port(8080, 1);
    config.clusters[1].servers[0].http[0].address = "256.1.1.1.invalid".to_owned();
    let error = bind(&config, &me(), &mut Inherited::default()).unwrap_err();
    assert!(error.to_string().starts_with("listener 256.1.1.1.invalid:8080: can't resolve"), "{error}");
}

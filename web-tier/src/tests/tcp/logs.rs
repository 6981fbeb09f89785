//! What the access log says of connections.

use super::{names::hello, *};
use common::config::{AccessLog, AccessLogFormat, LogFormat};
use serde_json::{Value, json};
use std::{fs, sync::Arc};

/// The lines of three connections: one that is passed on, one that is refused, one that its server breaks.
async fn lines(format: AccessLogFormat) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut server = Server::start().await;
    let mut config = listener(None);
    config.routes = vec![route("a.test", server.port)];
    let cluster = Cluster::start_with([], |file| {
        file.clusters[1].access_log = Some(AccessLog::to_file(path.clone(), format));
        put(file, config);
    });
    let cluster = cluster.await;
    let (mut client, bytes) = (connect(&cluster).await, hello("A.test"));
    send(&mut client, &bytes).await;
    let mut at_server = server.next().await;
    hear(&mut at_server, &bytes).await;
    send(&mut at_server, b"hello").await;
    hear(&mut client, b"hello").await;
    drop((client, at_server));
    until_async(async || counts(&cluster).await.connections_open == 0).await;
    let mut client = connect(&cluster).await;
    send(&mut client, &hello("b.test")).await;
    rest(&mut client).await;
    let mut client = connect(&cluster).await;
    send(&mut client, &bytes).await;
    let mut at_server = server.next().await;
    // It has been connected to, then: one that resets before is one that could not be reached.
    hear(&mut at_server, &bytes).await;
    socket2::SockRef::from(&at_server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(at_server);
    assert!(!rest(&mut client).await.1);
    until_async(async || counts(&cluster).await.connections_open == 0).await;
    cluster.web.stop(PATIENCE).await;
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.replace(&server.port.to_string(), "PORT")).collect()
}

#[tokio::test]
async fn a_line_has_who_came_what_was_asked_for_and_what_came_of_it() {
    let lines = lines(AccessLogFormat::Json).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [passed, refused, broken] = &lines[..] else { panic!("{lines:?}") };
    let expected = json!({
        "client": "127.0.0.1", "listener": "127.0.0.1:0", "received": hello("a.test").len(), "host": "a.test", "status": 200, "bytes": 5,
        "end": "complete", "server": "127.0.0.1:PORT", "tries": 1,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&passed[key], value, "{key}: {passed}");
    }
    assert!(
        passed["duration-us"].as_u64() >= passed["answer-us"].as_u64() && passed.get("why").is_none(),
        "{passed}"
    );
    assert_eq!(
        (&refused["status"], &refused["host"], &refused["tries"]),
        (&json!(404), &json!("b.test"), &json!(0))
    );
    assert_eq!(refused["why"], "no route for the name that it asks for");
    assert_eq!((&broken["end"], &broken["why"]), (&json!("server-broke"), &json!("the server broke off")));
}

#[tokio::test]
async fn lines_for_people_have_the_listener_and_the_name() {
    let common = lines(AccessLogFormat::Common).await;
    assert!(
        common[0].ends_with("] \"TCP 127.0.0.1:0 a.test\" 200 5") && common[0].starts_with("127.0.0.1 - - ["),
        "{common:?}"
    );
    assert!(common[1].ends_with("] \"TCP 127.0.0.1:0 b.test\" 404 0"), "{common:?}");
    let own = LogFormat::parse("$scheme $host $request-uri \"$request\" $server $end").unwrap();
    let own = lines(AccessLogFormat::Own(Arc::new(own))).await;
    assert_eq!(own[0], "tcp a.test - \"TCP 127.0.0.1:0 a.test\" 127.0.0.1:PORT complete");
}

//! Requests and answers.

use super::{
    client::{Client, get},
    site::{HOST, start},
};
use crate::tests::backend::echo;
use http::{Request, StatusCode};

#[tokio::test]
async fn requests_of_one_connection_are_answered_as_those_of_http_1() {
    let (cluster, certificate, _files) = start([echo("a"), echo("b")], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let request =
        get("/x/../y?q=1").header("cookie", "a=1").header("cookie", "JSESSIONID=baX").body(()).unwrap();
    let answer = client.ask(request, &[]).await.unwrap();
    assert_eq!(answer.head.status(), StatusCode::OK);
    let fields = answer.head.headers();
    assert!(fields.contains_key("date") && fields["via"] == "1.1 copal", "{fields:?}");
    assert!(!fields.contains_key("alt-svc"), "it is here already");
    let seen = answer.text;
    assert!(seen.starts_with("b\nGET /y?q=1\n"), "{seen}");
    for line in
        ["host: shop.example", "via: 3.0 copal", "x-forwarded-proto: https", "cookie: a=1; JSESSIONID=baX"]
    {
        assert!(seen.lines().any(|it| it == line), "{line} in {seen}");
    }
    let post = |length: Option<u32>| {
        let request = Request::post(format!("https://{HOST}/"));
        match length {
            Some(length) => request.header("content-length", length),
            None => request,
        }
    };
    let seen = client.ask(post(Some(5)).body(()).unwrap(), &[b"he", b"llo"]).await.unwrap().text;
    assert!(seen.contains("content-length: 5\n") && seen.ends_with("\nhello"), "{seen}");
    let seen = client.ask(post(None).body(()).unwrap(), &[b"he", b"llo"]).await.unwrap().text;
    assert!(seen.contains("transfer-encoding: chunked\n") && seen.ends_with("\nhello"), "{seen}");
    let head = Request::head(format!("https://{HOST}/")).body(()).unwrap();
    let answer = client.ask(head, &[]).await.unwrap();
    assert!(answer.head.headers().contains_key("content-length") && answer.text.is_empty());
    let totals = cluster.web.totals();
    assert_eq!((totals.connections, totals.quic_connections, totals.requests), (1, 1, 4));
}

//! What an operator looks up on a whole cluster: log lines, requests, sessions, configurations; and what is in none of it.

mod logs;
mod requests;
mod secrets;
mod sessions;

use crate::{
    client::connect,
    cluster::{Cluster, Configuration, PATIENCE},
    tokens::{OPS, curl, deploying},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, header};
use serde_json::Value;
use std::fs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What would be a script if it came out as it is.
const EVIL: &str = "<script>alert(1)</script>";

/// What a browser asks for.
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// With an app that prints what it is asked for.
async fn printing(apps: usize) -> Cluster {
    let mut cluster = Cluster::prepare(apps, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
        configuration.command = vec!["python3".into(), "app.py".into()];
    });
    fs::write(cluster.folder().join("app/app.py"), include_str!("inquiry/app.py")).unwrap();
    cluster.start_all().await;
    cluster
}

/// A request with these fields: status, fields and body.
async fn ask(address: &str, line: &str, fields: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut connection = connect(address).await;
    let asked = async {
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (head, body) = connection.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{line} hangs"))
}

/// A request as it is, whatever is in it; its status line.
async fn raw(address: &str, head: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{head} hangs"))
}

/// JSON for one who may do all.
async fn get(cluster: &Cluster, path: &str) -> Value {
    let (status, value) = curl(&cluster.web(), &format!("GET /admin/api/v1/{path}"), OPS, "").await;
    assert_eq!(status, 200, "{path}: {value}");
    value
}

/// Asks until it is as it should be; the test's own limit ends one that never is.
async fn until(cluster: &Cluster, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let asking = async {
        loop {
            last = get(cluster, path).await;
            if is_so(&last) {
                return;
            }
        }
    };
    let outcome = timeout(PATIENCE, asking).await;
    assert!(outcome.is_ok(), "{path} never is so: {last}");
    last
}

fn array<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} of {value}"))
}

/// Signs a user of the file in: the cookie.
async fn sign_in(cluster: &Cluster, user: &str) -> String {
    let form = format!("user={user}&password=password");
    let (status, headers, page) = ask(&cluster.web(), "POST /admin/sign-in", &[HTML], &form).await;
    assert_eq!(status, 303, "{page}");
    headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

/// A page, as a browser has it.
async fn page(cluster: &Cluster, path: &str, cookie: &str) -> String {
    let fields = [HTML, ("cookie", cookie)];
    let (status, _, page) = ask(&cluster.web(), &format!("GET /admin{path}"), &fields, "").await;
    assert_eq!(status, 200, "{path}: {page}");
    page
}

/// The token that a page's forms bring.
fn token(page: &str) -> &str {
    page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap()
}

/// All pages.
const PAGES: [&str; 9] =
    ["", "/servers", "/balancer", "/triad", "/apps", "/requests", "/sessions", "/logs", "/configuration"];

/// Their twins, and the metrics.
const TWINS: [&str; 7] = ["status", "requests", "sessions", "logs", "configuration", "triad", "apps"];

/// A user who may do all, whose password hash and further lines are given.
fn administered(configuration: &mut Configuration, lines: &[&str]) {
    deploying(configuration);
    configuration.webs = 1;
    configuration.lines.extend(lines.iter().map(|it| (*it).to_owned()));
}

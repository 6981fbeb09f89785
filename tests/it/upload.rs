//! An archive comes by a form of the status page: as a browser sends it, and as nobody should.

use crate::{
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying, rolled_out, tar},
};
use serde_json::Value;
use std::path::Path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const BOUNDARY: &str = "----WebKitFormBoundaryq7S0";

/// A field of the form.
fn field(name: &str, value: &str) -> Vec<u8> {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
}

/// The form's file.
fn file(content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"archive\"; filename=\"shop.tar\"\r\n\
         Content-Type: application/x-tar\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn end() -> Vec<u8> {
    format!("--{BOUNDARY}--\r\n").into_bytes()
}

/// What a browser is, once it has signed in.
struct Browser {
    address: String,
    cookie: String,
    token: String,
}

/// Sends a request, `sent` bytes of its body (and no more), and reads the whole answer.
async fn exchange(address: &str, head: &str, body: &[u8], sent: usize) -> String {
    let exchanged = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head = format!("{head}Host: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..sent]).await.unwrap();
        if sent < length {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, exchanged).await.expect("an answer, or the end")
}

impl Browser {
    async fn sign_in(address: String, user: &str) -> Self {
        let body = format!("user={user}&password=password&to=/apps");
        let head = "POST /admin/sign-in HTTP/1.1\r\nAccept: text/html\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";
        let answer = exchange(&address, head, body.as_bytes(), body.len()).await;
        let cookie = answer.to_lowercase().find("set-cookie: ").map(|at| &answer[at + 12..]).unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut browser = Self { address, cookie, token: String::new() };
        let page = browser.get("/admin/apps").await;
        browser.token =
            page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        browser
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nAccept: text/html\r\nCookie: {}\r\n", self.cookie);
        exchange(&self.address, &head, b"", 0).await
    }

    /// Sends the form; status, and the whole answer.
    async fn send(&self, more: &str, body: &[u8], sent: usize) -> (u16, String) {
        let head = format!(
            "POST /admin/actions/upload HTTP/1.1\r\nAccept: text/html\r\nCookie: {}\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{more}",
            self.cookie
        );
        let answer = exchange(&self.address, &head, body, sent).await;
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        (status, answer)
    }

    async fn upload(&self, body: &[u8]) -> (u16, String) {
        self.send("", body, body.len()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_the_form_is_deployed_and_the_page_says_so() {
    let cluster = Cluster::start_with(3, deploying).await;
    let browser = Browser::sign_in(cluster.web(), "ops").await;
    assert!(browser.get("/admin/apps").await.contains("enctype=\"multipart/form-data\""));
    // Large enough to come in many pieces, and with what looks like the end.
    let large: Vec<u8> =
        (0..3 << 20).map(|it: u32| if it.is_multiple_of(7) { b'\r' } else { (it % 251) as u8 }).collect();
    let fake = format!("\r\n--{}", &BOUNDARY[..20]).into_bytes();
    let archive = tar(&[("index.html", b"uploaded"), ("large", &[large.as_slice(), &fake].concat())]);
    let body = [
        field("token", &browser.token),
        field("name", "shop"),
        field("version", ""),
        field("message", "from the page"),
        file(&archive),
        end(),
    ]
    .concat();
    let (status, answer) = browser.upload(&body).await;
    assert_eq!(status, 303, "{answer}");
    assert!(answer.to_lowercase().contains("location: /admin/apps?done=upload"), "{answer}");
    rolled_out(&cluster.web(), "production/webapp/default/shop").await;
    let page = browser.get("/admin/apps?done=upload").await;
    assert!(page.contains("The archive was taken in") && page.contains("from the page"), "{page}");
    let served = cluster.user().get("/shop/index.html").await;
    assert_eq!(served.body, "uploaded");
    assert_eq!(
        cluster.user().get("/shop/large").await.body.len(),
        String::from_utf8_lossy(&[large.as_slice(), &fake].concat()).len()
    );
    let (_, log) = curl(&cluster.web(), "GET /admin/api/v1/audit?kind=action", OPS, "").await;
    let deployed = log["entries"].as_array().unwrap().iter().find(|it| it["action"] == "deploy").unwrap();
    assert_eq!((&deployed["user"], &deployed["outcome"]), (&"ops".into(), &"begun".into()));
    // What is no archive is told on the page, and what is in use stays.
    let broken = [field("token", &browser.token), field("name", "shop"), file(b"no archive"), end()].concat();
    let (status, page) = browser.upload(&broken).await;
    assert!(status == 400 && page.contains("That was not done"), "{page}");
    assert_eq!(cluster.user().get("/shop/index.html").await.body, "uploaded");
}

/// What it is, the form, and the status and words of the answer.
type Case = (&'static str, Vec<u8>, u16, &'static str);

/// Forms that are refused, with a token, a name, a file and what a good one is.
fn refused(token: &[u8], name: &[u8], archive: &[u8], good: &[u8]) -> Vec<Case> {
    let (token, name, archive) = (token.to_vec(), name.to_vec(), archive.to_vec());
    let huge = format!("--{BOUNDARY}\r\nX-Huge: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    vec![
        ("no token", [name.clone(), archive.clone(), end()].concat(), 403, "another session"),
        (
            "the token behind the file",
            [name.clone(), archive.clone(), token.clone(), end()].concat(),
            403,
            "another session",
        ),
        (
            "a token of somebody else",
            [field("token", "AAAA"), name.clone(), archive.clone(), end()].concat(),
            403,
            "another session",
        ),
        (
            "another boundary",
            String::from_utf8_lossy(good).replace("WebKit", "Gecko").into_bytes(),
            400,
            "boundary",
        ),
        ("a huge head", [token.clone(), huge, end()].concat(), 400, "too large"),
        (
            "a huge field",
            [token.clone(), field("message", &"x".repeat(1 << 20)), end()].concat(),
            400,
            "too large",
        ),
        ("many fields", [token.clone(), name.repeat(1000), end()].concat(), 400, "too many fields"),
        ("no file", [token.clone(), name.clone(), end()].concat(), 400, "no file"),
        ("no name", [token.clone(), archive.clone(), end()].concat(), 400, "name"),
        ("a name that is a path", [token, field("name", "../x"), archive, end()].concat(), 400, "name"),
        ("nothing", Vec::new(), 400, "ends in the middle"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_forms_are_refused_and_nothing_of_them_stays() {
    let cluster = Cluster::start_with(1, deploying).await;
    let browser = Browser::sign_in(cluster.web(), "ops").await;
    let (token, name) = (field("token", &browser.token), field("name", "shop"));
    let archive = file(&tar(&[("index.html", b"x"), ("large", &vec![7; 2 << 20])]));
    let good = [token.clone(), name.clone(), archive.clone(), end()].concat();
    for (what, body, expected, words) in refused(&token, &name, &archive, &good) {
        let (status, answer) = browser.upload(&body).await;
        assert!(status == expected && answer.contains(words), "{what}: {answer}");
    }
    // The connection ends in the middle of the file; the whole is announced.
    for sent in [good.len() / 2, good.len() - end().len() - 4] {
        let (_, answer) = browser.send("", &good, sent).await;
        assert!(!answer.contains("done=upload"), "{answer}");
    }
    // A body that ends, as far as HTTP knows, in the middle of the file. Those before it may still be waited for.
    let short = &good[..good.len() - end().len() - 4];
    let ended = async {
        loop {
            match browser.upload(short).await {
                (503, _) => {}
                answered => return answered,
            }
        }
    };
    let (status, answer) = timeout(PATIENCE, ended).await.expect("there is a place");
    assert!(status == 400 && answer.contains("without the form&#39;s boundary"), "{answer}");
    assert_eq!(browser.send("Sec-Fetch-Site: cross-site\r\n", &good, good.len()).await.0, 403);
    let stranger =
        Browser { cookie: "copal-admin=made.up".to_owned(), ..Browser::sign_in(cluster.web(), "ops").await };
    assert_eq!(stranger.upload(&good).await.0, 401);
    let eve = Browser::sign_in(cluster.web(), "eve").await;
    let body = [field("token", &eve.token), name, archive, end()].concat();
    let (status, answer) = eve.upload(&body).await;
    assert!(status == 403 && answer.contains("`deploy`"), "{answer}");

    let (_, apps) = curl(&cluster.web(), "GET /admin/api/v1/apps", OPS, "").await;
    assert_eq!(apps["apps"], Value::Array(Vec::new()), "{apps}");
    let left = files(&cluster.folder().join("data"));
    assert!(!left.iter().any(|it| it.contains("/archive-")), "{left:?}");
    // And the next good one is taken.
    assert_eq!(browser.upload(&good).await.0, 303);
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

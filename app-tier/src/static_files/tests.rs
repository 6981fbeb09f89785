//! A folder, asked over its `App` face.

use super::*;
use http::{StatusCode, request::Builder};
use std::fs;

struct Site {
    files: StaticFiles,
    dir: tempfile::TempDir,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    for (name, text) in [
        ("index.html", "<p>home"),
        ("sub/index.html", "<p>sub"),
        ("app.yaml", "env: {SECRET: x}"),
        (".git/config", "secret"),
        (".env", "secret"),
        ("a b.txt", "spaced"),
        ("x.css", "plain"),
        ("x.css.br", "brotli!"),
        ("x.css.gz", "gzip"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    fs::write(root.join("big.bin"), (0..200_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
    fs::write(dir.path().join("outside.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside.txt", root.join("leak.txt")).unwrap();
    std::os::unix::fs::symlink("sub/index.html", root.join("inner.html")).unwrap();
    Site { files: StaticFiles::new(root), dir }
}

impl Site {
    async fn ask(&self, request: Builder) -> Result<Response, RequestError> {
        self.files.call("", request.body(empty()).unwrap()).await
    }

    async fn status(&self, path: &str) -> u16 {
        match self.ask(http::Request::get(path)).await {
            Ok(response) => response.status().as_u16(),
            Err(cause) => cause.status().as_u16(),
        }
    }

    async fn get(&self, request: Builder) -> (u16, HeaderMapText, Vec<u8>) {
        let response = self.ask(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status.as_u16(), HeaderMapText(parts.headers), bytes)
    }
}

struct HeaderMapText(http::HeaderMap);

impl HeaderMapText {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn serves_files_indexes_and_redirects() {
    let site = site();
    let (status, headers, body) = site.get(http::Request::get("/")).await;
    assert_eq!((status, body.as_slice()), (200, &b"<p>home"[..]));
    assert_eq!(headers.get("content-type"), "text/html; charset=utf-8");
    assert_eq!(headers.get("content-length"), "7");
    assert_eq!(site.get(http::Request::get("/a%20b.txt")).await.2, b"spaced");
    assert_eq!(site.get(http::Request::get("/sub/")).await.2, b"<p>sub");
    assert_eq!(site.get(http::Request::get("/inner.html")).await.2, b"<p>sub");
    let (status, headers, _) = site.get(http::Request::get("/sub?x=1")).await;
    assert_eq!((status, headers.get("location")), (301, "/sub/?x=1"));
}

#[tokio::test]
async fn serves_nothing_hidden_or_outside() {
    let site = site();
    for path in [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/sub/../../outside.txt",
        "/leak.txt",
        "/..%5coutside.txt",
        "/.env",
        "/.git/config",
        "/sub/%2e/index.html",
        "/app.yaml",
        "//index.html",
        "/index.html/",
        "/empty",
        "/empty/",
        "/nothing",
        "/index.html/x",
        "/%ff",
    ] {
        assert_eq!(site.status(path).await, 404, "{path}");
    }
    assert_eq!(site.status(&format!("/{}", "x".repeat(300))).await, 404);
    for path in ["/%00", "/%zz", "/%"] {
        assert_eq!(site.status(path).await, 400, "{path}");
    }
    assert!(site.dir.path().join("outside.txt").exists());
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let site = site();
    let refused = site.ask(http::Request::post("/")).await.unwrap_err().response();
    assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    let (status, headers, body) = site.get(http::Request::head("/big.bin")).await;
    assert_eq!((status, headers.get("content-length"), body.len()), (200, "200000", 0));
}

#[tokio::test]
async fn validators_and_ranges() {
    let site = site();
    let (_, headers, whole) = site.get(http::Request::get("/big.bin")).await;
    assert_eq!(whole.len(), 200_000);
    let etag = headers.get("etag").to_owned();
    let (status, again, body) =
        site.get(http::Request::get("/big.bin").header("if-none-match", etag.as_str())).await;
    assert_eq!((status, again.get("etag"), body.len()), (304, etag.as_str(), 0));
    let part = |range: &'static str| http::Request::get("/big.bin").header("range", range);
    let (status, headers, body) = site.get(part("bytes=70000-199998")).await;
    assert_eq!((status, headers.get("content-range")), (206, "bytes 70000-199998/200000"));
    assert!(body == whole[70_000..199_999]);
    let (status, headers, body) = site.get(part("bytes=-5")).await;
    assert_eq!((status, headers.get("content-length"), body.as_slice()), (206, "5", &whole[199_995..]));
    let (status, headers, body) = site.get(part("bytes=200000-")).await;
    assert_eq!((status, headers.get("content-range"), body.len()), (416, "bytes */200000", 0));
    let stale = part("bytes=0-1").header("if-range", "\"other\"");
    assert_eq!(site.get(stale).await.0, 200);
}

#[tokio::test]
async fn precompressed_variants_vary() {
    let site = site();
    let ask = |accepted: &'static str| http::Request::get("/x.css").header("accept-encoding", accepted);
    let (_, plain, body) = site.get(ask("identity")).await;
    assert_eq!(
        (plain.get("vary"), plain.get("content-encoding"), body.as_slice()),
        ("accept-encoding", "", &b"plain"[..])
    );
    let (_, brotli, body) = site.get(ask("gzip, br")).await;
    assert_eq!((brotli.get("content-encoding"), body.as_slice()), ("br", &b"brotli!"[..]));
    assert_eq!(brotli.get("content-type"), "text/css; charset=utf-8");
    assert_ne!(brotli.get("etag"), plain.get("etag"));
    assert_eq!(site.get(ask("gzip")).await.2, b"gzip");
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_the_body() {
    let site = site();
    let response = site.ask(http::Request::get("/big.bin")).await.unwrap();
    let path = site.dir.path().join("root/big.bin");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100_000).unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_web_app_s_own_path_is_a_folder() {
    let site = site();
    let ask = async |path: &str| {
        let request = http::Request::get(path).body(empty()).unwrap();
        site.files.call("/shop", request).await.unwrap()
    };
    let moved = ask("/shop?x=1").await;
    assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(moved.headers()["location"], "/shop/?x=1");
    for (path, text) in [("/shop/", &b"<p>home"[..]), ("/shop/sub/", b"<p>sub")] {
        assert_eq!(ask(path).await.into_body().collect().await.unwrap().to_bytes(), text, "{path}");
    }
}

#[tokio::test]
async fn a_circle_of_links_is_not_there() {
    let site = site();
    std::os::unix::fs::symlink("circle", site.dir.path().join("root/circle")).unwrap();
    assert_eq!(site.status("/circle").await, 404);
}

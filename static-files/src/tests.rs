//! A folder, asked as a tier asks it. The app-tier's tests ask over HTTP.

use super::*;
use std::fs::{self, File};

struct Site {
    files: StaticFiles,
    dir: tempfile::TempDir,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    for (name, text) in [
        ("a.txt", "hello"),
        ("sub/index.html", "<p>sub"),
        ("app.yaml", "env: {SECRET: x}"),
        (".env", "secret"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    fs::write(root.join("big.bin"), vec![7; 3 * PIECE]).unwrap();
    fs::write(dir.path().join("outside.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside.txt", root.join("leak.txt")).unwrap();
    Site { files: StaticFiles::new(root), dir }
}

impl Site {
    async fn ask(&self, below: &str, fields: &[(HeaderName, &str)]) -> Option<Answer> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let target = format!("/shop{below}");
        let asked = Asked { head: false, below, target: &target, query: Some("x=1"), headers: &headers };
        self.files.find(&asked).await.unwrap()
    }
}

async fn bytes(body: FileBody) -> io::Result<Vec<u8>> {
    match body {
        FileBody::Empty => Ok(Vec::new()),
        FileBody::Whole(bytes) => Ok(bytes.to_vec()),
        FileBody::Stream(mut stream) => {
            let (mut all, length) = (Vec::new(), stream.left());
            for max in [1, 1000, PIECE, usize::MAX].into_iter().cycle() {
                let Some(piece) = stream.next(max).await? else { break };
                assert!(!piece.is_empty() && piece.len() <= PIECE.min(max));
                all.extend_from_slice(&piece);
            }
            assert_eq!(all.len() as u64, length);
            Ok(all)
        }
    }
}

#[tokio::test]
async fn a_small_file_comes_whole_and_a_large_one_in_pieces() {
    let site = site();
    let small = site.ask("/a.txt", &[]).await.unwrap();
    assert_eq!(
        (small.status, &small.headers[header::CONTENT_LENGTH]),
        (StatusCode::OK, &HeaderValue::from(5))
    );
    assert!(matches!(&small.body, FileBody::Whole(bytes) if bytes == "hello"));
    let large = site.ask("/big.bin", &[]).await.unwrap();
    assert!(matches!(&large.body, FileBody::Stream(stream) if stream.left() == 3 * PIECE as u64));
    assert_eq!(bytes(large.body).await.unwrap(), vec![7; 3 * PIECE]);
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let site = site();
    let headers = HeaderMap::new();
    let asked = Asked { head: true, below: "/big.bin", target: "/big.bin", query: None, headers: &headers };
    let answer = site.files.find(&asked).await.unwrap().unwrap();
    assert_eq!(answer.headers[header::CONTENT_LENGTH], (3 * PIECE).to_string());
    assert!(matches!(answer.body, FileBody::Empty));
}

#[tokio::test]
async fn a_known_etag_is_not_modified_and_a_range_is_a_part() {
    let site = site();
    let etag = site.ask("/a.txt", &[]).await.unwrap().headers[header::ETAG].clone();
    let known = site.ask("/a.txt", &[(header::IF_NONE_MATCH, etag.to_str().unwrap())]).await.unwrap();
    assert_eq!((known.status, known.headers.get(header::CONTENT_TYPE)), (StatusCode::NOT_MODIFIED, None));
    let part = site.ask("/a.txt", &[(header::RANGE, "bytes=1-3")]).await.unwrap();
    assert_eq!(
        (part.status, bytes(part.body).await.unwrap()),
        (StatusCode::PARTIAL_CONTENT, b"ell".to_vec())
    );
    let beyond = site.ask("/a.txt", &[(header::RANGE, "bytes=9-")]).await.unwrap();
    assert_eq!(
        (beyond.status, beyond.headers[header::CONTENT_RANGE].to_str().unwrap()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */5")
    );
}

#[tokio::test]
async fn a_folder_is_redirected_to_its_slash_by_the_whole_path() {
    let site = site();
    let moved = site.ask("/sub", &[]).await.unwrap();
    assert_eq!(moved.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(moved.headers[header::LOCATION], "/shop/sub/?x=1");
    assert_eq!(bytes(site.ask("/sub/", &[]).await.unwrap().body).await.unwrap(), b"<p>sub");
}

/// `exists` and `find` must agree, or a rule would send a request where there is nothing.
#[tokio::test]
async fn what_exists_is_what_is_found() {
    let site = site();
    for (path, there) in [
        ("/a.txt", true),
        ("/sub/index.html", true),
        ("/sub/", true),
        ("/sub", true),
        ("/", false),
        ("/empty/", false),
        ("/a.txt/", false),
        ("/a.txt/b", false),
        ("/none", false),
        ("/.env", false),
        ("/app.yaml", false),
        ("/leak.txt", false),
        ("/../outside.txt", false),
        ("//a.txt", false),
    ] {
        assert_eq!(site.files.exists(path), there, "{path}");
        assert_eq!(site.ask(path, &[]).await.is_some(), there, "{path}");
    }
    assert!(site.dir.path().join("outside.txt").exists());
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_off_with_an_error() {
    let site = site();
    let answer = site.ask("/big.bin", &[]).await.unwrap();
    let path = site.dir.path().join("root/big.bin");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(PIECE as u64).unwrap();
    assert_eq!(bytes(answer.body).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// As deployments do it: `ln -sfn release-2 current`.
#[tokio::test]
async fn a_root_that_is_a_link_is_followed_at_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("current");
    let files = StaticFiles::new(current.clone());
    let site = Site { files, dir };
    assert!(site.ask("/a.txt", &[]).await.is_none(), "there is no release yet");
    for release in ["release-1", "release-2"] {
        let folder = site.dir.path().join(release);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.txt"), release).unwrap();
        std::os::unix::fs::symlink(&folder, site.dir.path().join("next")).unwrap();
        fs::rename(site.dir.path().join("next"), &current).unwrap();
        let answer = site.ask("/a.txt", &[]).await.unwrap();
        assert_eq!(bytes(answer.body).await.unwrap(), release.as_bytes());
        assert!(site.files.exists("/a.txt"));
    }
}

/// Behind a balancer a client's validator of one server has to fit the others, and each encoding has its own (RFC 9110 §8.8.3).
#[tokio::test]
async fn copies_on_two_servers_have_one_etag_and_encodings_differ() {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let etags = async || {
        let site = site();
        for name in ["root/a.txt", "root/a.txt.gz"] {
            fs::write(site.dir.path().join(name), "hello").unwrap();
            File::options().write(true).open(site.dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        let (plain, packed) =
            (site.ask("/a.txt", &[]).await, site.ask("/a.txt", &[(header::ACCEPT_ENCODING, "gzip")]).await);
        [plain, packed].map(|it| it.unwrap().headers[header::ETAG].clone())
    };
    let [plain, packed] = etags().await;
    assert_ne!(plain, packed);
    assert_eq!(etags().await, [plain, packed]);
}

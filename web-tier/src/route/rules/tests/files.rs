//! Tests of web-apps that are folders, and of `file-exists`.

use super::*;
use http::{StatusCode, header};
use static_files::FileBody;
use std::fs;

/// Two folders of files and an app, as `web-apps`.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("root/a.txt", "root"),
            ("root/sub/index.html", "index"),
            ("docs/a.txt", "docs"),
            ("app/app.yaml", "command: [./run]"),
            ("app/run", "secret"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn ruled(&self, dispatch: &str) -> Ruled {
        let dir = self.0.path().display();
        let web_apps = format!(
            "[{{id: '', root-directory: {dir}/root}}, {{id: /docs, root-directory: {dir}/docs}}, \
             {{id: /app, root-directory: {dir}/app}}]"
        );
        Ruled::with_web_apps(dispatch, &web_apps)
    }
}

/// Status, `Allow` or `Location`, and body of what the site of a path answers.
async fn answer(ruled: &Ruled, asked: &Asked) -> (u16, String, String) {
    let outcome = ruled.hosts.evaluate(&asked.view());
    let Decision::Static(site) = outcome.decision else { panic!("{outcome:?}") };
    let headers = Site::headers(&asked.headers);
    let query = asked.query.as_deref();
    let request = SiteRequest {
        method: asked.method,
        path: &asked.path,
        target: &asked.path,
        query,
        headers: &headers,
    };
    let answer = site.answer(&request).await.unwrap();
    let told = answer.headers.get(header::ALLOW).or(answer.headers.get(header::LOCATION));
    let told = told.map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = match answer.body {
        FileBody::Empty => String::new(),
        FileBody::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        FileBody::Stream(_) => panic!("the files are small"),
    };
    (answer.status.as_u16(), told, body)
}

#[tokio::test]
async fn the_web_app_with_the_longest_path_answers() {
    let folders = Folders::new();
    let ruled = folders.ruled("{dispatch: {regexp: '^/'}}");
    let got = async |path: &str| answer(&ruled, &Asked::get(path)).await;
    let ok = |body: &str| (200, String::new(), body.to_owned());
    assert_eq!(got("/a.txt").await, ok("root"));
    assert_eq!(got("/docs/a.txt").await, ok("docs"));
    assert_eq!(got("/docsy/a.txt").await.0, 404, "a path ends with a segment");
    assert_eq!(got("/sub?x=1").await, (301, "/sub/?x=1".to_owned(), String::new()));
    assert_eq!(got("/docs").await.0, 404, "a folder without an index");
    let posted = answer(&ruled, &Asked { method: "POST", ..Asked::get("/a.txt") }).await;
    assert_eq!(posted, (405, "GET, HEAD".to_owned(), String::new()));
    let known = Asked::get("/a.txt").header("if-none-match", b"*");
    assert_eq!(answer(&ruled, &known).await.0, StatusCode::NOT_MODIFIED.as_u16());
}

/// Its folder holds its program: the files of an app with a process are never handed out.
#[test]
fn an_app_with_a_process_is_left_to_the_app_tier() {
    let folders = Folders::new();
    assert_eq!(folders.ruled("{dispatch: {}}").get("/app/run"), "web");
    assert_eq!(folders.ruled("{forbidden: {if: {file-exists: true}}}").get("/app/run"), "web");
}

#[test]
fn where_no_rule_matches_the_web_app_does() {
    let folders = Folders::new();
    let ruled = folders.ruled("{load-balance: {regexp: '^/x', cluster: one}}");
    assert_eq!((ruled.get("/x"), ruled.get("/a.txt")), ("one".to_owned(), "static".to_owned()));
    assert_eq!(Ruled::with_web_apps("{dispatch: {}}", "[{id: /a, root-directory: /srv}]").get("/b"), "404 -");
    assert_eq!(Ruled::new("{dispatch: {}}").get("/b"), "404 -");
}

#[test]
fn a_file_that_exists_is_a_condition() {
    let folders = Folders::new();
    let ruled = folders.ruled("{dispatch: {if: {file-exists: true}}}, {load-balance: {cluster: one}}");
    for (path, decision) in [
        ("/a.txt", "static"),
        ("/docs/a.txt", "static"),
        ("/sub/", "static"),
        ("/b.txt", "one"),
        ("/docs/b.txt", "one"),
        // Not a file's name with a parameter.
        ("/a.txt;v=1", "one"),
        ("/docs%2Fa.txt", "static"),
    ] {
        assert_eq!(ruled.get(path), decision, "{path}");
    }
    let up = Asked { path: "/../docs/a.txt".to_owned(), ..Asked::get("/") };
    assert_eq!(ruled.ask(&up), "one");
    let missing = folders.ruled("{forbidden: {if: {file-exists: false}}}, {load-balance: {cluster: one}}");
    assert_eq!((missing.get("/a.txt"), missing.get("/b.txt")), ("one".to_owned(), "403 -".to_owned()));
}

#[test]
fn a_file_is_looked_for_once_a_second() {
    let folders = Folders::new();
    let ruled =
        folders.ruled("{forbidden: {if: {file-exists: /closed.txt}}}, {load-balance: {cluster: one}}");
    let at = |ms: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(SUNDAY) + Duration::from_millis(ms);
        ruled.ask(&Asked { now, ..Asked::get("/x") })
    };
    assert_eq!(at(0), "one");
    fs::write(folders.0.path().join("root/closed.txt"), "").unwrap();
    assert_eq!((at(999), at(1000)), ("one".to_owned(), "403 -".to_owned()));
    fs::remove_file(folders.0.path().join("root/closed.txt")).unwrap();
    assert_eq!(at(1500), "403 -");
    assert_eq!(at(0), "one", "a clock that went back asks anew");
}

#[test]
fn what_is_known_of_files_is_bounded() {
    let (sites, seen, now) = (Sites::default(), SeenFiles::default(), UNIX_EPOCH);
    let mut most = 0;
    for n in 0..3000 {
        assert!(!seen.exists(&sites, &format!("/{n}"), now));
        most = most.max(seen.kept());
    }
    assert_eq!(most, 1024);
    assert!(!seen.exists(&sites, &"/x".repeat(4096), now));
    assert!(seen.kept() <= 1024);
}

#[test]
fn the_administration_is_answered_by_this_server_itself() {
    let ruled = Ruled::with_web_apps(
        "{dispatch: {regexp: '^/admin(/|$)'}}, {load-balance: {cluster: one}}",
        "[{id: /admin, admin: true}]",
    );
    assert_eq!(ruled.get("/admin"), "myself");
    assert_eq!(ruled.get("/admin/api/servers"), "myself");
    assert_eq!(ruled.get("/administer"), "one");
}

//! Archives that mean harm, through a whole cluster and by both ways: each is refused with its entry and what is wrong, and nothing stays.
//! (That there may not be too many entries is the crate `archive`'s to try, with a lower limit: so many take long.)

use super::{BASIC, Deploying};
use crate::tokens::curl;
use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write, process::Command};

/// Kinds of a tar's entries.
const FILE: u8 = b'0';
const HARD_LINK: u8 = b'1';
const LINK: u8 = b'2';
const DEVICE: u8 = b'3';

/// Said of `.git` and its like.
const GIT: &str = "Git's own, or that some system takes for it";

/// One entry of a tar: its name, its kind, where it leads.
type Entry<'a> = (&'a [u8], u8, &'a str);

/// An archive, and what is said of it.
struct Case {
    archive: Vec<u8>,
    words: &'static [&'static str],
}

fn header(name: &[u8], kind: u8, target: &str, size: usize) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000644");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// A tar of one good file, and these.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, kind, target) in [(&b"index.html"[..], FILE, "")].iter().chain(entries) {
        // A name that is too long for its field comes before it (GNU).
        if name.len() > 100 {
            archive.extend(header(b"././@LongLink", b'L', "", name.len()));
            archive.extend_from_slice(name);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        let content: &[u8] = if *kind == FILE { b"x" } else { b"" };
        archive.extend(header(&name[..name.len().min(100)], *kind, target, content.len()));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A file of zeros, which packs to a thousandth and less.
fn bomb() -> Vec<u8> {
    let size = 80 << 20;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&header(b"zeros", FILE, "", size)).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..80 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap()
}

fn of(entries: &[Entry<'_>], words: &'static [&'static str]) -> Case {
    Case { archive: tar(entries), words }
}

fn file(name: &str, words: &'static [&'static str]) -> Case {
    of(&[(name.as_bytes(), FILE, "")], words)
}

fn cases() -> Vec<Case> {
    let long = "d/".repeat(600) + "x";
    let deep = "d/".repeat(64) + "x";
    let whole = gzip(&tar(&[(b"a", FILE, "")]), Compression::default());
    let cut = whole[..whole.len() - 12].to_vec();
    vec![
        file("/etc/passwd", &["`/etc/passwd`: an absolute path"]),
        file("img/../../etc/passwd", &["`img/../../etc/passwd`: `..` in its path"]),
        file("a\\..\\b", &["`a\\\\..\\\\b`: `\\` in its name"]),
        of(
            &[(b"out", LINK, "../../etc/passwd")],
            &["`out`: the link to `../../etc/passwd` leads out of the archive"],
        ),
        of(&[(b"out", LINK, "/etc/passwd")], &["`out`: an absolute path"]),
        of(
            &[(b"d/up", LINK, ".."), (b"out", LINK, "d/up/../../etc")],
            &["`out`: the link to `d/up/../../etc` leads out of the archive"],
        ),
        of(&[(b"d", LINK, "e"), (b"d/x", FILE, "")], &["`d/x`: it is below the link `d`"]),
        of(&[(b"a", LINK, "b"), (b"b", LINK, "a")], &["leads in a circle"]),
        of(&[(b"hard", HARD_LINK, "/etc/passwd")], &["`hard`: an absolute path"]),
        of(&[(b"hard", HARD_LINK, "later")], &["`hard`: a hard link to `later`"]),
        of(&[(b"disk", DEVICE, "")], &["`disk`: a character device"]),
        of(&[(b"pipe", b'6', "")], &["`pipe`: a FIFO"]),
        of(&[(b"a", FILE, ""), (b"a", FILE, "")], &["`a`: it is in the archive twice"]),
        of(
            &[(b"Readme", FILE, ""), (b"README", FILE, "")],
            &["`README`: `Readme` differs from it only in case"],
        ),
        of(&[(b"a", FILE, ""), (b"a/b", FILE, "")], &["`a` is both a folder and none"]),
        file(".git/config", &["`.git/config`: ", GIT]),
        file("sub/.GIT/hooks/post-checkout", &["`sub/.GIT/hooks/post-checkout`: ", GIT]),
        file("git~1/config", &["`git~1/config`: ", GIT]),
        of(&[(b".gitmodules", LINK, "index.html")], &["`.gitmodules`: `.gitmodules` is a link"]),
        file("a\u{1b}[31mb", &["`a\\u{1b}[31mb`: a control character in its name"]),
        file("a\nb", &["`a\\nb`: a control character in its name"]),
        of(&[(b"\xff\xfe", FILE, "")], &["the name is not UTF-8"]),
        file(&long, &["its path is longer than 1024 bytes"]),
        file(&deep, &["more than 64 folders deep"]),
        Case { archive: bomb(), words: &["bytes came out of", "at most 1000 times as many are unpacked"] },
        Case { archive: cut, words: &["cut off"] },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_that_mean_harm_are_refused_with_their_entry_and_leave_nothing() {
    let deploying = Deploying::start(1).await;
    let (folder, web) = (deploying.cluster.folder(), deploying.cluster.web());
    deploying.deploy(&deploying.files("good", &[("index.html", "good")]), "--name shop").await;
    deploying.app_is("shop", |app| app["servers"][0]["same"] == true).await;
    let list = deploying.tool("list").await.succeeds();
    let repository = folder.join("data/app-a/repository.git");
    let reachable = || {
        let git =
            Command::new("git").arg("-C").arg(&repository).args(["rev-list", "--objects", "--all"]).output();
        git.map_or_else(|_| String::new(), |found| String::from_utf8(found.stdout).unwrap())
    };
    let before = reachable();
    let path = folder.join("hostile");
    let mut wrong = Vec::new();
    for Case { archive, words } in cases() {
        let tells = |text: &str| words.iter().all(|word| text.contains(word));
        fs::write(&path, &archive).unwrap();
        let said = deploying.tool(&format!("deploy {} --name shop", path.display())).await;
        let begins = format!("error: {} is not deployed: ", path.display());
        let is_fit = !said.stderr.trim_end().contains(char::is_control);
        if !(said.code == Some(1) && said.stderr.starts_with(&begins) && tells(&said.stderr) && is_fit) {
            wrong.push(format!("{words:?}: {said:?}"));
        }
        let line = "PUT /admin/api/v1/apps/production/webapp/default/shop/archive";
        let (status, told) = curl(&web, line, BASIC, archive).await;
        let text = told["error"].as_str().unwrap_or_default();
        if !(status == 400 && tells(text) && text.starts_with("the archive: ")) {
            wrong.push(format!("{words:?}: {status} {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(deploying.tool("list").await.succeeds(), list);
    assert_eq!(deploying.get("/shop/").await.body, "good");
    assert_eq!(reachable(), before);
    let left = fs::read_dir(folder.join("data/web-a/archives")).unwrap().count();
    assert_eq!(left, 0, "nothing of an archive stays");
    deploying.repositories_are_clean();
}

//! Deployments that the disk has no room for: refused with the server and what is left, and nothing half-stored.

use crate::{
    cluster::Cluster,
    tell::tell,
    tokens::{OPS, curl, deploying, tar},
    tool::tool_as,
};
use repository::{Kind, PackWriter};
use rustix::process::geteuid;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A small disk, taken away when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, and a word, where the system does not allow it.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        if geteuid().is_root()
            && run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "copal-it"], at)
        {
            return Some(Self(at.to_owned()));
        }
        tell("skipped a test of full disks: mounting one is not allowed here");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], last: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(last).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What no compression makes small.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes[..]);
    bytes
}

/// Of one file.
fn pack(content: &[u8]) -> Vec<u8> {
    let mut pack = PackWriter::new(Vec::new(), 1).unwrap();
    pack.add(Kind::Blob, content.len() as u64, &mut &content[..]).unwrap();
    pack.finish().unwrap().1
}

#[tokio::test]
async fn a_hub_whose_disks_are_full_says_so_and_keeps_what_it_had() {
    let mut cluster = Cluster::prepare(3, deploying);
    let data = cluster.folder().join("data");
    let mut disks = Vec::new();
    for server in ["app-a", "app-b"] {
        let Some(disk) = Disk::mount(&data.join(server).join("repository.git"), "80m") else { return };
        disks.push(disk);
    }
    cluster.start_all().await;
    let site = cluster.folder().join("site");
    fs::create_dir(&site).unwrap();
    let url = format!("http://{}/admin", cluster.web());
    let line = format!("deploy {}", site.display());
    let deploy = async || tool_as(&url, "ops", "password", &line).await;
    fs::write(site.join("index.html"), "small").unwrap();
    assert_eq!(deploy().await.code, Some(0));
    // Before anything is sent, where it is known what comes.
    let fill = |mebibytes: usize| {
        for server in ["app-a", "app-b"] {
            fs::write(data.join(server).join("repository.git/filler"), vec![0; mebibytes << 20]).unwrap();
        }
    };
    fill(20);
    fs::write(site.join("large"), noise(8 << 20)).unwrap();
    let said = deploy().await;
    said.fails_with(
        1,
        &["disk full on app-", " MB free, 76 MB needed", "; 1 of 3 hub servers can keep it", "507"],
    );
    let put = "PUT /admin/api/v1/apps/production/webapp/default/shop/archive";
    let (status, told) = curl(&cluster.web(), put, OPS, tar(&[("large", &noise(8 << 20))])).await;
    let text = told["error"].as_str().unwrap_or_default();
    assert!(status == 507 && text.contains(" MB free, 76 MB needed"), "{status} {told}");
    // In the middle, where it is not.
    fill(77);
    let (status, told) = curl(&cluster.web(), "POST /admin/api/v1/objects", OPS, pack(&noise(8 << 20))).await;
    let text = told["error"].as_str().unwrap_or_default();
    assert!(
        status == 507 && text.starts_with("disk full on app-") && text.contains("bytes are free"),
        "{status} {told}"
    );
    fill(0);
    assert_eq!(cluster.user().get("/site/").await.body, "small");
    for server in ["app-a", "app-b"] {
        let packs = fs::read_dir(data.join(server).join("repository.git/objects/pack")).unwrap();
        let left: Vec<_> = packs
            .map(|it| it.unwrap().file_name())
            .filter(|it| it.to_string_lossy().starts_with("tmp_"))
            .collect();
        assert!(left.is_empty(), "{server}: {left:?}");
    }
    fs::remove_file(site.join("large")).unwrap();
    fs::write(site.join("index.html"), "small again").unwrap();
    let said = deploy().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    cluster.kill_all(&cluster.configuration.servers()).await;
    drop(disks);
}

#[tokio::test]
async fn an_archive_that_the_disk_has_no_room_for_is_not_taken() {
    let mut cluster = Cluster::start_with(1, deploying).await;
    let archives = cluster.folder().join("data/web-a/archives");
    let Some(disk) = Disk::mount(&archives, "70m") else { return };
    let put = async |length: usize| {
        let line = "PUT /admin/api/v1/apps/production/webapp/default/shop/archive";
        curl(&cluster.web(), line, OPS, tar(&[("large", &noise(length))])).await
    };
    let (status, told) = put(20 << 20).await;
    let text = told["error"].as_str().unwrap_or_default();
    assert!(
        status == 507 && text.starts_with("disk full on web-a: needs ") && text.contains(", has "),
        "{status} {told}"
    );
    assert_eq!(put(1 << 20).await.0, 202);
    assert_eq!(fs::read_dir(&archives).unwrap().count(), 0);
    cluster.kill_all(&cluster.configuration.servers()).await;
    drop(disk);
}

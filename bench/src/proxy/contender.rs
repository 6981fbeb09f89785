//! The proxies, their configurations, and the certificate that they share.

use super::row::Row;
use crate::process::Process;
use anyhow::{Context, bail};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A proxy to measure.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    pub(super) address: SocketAddr,
}

/// An address of this host.
pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Copies the configurations of `peers` into `folder`, and makes a certificate there.
pub(super) fn prepare(peers: &Path, folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(peers).with_context(|| format!("--peers {}", peers.display()))? {
        let path = entry?.path();
        fs::copy(&path, folder.join(path.file_name().context("a file has a name")?))?;
    }
    let output = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .context("openssl can't be started: is it installed?")?;
    if !output.status.success() {
        bail!("openssl makes no certificate: {}", String::from_utf8_lossy(&output.stderr));
    }
    let both = [fs::read(folder.join("cert.pem"))?, fs::read(folder.join("key.pem"))?].concat();
    fs::write(folder.join("both.pem"), both)?;
    Ok(())
}

/// The proxies of a row, Copal first.
pub(super) fn contenders(row: Row, copal: &Path, folder: &Path) -> anyhow::Result<Vec<Contender>> {
    let copal = fs::canonicalize(copal).with_context(|| format!("--copal {}", copal.display()))?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let prefix = folder.to_string_lossy();
    let conf = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let start =
        |file: &str| words(&["start", "--server", "web-a", "--data-dir", &conf("data"), "--conf", file]);
    let (suffix, port) = row.setup();
    let mut contenders = vec![
        Contender {
            name: "copal",
            program: copal.clone(),
            arguments: start(&conf(&format!("copal{suffix}.yaml"))),
            address: address(port),
        },
        Contender {
            name: "nginx",
            program: "nginx".into(),
            arguments: words(&["-p", &prefix, "-e", "stderr", "-c", &conf(&format!("nginx{suffix}.conf"))]),
            address: address(port + 1),
        },
        Contender {
            name: "haproxy",
            program: "haproxy".into(),
            arguments: words(&["-f", &conf(&format!("haproxy{suffix}.cfg"))]),
            address: address(port + 2),
        },
    ];
    if matches!(row, Row::H3 | Row::H3Medium) {
        contenders.truncate(1);
    }
    if !row.setup().0.is_empty() {
        return Ok(contenders);
    }
    contenders.push(Contender {
        name: "copal-encrypted",
        program: copal,
        arguments: start(&conf("copal-encrypted.yaml")),
        address: address(18_100),
    });
    if matches!(row, Row::Small | Row::Medium | Row::Large | Row::Post) {
        contenders.push(Contender {
            name: "haproxy-tcp",
            program: "haproxy".into(),
            arguments: words(&["-f", &conf("haproxy-tcp.cfg")]),
            address: address(18_093),
        });
    }
    Ok(contenders)
}

impl Contender {
    /// Starts it on `core`, and waits until it listens.
    pub(super) fn start(&self, folder: &Path, core: usize) -> anyhow::Result<Process> {
        let log = folder.join(format!("{}.log", self.name));
        let mut process = Process::start_in(folder, &self.program, &self.arguments, Some(core), &log)?;
        process.listening(self.address).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(process)
    }
}

/// Why this build of Copal can't take part in a row, if it can't: what it says of the configuration, checked or started.
pub(super) fn refusal(row: Row, contenders: &[Contender], folder: &Path) -> anyhow::Result<Option<String>> {
    let (suffix, _) = row.setup();
    let Some(copal) = contenders.iter().find(|it| it.name == "copal").filter(|_| !suffix.is_empty()) else {
        return Ok(None);
    };
    let output = Command::new(&copal.program)
        .args(["check", "--conf"])
        .arg(folder.join(format!("copal{suffix}.yaml")))
        .output()
        .with_context(|| format!("{} can't be started", copal.program.display()))?;
    if !output.status.success() {
        return Ok(Some(first_error(&String::from_utf8_lossy(&output.stderr))));
    }
    Ok(copal.start(folder, super::PROXY_CORE).err().map(|cause| first_error(&format!("{cause:#}"))))
}

/// The first line that says what is wrong.
fn first_error(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("error"));
    line.or_else(|| text.lines().find(|line| !line.is_empty())).unwrap_or("it does not say why").to_owned()
}

//! The demo's files: a configuration and an app's folder, written where a newcomer can read and change them.

use anyhow::Context;
use common::{password::PasswordHash, private};
use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// The same file that `conf/` shows.
const CONFIGURATION: &str = include_str!("../../../conf/demo.yaml");

/// The line of it in whose place a listener with TLS comes: what it needs is not there before.
const TLS_LISTENER: &str = "          # The demo adds here one at port 8443";

/// The certificate for it, and its key.
pub(super) const CERTIFICATE: [&str; 2] = ["demo-cert.pem", "demo-key.pem"];

/// The file with the password of the demo's user.
pub(super) const PASSWORD: &str = "admin-password";

/// The demo's user.
pub(super) const USER: &str = "admin";

/// Writes `demo.yaml`, `counter/app.yaml`, `cluster-demo/app.yaml` and, unless they are there, `admin-password` and a certificate under `folder`; gives the first one's path.
pub(super) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let [app, cluster_demo] = ["counter", "cluster-demo"].map(|it| folder.join(it));
    for app in [&app, &cluster_demo] {
        private::make_folder(app)
            .with_context(|| format!("the demo's folder {} can't be made", app.display()))?;
    }
    let this = std::env::current_exe().context("where this binary is can't be found out")?;
    // JSON's strings are YAML's double-quoted scalars, whatever the path has in it.
    let command = format!("{:?}", this.to_string_lossy());
    let app_yaml = format!(
        "# The demo's app: a process of its own, here the copal binary's copy of examples/counter.\n\
         name: counter\n\
         command: [{command}, demo-app]\n\
         listen: tcp\n\
         health: {{path: /healthz, interval: 1s, start-timeout: 30s}}\n\
         # Runs on one server at a time: it counts seconds. See /ticks, and docs/daemons.md.\n\
         daemons: [{{name: ticker, start: /daemons/ticker/start, stop: /daemons/ticker/stop}}]\n"
    );
    put(&app.join("app.yaml"), &app_yaml)?;
    let cluster_demo_yaml = format!(
        "# What a cluster has, all at once: here the copal binary's copy of examples/cluster-demo.\n\
         name: cluster-demo\n\
         command: [{command}, cluster-demo-app]\n\
         health: {{path: /healthz, interval: 1s, start-timeout: 30s}}\n\
         # Its queue, job, daemon and pipeline are declared by the program: see examples/cluster-demo/src/lib.rs.\n\
         declare-at-start: true\n"
    );
    put(&cluster_demo.join("app.yaml"), &cluster_demo_yaml)?;
    let file = folder.join("demo.yaml");
    let hash = PasswordHash::new(password(&folder.join(PASSWORD))?.as_bytes(), rand::random());
    let user = format!(
        "\nadmin:\n  # The password is in the file {PASSWORD} beside this one.\n  users:\n    \
         - {{name: {USER}, password: \"{hash}\", roles: [deploy, operate]}}\n"
    );
    put_certificate(folder)?;
    put(&file, &format!("{}{user}", with_tls()))?;
    Ok(file)
}

/// The configuration with its listener for HTTPS.
fn with_tls() -> String {
    let [cert, key] = CERTIFICATE;
    let listener = format!(
        "          # HTTPS, HTTP/2 and HTTP/3, with a certificate that nobody has signed: docs/tls.md, docs/http3.md\n          \
         - {{address: 127.0.0.1, port: 8443, tls: {{certs: [{{cert: {cert}, key: {key}}}]}}, http3: true}}"
    );
    let lines = CONFIGURATION
        .lines()
        .map(|line| if line.starts_with(TLS_LISTENER) { listener.as_str() } else { line });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Makes a certificate for this machine's own names, unless there is one.
fn put_certificate(folder: &Path) -> anyhow::Result<()> {
    let [cert, key] = CERTIFICATE.map(|it| folder.join(it));
    if cert.exists() && key.exists() {
        return Ok(());
    }
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).context("the demo's certificate can't be made")?;
    put(&key, &made.signing_key.serialize_pem())?;
    put(&cert, &made.cert.pem())
}

/// The password of an earlier run, or a new one that only this user of the machine can read.
fn password(file: &Path) -> anyhow::Result<String> {
    let wrong = || format!("the demo's password file {}", file.display());
    match fs::read_to_string(file) {
        Ok(text) => match text.lines().next() {
            Some(password) if !password.is_empty() => {
                private::mend(file).with_context(wrong)?;
                return Ok(password.to_owned());
            }
            _ => anyhow::bail!("{} is empty: remove it, and a new one is made", wrong()),
        },
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(cause).with_context(wrong),
    }
    let password = format!("{:032x}", rand::random::<u128>());
    let created = private::options().write(true).create_new(true).open(file);
    created.with_context(wrong)?.write_all(format!("{password}\n").as_bytes()).with_context(wrong)?;
    Ok(password)
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    private::write(path, text.as_bytes()).with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_with_tls_stands_where_the_file_says() {
        let text = with_tls();
        assert!(text.contains("port: 8443, tls:") && !text.contains(TLS_LISTENER), "{text}");
        assert_eq!(text.lines().count(), CONFIGURATION.lines().count() + 1);
    }

    #[test]
    fn a_certificate_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        put_certificate(folder.path()).unwrap();
        let read = || CERTIFICATE.map(|it| fs::read(folder.path().join(it)).unwrap());
        let made = read();
        put_certificate(folder.path()).unwrap();
        assert_eq!(made, read());
    }
}

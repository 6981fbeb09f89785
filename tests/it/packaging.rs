//! What is in `packaging/`: units and configurations are read by the programs that they are for where those are installed, paths agree, and
//! the files of Copal are valid.

mod kubernetes;

use crate::{cluster::copal, tell::tell};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// `packaging/`, or what is in it.
fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(packaging(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// What a program says; `None`, and a word, where it is not installed.
fn said(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(cause) => {
            tell(&format!("skipped what {program} says: {cause}"));
            None
        }
    }
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The values of a key of a unit, in all its sections.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

/// What `copal check` says of a file.
fn check(file: &Path) {
    let mut command = Command::new(copal());
    command.arg("check").arg("--conf").arg(file);
    // A key as `openssl rand -base64 32` makes one.
    command.env("COPAL_CLUSTER_KEY", "q0V3rTn8yKfXb2mWz5sLhJc7DgPaE1uRt9iYoNxMkA4=");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), all(&output));
}

/// The files that the Debian package has: what of, and where.
fn assets() -> Vec<(String, String, String)> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, list) = manifest.split_once("assets = [").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    let words = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let assets = list.lines().map(words).filter(|it| !it.is_empty());
    assets.map(|it| <[String; 3]>::try_from(it).unwrap()).map(|[a, b, c]| (a, b, c)).collect()
}

/// Where the package puts a file of `packaging/`.
fn place(file: &str) -> String {
    let source = format!("../packaging/{file}");
    let found = assets().into_iter().find(|(from, ..)| *from == source);
    let (_, to, _) = found.unwrap_or_else(|| panic!("{file} is not in the package"));
    let name = if to.ends_with('/') { file.rsplit('/').next().unwrap() } else { "" };
    format!("/{to}{name}")
}

#[test]
fn the_package_has_every_file_and_the_paths_agree() {
    for (from, _, mode) in assets() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&from);
        assert!(
            from.starts_with("target/")
                || from.starts_with("../target/")
                || from.contains('*')
                || path.is_file(),
            "{from}"
        );
        assert!(["755", "644", "640"].contains(&mode.as_str()), "{from}: {mode}");
    }
    let unit = text("systemd/copal@.service");
    let start = values(&unit, "ExecStart")[0];
    assert_eq!(start, format!("/usr/bin/copal start --conf {} --server %i", place("copal.yaml")));
    assert_eq!(values(&unit, "EnvironmentFile"), [format!("-{}", place("copal.env"))]);
    let user = values(&unit, "User")[0];
    assert!(text("systemd/copal.sysusers").lines().any(|it| it.starts_with(&format!("u {user} "))));
    let conf = text("copal.yaml");
    assert!(conf.contains(&format!("data-dir: /var/lib/{}\n", values(&unit, "StateDirectory")[0])));
    assert!(conf.contains(&format!("/var/log/{}/", values(&unit, "LogsDirectory")[0])));
    assert!(
        text("copal.logrotate").contains(&format!("/var/log/{}/*.log", values(&unit, "LogsDirectory")[0]))
    );
    let welcome = place("welcome/index.html");
    assert!(conf.contains(&format!("root-directory: {}}}\n", welcome.strip_suffix("/index.html").unwrap())));
    for folder in ["/etc/copal", "/var/lib/copal", "/var/log/copal"] {
        assert!(text("systemd/copal.tmpfiles").contains(&format!("d {folder} ")), "{folder}");
        assert!(text("debian/postinst").contains(&format!(" {folder}\n")), "{folder}");
    }
}

#[test]
fn every_file_is_looked_at() {
    let mut found = BTreeSet::new();
    let mut folders = vec![packaging("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(packaging("")).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let kubernetes = ["kustomization", "namespace", "secret", "configuration", "app-tier", "web-tier"];
    let known = kubernetes.map(|it| format!("kubernetes/{it}.yaml")).into_iter().chain(
        [
            "Containerfile",
            "copal.env",
            "copal.logrotate",
            "copal.yaml",
            "debian/build",
            "debian/postinst",
            "debian/postrm",
            "debian/prerm",
            "systemd/copal.sysusers",
            "systemd/copal.tmpfiles",
            "systemd/copal@.service",
            "systemd/copal@.socket",
            "welcome/index.html",
        ]
        .map(str::to_owned),
    );
    assert_eq!(found, known.collect(), "a new file needs a test here");
}

#[test]
fn the_packaged_configuration_is_valid() {
    check(&packaging("copal.yaml"));
}

#[test]
fn scripts_are_of_their_shells() {
    for script in ["debian/build", "debian/postinst", "debian/postrm", "debian/prerm"] {
        let path = packaging(script);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111, "{script} can be run");
        let shell = if script == "debian/build" { "bash" } else { "sh" };
        let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{script}: {}", all(&output));
    }
}

#[test]
fn the_image_has_what_it_starts() {
    let file = text("Containerfile");
    for copied in file.lines().filter_map(|it| it.strip_prefix("COPY packaging/")) {
        let source = copied.split(' ').next().unwrap();
        assert!(packaging(source).exists(), "{source}");
    }
    assert!(file.contains(&format!("\"--conf\", \"{}\"", place("copal.yaml"))));
    assert!(file.contains("COPY packaging/welcome /usr/share/copal/welcome"));
    // Its numbers are those that the pods run as.
    let uid = "10001";
    assert!(file.contains(&format!("USER {uid}:{uid}\n")));
    for tier in ["app", "web"] {
        assert!(text(&format!("kubernetes/{tier}-tier.yaml")).contains(&format!("runAsUser: {uid}\n")));
    }
}

/// The units, with the program under test in place of the packaged one, which is not installed here.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = copal().to_string_lossy().into_owned();
    for unit in ["copal@.service", "copal@.socket"] {
        let text = text(&format!("systemd/{unit}")).replace("/usr/bin/copal", &program);
        // The manual pages are not installed either.
        let lines = text.lines().filter(|it| !it.starts_with("Documentation="));
        fs::write(folder.path().join(unit), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    folder
}

#[test]
fn systemd_takes_the_units_and_they_are_hardened() {
    let folder = units();
    let path = |unit: &str| folder.path().join(unit).to_string_lossy().into_owned();
    let (service, socket) = (path("copal@.service"), path("copal@.socket"));
    let Some(output) = said("systemd-analyze", &["verify", &service, &socket]) else { return };
    assert!(output.status.success() && all(&output).trim().is_empty(), "{}", all(&output));
    // 10 is a service without any hardening, 0 one that can do nothing; in tenths.
    let rated = said("systemd-analyze", &["security", "--offline=yes", "--threshold=25", &service]).unwrap();
    assert!(rated.status.success(), "{}", all(&rated));
    let rating = all(&rated);
    tell(rating.lines().rev().find(|it| it.contains("exposure level")).unwrap_or_default());
}

#[test]
fn the_user_and_the_folders_are_made() {
    let root = tempfile::tempdir().unwrap();
    let at = format!("--root={}", root.path().display());
    fs::create_dir(root.path().join("etc")).unwrap();
    let users = packaging("systemd/copal.sysusers");
    let Some(output) = said("systemd-sysusers", &[&at, &users.to_string_lossy()]) else { return };
    assert!(output.status.success(), "{}", all(&output));
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(
        passwd
            .lines()
            .any(|it| it.starts_with("copal:") && it.ends_with(":/var/lib/copal:/usr/sbin/nologin")),
        "{passwd}"
    );
    let folders = packaging("systemd/copal.tmpfiles");
    if !rustix::process::geteuid().is_root() {
        tell(
            "skipped the folders of systemd-tmpfiles: they are given to another user, which root alone can do",
        );
        return;
    }
    let Some(output) = said("systemd-tmpfiles", &[&at, "--create", &folders.to_string_lossy()]) else {
        return;
    };
    assert!(output.status.success(), "{}", all(&output));
    let mode = |folder: &str| fs::metadata(root.path().join(folder)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["etc/copal", "var/lib/copal", "var/log/copal"].map(mode), [0o750, 0o700, 0o750]);
}

#[test]
fn logrotate_takes_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copal");
    // The user of the packaged file is not on this machine.
    let rules = text("copal.logrotate").replace("su copal copal", "su root root");
    fs::write(&file, rules).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let Some(output) = said("logrotate", &["-d", &file.to_string_lossy()]) else { return };
    let told = all(&output);
    assert!(output.status.success() && !told.contains("error:"), "{told}");
}

#[test]
fn the_manual_pages_are_made_and_can_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(copal()).arg("man").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", all(&made));
    for page in ["copal.1", "copal-start.1", "copal-upgrade.1", "copal.yaml.5"] {
        let page = folder.path().join(page);
        let Some(set) = said("groff", &["-man", "-Tutf8", "-ww", &page.to_string_lossy()]) else { return };
        assert!(set.status.success(), "{}", all(&set));
        assert!(set.stdout.len() > 500, "{}: {}", page.display(), all(&set));
    }
}

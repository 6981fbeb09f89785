//! Who may have which rights, and what the launcher is told.

use super::*;
use common::{
    clock::SystemClock,
    config::{LoadOptions, load_str},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

const FILE: &str = "
data-dir: /var/lib/copal
app-users: ['64001']
clusters:
  - id: c
    servers:
      - id: a
        address: 127.0.0.1
        http: [{port: 443, tls: {certs: [{cert: /etc/ssl/certs/www.pem, key: /etc/ssl/www.key}]}}]
    hosts: [{id: '', dispatch: [{not-found: {}}]}]
";

/// Of a server whose file is at `file`.
fn config(file: &str, data_dir: &Path, launcher: bool) -> AppTierConfig {
    let loaded = load_str(FILE, Path::new(file), &LoadOptions::default());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    AppTierConfig {
        deploy: None,
        traces: None,
        config: Config { private_files: vec![file.into()], ..config }.into(),
        me: "a".into(),
        data_dir: data_dir.to_owned(),
        hub: None,
        leases: None,
        admin: None,
        clock: Arc::new(SystemClock),
        launcher: launcher.then(|| Launcher { program: "/launcher".into(), landlock: 6 }),
    }
}

fn asked<'a>(rights: &'a AppRights, spec: &'a Spec, deployed: bool) -> Asked<'a> {
    Asked { name: "default/", key: "key", rights, spec, deployed }
}

/// The command line of an app in `/srv/app`.
fn line(confinement: &Confinement, writes_root: bool) -> Vec<String> {
    let place = Place { root: Path::new("/srv/app"), writes_root, sockets: Some(Path::new("/run/app-0")) };
    let command = confinement.command(Path::new("/srv/app/run"), place);
    let command = command.as_std();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_str().unwrap().to_owned()).collect()
}

/// Whether an option has this value.
fn has(line: &[String], option: &str, value: &str) -> bool {
    line.windows(2).any(|pair| pair == [option, value])
}

#[test]
fn what_was_deployed_is_confined_unless_the_operator_says_otherwise() {
    let data = tempfile::tempdir().unwrap();
    let config = config("/srv/copal.yaml", data.path(), true);
    let full =
        |read, write| AppRights { confine: Some(Confine::Full { read, write }), ..AppRights::default() };
    let off = AppRights { confine: Some(Confine::Off), ..AppRights::default() };
    let limited = AppRights {
        limits: AppLimits { open_files: Some(64), memory: Some(2), processes: Some(9) },
        ..AppRights::default()
    };
    let spec = Spec { limits: AppLimits { memory: Some(1), ..AppLimits::default() }, ..Spec::default() };
    let of = |rights: &AppRights, spec: &Spec, deployed| {
        line(&Confinement::new(&config, asked(rights, spec, deployed)).unwrap(), false)
    };
    let plain = Spec::default();
    for (rights, deployed) in [(&AppRights::default(), false), (&off, true)] {
        assert_eq!(of(rights, &plain, deployed), ["/srv/app/run"]);
    }
    for (rights, deployed) in [(&AppRights::default(), true), (&full(Vec::new(), Vec::new()), false)] {
        let line = of(rights, &plain, deployed);
        assert_eq!(line[..3], ["/launcher", "launch-app", "--landlock"]);
        assert_eq!(line[line.len() - 2..], ["--", "/srv/app/run"]);
        assert!(has(&line, "--read", "/srv/app") && !has(&line, "--write", "/srv/app"), "{line:?}");
        assert!(has(&line, "--write", "/run/app-0") && has(&line, "--hide", "/var/lib/copal"), "{line:?}");
    }
    let more = of(&full(vec!["/srv/models".into()], vec!["/dev/shm".into()]), &plain, true);
    assert!(has(&more, "--read", "/srv/models") && has(&more, "--write", "/dev/shm"), "{more:?}");
    // The lower limit counts, and that of processes not without a user.
    let expected =
        ["/launcher", "launch-app", "--memory-max", "1", "--open-files-max", "64", "--", "/srv/app/run"];
    assert_eq!(of(&limited, &spec, false), expected);
}

#[test]
fn what_prepares_an_app_writes_to_its_folder() {
    let data = tempfile::tempdir().unwrap();
    let config = config("/srv/copal.yaml", data.path(), true);
    let confinement =
        Confinement::new(&config, asked(&AppRights::default(), &Spec::default(), true)).unwrap();
    let line = line(&confinement, true);
    assert!(has(&line, "--read", "/srv/app") && has(&line, "--write", "/srv/app"), "{line:?}");
}

#[test]
fn secrets_are_hidden_with_what_stands_beside_them_but_not_a_whole_system_folder() {
    let data = tempfile::tempdir().unwrap();
    let of = |file: &str| hidden(&config(file, data.path(), true).config, &"a".into());
    for (file, expected) in [
        ("/etc/copal/copal.yaml", "/etc/copal"),
        ("/usr/local/etc/copal.yaml", "/usr/local/etc"),
        ("/etc/copal.yaml", "/etc/copal.yaml"),
        ("/copal.yaml", "/copal.yaml"),
    ] {
        let hidden = of(file);
        for path in [expected, "/etc/ssl/www.key", "/var/lib/copal", "/etc/shadow"] {
            assert!(hidden.iter().any(|it| it == Path::new(path)), "{file}: {path} in {hidden:?}");
        }
        let whole = ["/", "/etc", "/usr", "/etc/ssl", "/etc/ssl/certs/www.pem"];
        assert!(
            !hidden.iter().any(|it| whole.iter().any(|path| it == Path::new(path))),
            "{file}: {hidden:?}"
        );
    }
}

#[test]
fn an_app_chooses_no_user_that_it_may_not_have() {
    let data = tempfile::tempdir().unwrap();
    let with = |user: &str| Spec { user: Some(user.to_owned()), ..Spec::default() };
    let named = |user: &str, group: Option<&str>| AppRights {
        user: Some(user.to_owned()),
        group: group.map(str::to_owned),
        ..AppRights::default()
    };
    let launching = config("/srv/copal.yaml", data.path(), true);
    let of = |rights: &AppRights, spec: &Spec| Confinement::new(&launching, asked(rights, spec, true));
    let none = AppRights::default();
    for user in ["64002", "root", "0", "daemon"] {
        let refused = of(&none, &with(user)).unwrap_err();
        assert!(matches!(refused, RightsError::NotAllowed { .. }), "{user}: {refused}");
        assert!(refused.to_string().ends_with("expected 64001"), "{refused}");
    }
    if !geteuid().is_root() {
        for refused in [of(&none, &with("64001")), of(&named("64001", Some("64001")), &Spec::default())] {
            assert!(matches!(refused.unwrap_err(), RightsError::NotRoot { .. }));
        }
        return;
    }
    let refused = of(&none, &with("64001")).unwrap_err().to_string();
    assert!(refused.contains("name a `group` too"), "{refused}");
    // The cluster's file wins.
    fs::set_permissions(data.path(), Permissions::from_mode(0o711)).unwrap();
    let confinement = of(&named("64003", Some("64004")), &with("root")).unwrap();
    let line = line(&confinement, false);
    assert!(has(&line, "--uid", "64003") && has(&line, "--gid", "64004"), "{line:?}");
    let variables = confinement.environment();
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["DATA", "HOME", "TMPDIR", "USER", "LOGNAME"]);
    let alone = config("/srv/copal.yaml", data.path(), false);
    let (rights, spec) = (named("64003", Some("64004")), Spec::default());
    let refused = Confinement::new(&alone, asked(&rights, &spec, true)).unwrap_err();
    assert!(matches!(refused, RightsError::NoLauncher(_)), "{refused}");
}

//! The real `git`, with nobody's settings.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `git` in a folder.
pub(crate) struct Git(PathBuf);

impl Git {
    /// `None`, with a word why, where there is no git.
    pub(crate) fn at(folder: &Path) -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            println!("skipped: git is not installed");
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Its output; panics when it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.bytes(arguments, b"")).unwrap().trim().to_owned()
    }

    pub(crate) fn bytes(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("git")
            .args(arguments)
            .current_dir(&self.0)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.com")])
            .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.com")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "git {arguments:?}: {said} {}",
            String::from_utf8_lossy(&output.stdout)
        );
        output.stdout
    }

    /// Panics when anything but unreachable objects is reported.
    pub(crate) fn fsck(&self) {
        let said = self.run(&["fsck", "--strict", "--full"]);
        let wrong: Vec<_> = said.lines().filter(|it| !it.starts_with("dangling ")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

//! `deploy-tool` as its users run it.

use crate::cluster::{PATIENCE, deploy_tool};
use std::process::Stdio;
use tokio::{process::Command, time::timeout};

/// Of `password`, and quick to verify.
pub(crate) const HASH: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

/// What `deploy-tool` said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// It has done what it was to do, and has nothing to add.
    pub(crate) fn succeeds(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    pub(crate) fn fails_with(&self, code: i32, words: &[&str]) {
        let tells = words.iter().all(|word| self.stderr.contains(word));
        assert!(self.code == Some(code) && tells, "expected {code} and {words:?}: {self:?}");
    }
}

/// Runs it as a user; `line` has no quotes.
pub(crate) async fn tool_as(url: &str, user: &str, password: &str, line: &str) -> Said {
    tool_in(&[("COPAL_URL", url), ("COPAL_USER", user), ("COPAL_PASSWORD", password)], line).await
}

/// With nothing in the environment but this.
pub(crate) async fn tool_in(environment: &[(&str, &str)], line: &str) -> Said {
    let command = Command::new(deploy_tool())
        .args(line.split_whitespace())
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, command).await.unwrap_or_else(|_| panic!("{line} hangs")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

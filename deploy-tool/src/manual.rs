//! `completions` and `man`: what the command line says of itself.

use crate::{cli::Cli, tell};
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::{fs, io, io::Write, path::Path};

/// The command's own name.
const NAME: &str = "deploy-tool";

/// Prints what a shell completes words by.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print(&script)
}

/// Prints the manual page (roff), or writes one for each verb into a folder.
///
/// # Errors
/// It can't be written.
pub(crate) fn man(folder: Option<&Path>) -> anyhow::Result<bool> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return print(&page);
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("the manual pages can't be written to {}", folder.display()))?;
    tell(&format!("the manual pages are in {}", folder.display()));
    Ok(true)
}

fn print(text: &[u8]) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).context("standard output")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_verb_has_a_page() {
        Cli::command().debug_assert();
        let folder = tempfile::tempdir().unwrap();
        man(Some(folder.path())).unwrap();
        for page in [
            "deploy-tool",
            "deploy-tool-deploy",
            "deploy-tool-token-create",
            "deploy-tool-server-disable-soft",
        ] {
            let text = fs::read_to_string(folder.path().join(format!("{page}.1"))).unwrap();
            assert!(text.contains(".SH NAME"), "{page}: {text}");
        }
        let blocked = folder.path().join("deploy-tool.1/x");
        assert!(format!("{:#}", man(Some(&blocked)).unwrap_err()).contains("deploy-tool.1/x"));
    }

    #[test]
    fn each_shell_gets_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(
                ["rollback", "disable-soft", "token"].iter().all(|verb| script.contains(verb)),
                "{shell}"
            );
        }
    }
}

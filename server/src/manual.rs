//! `copal man`: the manual pages, made of the command line itself and of docs/configuration.md, so that they say what is so.

mod configuration;

use crate::{
    check::{complain, say},
    cli::{Cli, ManArguments},
};
use anyhow::Context;
use clap::CommandFactory;
use std::{fs, path::Path, process::ExitCode};

/// The page of the configuration file, section 5.
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

pub(crate) fn run(arguments: &ManArguments) -> ExitCode {
    let done = match &arguments.folder {
        Some(folder) => write(folder),
        None => page().map(|text| say(&text)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            complain(&cause);
            ExitCode::FAILURE
        }
    }
}

fn page() -> anyhow::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    Ok(String::from_utf8(page)?)
}

/// A page for each verb, and that of the file.
fn write(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("copal.yaml.5");
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .and_then(|()| fs::write(file, configuration::page(CONFIGURATION)))
        .with_context(|| format!("the manual pages can't be written to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_so_has_the_file() {
        Cli::command().debug_assert();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for page in ["copal.1", "copal-start.1", "copal-check.1", "copal-upgrade.1", "copal.yaml.5"] {
            let text = fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH NAME"), "{page}: {text}");
        }
        assert!(page().unwrap().contains("upgrade"));
        let blocked = folder.path().join("copal.1/x");
        assert!(format!("{:#}", write(&blocked).unwrap_err()).contains("copal.1/x"));
    }
}

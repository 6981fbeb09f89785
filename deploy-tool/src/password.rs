//! `password-generate`: a line for `users` in the configuration file.

use crate::{
    cli::{ConnectionArguments, PasswordArguments},
    say, tell,
};
use anyhow::bail;
use common::password::{PASSWORD_MAX, PasswordHash};
use std::io::BufRead;

/// Letters and digits that nobody takes for one another; 32 of them, so that each is worth 5 bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a password that is made here: 120 bits.
const LENGTH: usize = 24;

/// The name of a user when none is given.
const USER: &str = "admin";

/// Prints the line; a password that was made here, and what to do with the line, goes to standard error.
///
/// # Errors
/// The password that was given is none.
pub(crate) fn generate(
    connection: &ConnectionArguments,
    arguments: &PasswordArguments,
    json: bool,
) -> anyhow::Result<bool> {
    let password = if arguments.stdin { given(std::io::stdin().lock())? } else { made(rand::random()) };
    let user = connection.user.as_deref().unwrap_or(USER);
    let hash = PasswordHash::new(password.as_bytes(), rand::random());
    if json {
        let made = (!arguments.stdin).then_some(&password);
        let line = line(user, &hash, arguments);
        say(&serde_json::json!({ "user": user, "password": made, "line": line }).to_string());
        return Ok(true);
    }
    if !arguments.stdin {
        tell(&format!("user {user}, password {password}"));
    }
    tell(
        "the next line goes below `admin:` and `users:` in the configuration file of every server; then kill -HUP them:",
    );
    say(&line(user, &hash, arguments));
    Ok(true)
}

fn line(user: &str, hash: &PasswordHash, arguments: &PasswordArguments) -> String {
    let mut roles: Vec<_> = arguments.roles.iter().map(|role| role.name()).collect();
    roles.dedup();
    format!("- {{name: {user}, password: \"{hash}\", roles: [{}]}}", roles.join(", "))
}

/// The first line of standard input.
fn given(mut input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > PASSWORD_MAX {
        bail!(
            "the first line of standard input has {} bytes: expected a password of 1 to {PASSWORD_MAX}",
            password.len()
        );
    }
    Ok(password.to_owned())
}

/// A password of chance.
fn made(chance: [u8; LENGTH]) -> String {
    chance.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RoleName;

    #[test]
    fn a_password_is_read_or_made() {
        assert_eq!(given(&b"open sesame\r\nmore"[..]).unwrap(), "open sesame");
        assert!(given(&b"\n"[..]).unwrap_err().to_string().contains("0 bytes"));
        assert!(given("x".repeat(PASSWORD_MAX + 1).as_bytes()).is_err());
        assert_eq!(made([31; LENGTH]), "9".repeat(LENGTH));
        assert_ne!(made(rand::random()), made(rand::random()));
    }

    #[test]
    fn the_line_is_one_that_the_file_takes() {
        let arguments = PasswordArguments { stdin: false, roles: vec![RoleName::Deploy, RoleName::Operate] };
        let line = line("ops", &PasswordHash::new(b"secret", [7; 16]), &arguments);
        let file = format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}]}}]\nadmin:\n  users:\n    {line}\n"
        );
        let loaded = common::config::load_str(&file, "test.yaml".as_ref(), &Default::default());
        let user = &loaded.unwrap_or_else(|errors| panic!("{errors}")).config.admin_users[0];
        assert_eq!((user.name.as_str(), user.roles.len()), ("ops", 2));
        assert!(user.password.verify(b"secret"));
    }
}

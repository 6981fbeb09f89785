//! Files of users as `htpasswd -B` of the Apache HTTP Server writes them: a line `name:hash` each.

use crate::basic::NAME_MAX;
use common::{
    config::SiteUser,
    password::{PasswordHash, PasswordHashError},
};
use std::collections::{HashMap, hash_map::Entry};

/// The most users of one file.
pub const USERS_MAX: usize = 10_000;

/// The longest file, in bytes: 4 MiB.
pub const FILE_MAX: usize = 4 * 1024 * 1024;

/// The most lines that are complained about; reading ends with the last of them.
const FAULTS_MAX: usize = 20;

/// What is wrong with a line. It never repeats the line, which may have a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: Fault,
}

/// See [`LineError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is one part alone.
    #[error("expected `name:hash`, as `htpasswd -B` writes it, and found no colon")]
    NoColon,
    /// The name is empty or too long, or no text that can be typed.
    #[error("expected a name of 1 to {NAME_MAX} bytes without control characters before the colon")]
    Name,
    /// The same name stands in an earlier line.
    #[error("the user of line {0} stands here again")]
    Twice(usize),
    /// The hash is none, or none that is taken.
    #[error(transparent)]
    Hash(#[from] PasswordHashError),
    /// This line's user is one too many.
    #[error("there are more than {USERS_MAX} users")]
    Users,
    /// The text is not read at all.
    #[error("the file has {0} bytes: expected {FILE_MAX} at most")]
    Length(usize),
}

/// Reads the text of a file, in its order. Empty lines and those that begin with `#` are passed over, and what stands behind a second
/// colon is a comment.
///
/// # Errors
/// What is wrong with which lines: the first 20 that there are.
pub fn parse(text: &str) -> Result<Vec<SiteUser>, Vec<LineError>> {
    if text.len() > FILE_MAX {
        return Err(vec![LineError { line: 1, what: Fault::Length(text.len()) }]);
    }
    let (mut users, mut faults, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if users.len() == USERS_MAX {
            faults.push(LineError { line, what: Fault::Users });
            break;
        }
        match user(content).and_then(|user| once(&mut lines, &user.name, line).map(|()| user)) {
            Ok(user) => users.push(user),
            Err(what) => faults.push(LineError { line, what }),
        }
        if faults.len() == FAULTS_MAX {
            break;
        }
    }
    if faults.is_empty() { Ok(users) } else { Err(faults) }
}

fn user(content: &str) -> Result<SiteUser, Fault> {
    let (name, rest) = content.split_once(':').ok_or(Fault::NoColon)?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
        return Err(Fault::Name);
    }
    let hash = rest.split(':').next().unwrap_or_default();
    Ok(SiteUser { name: name.to_owned(), password: PasswordHash::parse(hash.trim_end())? })
}

/// Notes the line of a name.
fn once(lines: &mut HashMap<String, usize>, name: &str, line: usize) -> Result<(), Fault> {
    match lines.entry(name.to_owned()) {
        Entry::Occupied(first) => Err(Fault::Twice(*first.get())),
        Entry::Vacant(place) => {
            place.insert(line);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";
    const ARGON2ID: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn faults(text: &str) -> Vec<(usize, String)> {
        parse(text).unwrap_err().into_iter().map(|it| (it.line, it.what.to_string())).collect()
    }

    #[test]
    fn users_are_read_in_their_order() {
        let text = format!(
            "# staff\n\neve:{BCRYPT}\r\n  \nänne with a space:{ARGON2ID}:her comment \n#eve:no\nadam:{BCRYPT}"
        );
        let users = parse(&text).unwrap();
        let names: Vec<_> = users.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["eve", "änne with a space", "adam"]);
        assert!(users.iter().all(|it| it.password.verify(b"password")));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn errors_name_the_line_and_never_a_secret() {
        let name = "n".repeat(NAME_MAX + 1);
        let text = format!(
            "eve:{BCRYPT}\nhunter2\n:{BCRYPT}\n{name}:{BCRYPT}\nadam:hunter2\neve:{BCRYPT}\nx:$apr1$hunter2$hunter2\ny:{{SHA}}hunter2=\n\
             z:{}\na\tb:{BCRYPT}",
            BCRYPT.replace("$04", "$31")
        );
        let faults = faults(&text);
        let lines: Vec<_> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let expected = [
            "found no colon",
            "1 to 255 bytes",
            "1 to 255 bytes",
            "no Argon2id hash",
            "user of line 1",
            "apr1",
            "{SHA}",
            "cost is 31",
            "1 to 255",
        ];
        for ((_, fault), expected) in faults.iter().zip(expected) {
            assert!(
                fault.contains(expected) && !fault.contains("hunter") && !fault.contains("eve"),
                "{fault}"
            );
        }
        assert!(faults[5].1.contains("htpasswd -B") && faults[6].1.contains("htpasswd -B"));
        assert_eq!(parse("x").unwrap_err()[0].to_string(), format!("line 1: {}", Fault::NoColon));
    }

    #[test]
    fn a_file_has_bounds() {
        let most: String = (0..USERS_MAX).map(|n| format!("user{n}:{BCRYPT}\n")).collect();
        assert_eq!(parse(&most).unwrap().len(), USERS_MAX);
        let expected = vec![LineError { line: USERS_MAX + 1, what: Fault::Users }];
        assert_eq!(parse(&format!("{most}other:{BCRYPT}")), Err(expected));
        assert!(parse(&format!("{most}# {BCRYPT}\n")).is_ok());
        assert_eq!(parse(&"#".repeat(FILE_MAX)), Ok(vec![]));
        assert_eq!(faults(&"#".repeat(FILE_MAX + 1)), [(1, Fault::Length(FILE_MAX + 1).to_string())]);
        assert_eq!(faults(&"nonsense\n".repeat(1000)).len(), FAULTS_MAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[\n:$#]){0,200}") {
            let users = parse(&text).map(|users| users.len()).unwrap_or_default();
            prop_assert!(users <= text.lines().count());
        }
    }
}

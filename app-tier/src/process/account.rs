//! A user of the system for an app's processes, as `/etc/passwd` and `/etc/group` have it (passwd(5), group(5)).

use rustix::process::geteuid;
use std::fs;

/// Why a user can't be that of an app.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// It is not in the file.
    #[error("there is no {what} `{name}` in {file}")]
    Unknown {
        /// User or group.
        what: &'static str,
        /// Its name or number.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A number that no user has by name.
    #[error("the user {0} is not in /etc/passwd, so that it has no group: name a `group` too")]
    NoGroup(u32),
    /// Root, under whatever name, or this server's own user.
    #[error(
        "`{name}` is user {uid} with group {gid}: an app runs as neither root nor this server's own user"
    )]
    Forbidden {
        /// The name.
        name: String,
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
    },
}

/// A user and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// As the file named it.
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

impl Account {
    /// The user `user`, with `group` in place of its own.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub(crate) fn find(user: &str, group: Option<&str>) -> Result<Self, AccountError> {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let found = Self::of(&read(PASSWD), &read(GROUP), user, group)?;
        if found.uid == 0 || found.gid == 0 || found.uid == geteuid().as_raw() {
            return Err(AccountError::Forbidden { name: found.name, uid: found.uid, gid: found.gid });
        }
        Ok(found)
    }

    fn of(passwd: &str, groups: &str, user: &str, group: Option<&str>) -> Result<Self, AccountError> {
        let unknown = |what, name: &str, file| AccountError::Unknown { what, name: name.to_owned(), file };
        // `name:password:uid:gid:…`
        let mut known = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
            Some((name, uid, fields.next()?.parse::<u32>().ok()?))
        });
        let number = user.parse::<u32>().ok();
        let entry = known.find(|(name, uid, _)| number.map_or(*name == user, |number| number == *uid));
        let uid = entry.map(|(_, uid, _)| uid).or(number).ok_or_else(|| unknown("user", user, PASSWD))?;
        let gid = match (group, entry) {
            (Some(group), _) => Self::group(groups, group).ok_or_else(|| unknown("group", group, GROUP))?,
            (None, Some((_, _, gid))) => gid,
            (None, None) => return Err(AccountError::NoGroup(uid)),
        };
        Ok(Self { name: user.to_owned(), uid, gid })
    }

    /// A group by its name, from lines of `name:password:gid:…`, or by its number.
    fn group(groups: &str, group: &str) -> Option<u32> {
        if let Ok(number) = group.parse() {
            return Some(number);
        }
        let line = groups.lines().find(|line| line.split(':').next() == Some(group))?;
        line.split(':').nth(2)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nbad:x:y:z\nshop:x:1001:1002::/srv:/bin/sh\nwheel:x:5:0::/:/";
    const GROUPS: &str = "root:x:0:\nshop:x:1002:\nwww:x:33:shop,other\nbroken:x\n";

    fn of(user: &str, group: Option<&str>) -> Result<(u32, u32), AccountError> {
        Account::of(USERS, GROUPS, user, group).map(|it| (it.uid, it.gid))
    }

    #[test]
    fn users_and_groups_have_names_or_numbers() {
        assert_eq!(of("shop", None), Ok((1001, 1002)));
        assert_eq!(of("1001", None), Ok((1001, 1002)));
        assert_eq!(of("shop", Some("www")), Ok((1001, 33)));
        assert_eq!(of("4711", Some("12")), Ok((4711, 12)));
        assert_eq!(of("4711", None), Err(AccountError::NoGroup(4711)));
        for (user, group) in
            [("sho", None), ("", None), ("bad", None), ("shop", Some("broken")), ("shop", Some("x"))]
        {
            assert!(matches!(of(user, group), Err(AccountError::Unknown { .. })), "{user}");
        }
    }

    #[test]
    fn neither_root_nor_the_servers_own_user_is_an_apps() {
        for name in ["root", "0", &geteuid().as_raw().to_string()] {
            let refused = Account::find(name, Some("4711"));
            assert!(matches!(refused, Err(AccountError::Forbidden { .. })), "{name}: {refused:?}");
        }
        assert!(matches!(Account::find("4711", Some("0")), Err(AccountError::Forbidden { gid: 0, .. })));
    }
}

//! What an app may do on the machine: whose user its processes are, what they can reach, and how much they may take.

use super::{
    decode::{Context, Fields},
    keys,
    node::{Node, Value},
    quoted::quoted,
};
use std::path::PathBuf;

/// What a web-app says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppRights {
    /// `user`: a name or number of the system, never root; none = the server's own, or what `app.yaml` asks for and `app-users`
    /// allows.
    pub user: Option<String>,
    /// `group`, beside a `user`: none = that user's own.
    pub group: Option<String>,
    /// `confine`: none = `full` for an app that was deployed, `off` for a `root-directory`.
    pub confine: Option<Confine>,
    /// The limits that the file sets; an app can only ask for less.
    pub limits: AppLimits,
}

/// `confine`: what of the machine's files an app reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confine {
    /// `off`: what its user can.
    Off,
    /// `full`, or a mapping with more: its own folder and the system's to read, `${DATA}` to write.
    Full {
        /// `read`: further folders and files to read, absolute.
        read: Vec<PathBuf>,
        /// `write`: further ones to read and write, absolute.
        write: Vec<PathBuf>,
    },
}

/// How much one app may take; `None` = as much as the server's own limits allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppLimits {
    /// `memory-max`: bytes of private memory of one process (`RLIMIT_DATA`, setrlimit(2)).
    pub memory: Option<u64>,
    /// `processes-max`: processes and threads of the app's `user` (`RLIMIT_NPROC`).
    pub processes: Option<u64>,
    /// `open-files-max`: descriptors of one process (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

impl AppLimits {
    /// The lower of both, limit by limit.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            memory: least(self.memory, other.memory),
            processes: least(self.processes, other.processes),
            open_files: least(self.open_files, other.open_files),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Of a web-app.
pub(super) fn rights(fields: &Fields<'_>) -> AppRights {
    let context = fields.context;
    let user = fields.get("user").and_then(|node| context.checked(node, system_user));
    let group = fields.get("group").and_then(|node| context.checked(node, system_group));
    if let (Some(entry), None) = (fields.entry("group"), fields.entry("user")) {
        context.error(entry.key_span, "`group` does nothing without a `user`");
    }
    let confine = fields.get("confine").and_then(|node| confine(context, node));
    AppRights { user, group, confine, limits: limits(fields) }
}

/// Of a web-app or an `app.yaml`.
pub(super) fn limits(fields: &Fields<'_>) -> AppLimits {
    AppLimits {
        memory: fields.size("memory-max", 1 << 20..=1 << 50),
        processes: fields.integer("processes-max", 1..=4_194_304),
        open_files: fields.integer("open-files-max", 16..=1_000_000_000),
    }
}

/// `app-users`: those that an `app.yaml` may name.
pub(super) fn app_users(fields: &Fields<'_>) -> Vec<String> {
    let items = fields.items("app-users").iter();
    items.filter_map(|item| fields.context.checked(item, system_user)).collect()
}

/// `user` of an `app.yaml`.
pub(super) fn user(fields: &Fields<'_>) -> Option<String> {
    fields.context.checked(fields.get("user")?, system_user)
}

fn confine(context: Context<'_>, node: &Node) -> Option<Confine> {
    let full = Confine::Full { read: Vec::new(), write: Vec::new() };
    if !matches!(node.value, Value::Map(_)) {
        let is_full = context.choice(node, &[("full", true), ("off", false)])?;
        return Some(if is_full { full } else { Confine::Off });
    }
    let fields = Fields::open(context, node, &keys::CONFINE)?;
    let paths = |key| fields.items(key).iter().filter_map(|item| context.path(item)).collect();
    Some(Confine::Full { read: paths("read"), write: paths("write") })
}

/// A name as useradd(8) takes it, or a number.
fn is_system_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
        && !text.starts_with('-')
}

/// Whether it is root by its name or number.
fn is_root(text: &str) -> bool {
    text == "root" || text.parse() == Ok(0_u64)
}

fn system_user(text: &str) -> Result<(), String> {
    if is_system_name(text) && !is_root(text) {
        return Ok(());
    }
    Err(format!("expected the name or number of a user of the system, not root, found {}", quoted(text)))
}

fn system_group(text: &str) -> Result<(), String> {
    if is_system_name(text) && !is_root(text) {
        return Ok(());
    }
    Err(format!("expected the name or number of a group of the system, not root's, found {}", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_root_under_another_name() {
        for name in ["shop", "www-data", "1001", "a.b_c", "root2", "00x"] {
            assert_eq!(system_user(name), Ok(()), "{name}");
        }
        for name in ["", "root", "0", "00", "0000000000", "-shop", "a b", "a:b", "a/b", "ä", &"x".repeat(33)]
        {
            assert!(system_user(name).is_err(), "{name}");
            assert!(system_group(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_lower_limit_counts() {
        let all = |memory, processes, open_files| AppLimits { memory, processes, open_files };
        let least = all(Some(5), None, Some(7)).least(all(Some(6), Some(2), Some(3)));
        assert_eq!(least, all(Some(5), Some(2), Some(3)));
        assert!(AppLimits::default().least(AppLimits::default()).is_empty());
    }
}

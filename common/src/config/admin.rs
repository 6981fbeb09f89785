//! `admin`: who may administrate the cluster.

use super::{
    decode::{Context, Fields},
    keys,
    model::{AdminUser, Role},
    names,
    node::Node,
};
use crate::password::PasswordHash;
use std::collections::HashSet;

/// Reads the users of `admin`.
pub(super) fn decode(fields: &Fields<'_>) -> Vec<AdminUser> {
    let Some(admin) = fields.get("admin").and_then(|node| Fields::open(fields.context, node, &keys::ADMIN))
    else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let mut users = Vec::new();
    for item in admin.items("users") {
        let Some(fields) = Fields::open(fields.context, item, &keys::ADMIN_USER) else { continue };
        let name = name(&fields);
        let password = password(&fields);
        let roles = roles(&fields);
        let Some(name) = name else { continue };
        if !seen.insert(name.clone()) {
            let message = format!("the user `{name}` stands twice in `admin`");
            fields.context.error(fields.span("name"), message);
            continue;
        }
        if let Some(password) = password {
            users.push(AdminUser { name, password, roles });
        }
    }
    users
}

fn name(fields: &Fields<'_>) -> Option<String> {
    let node = fields.required("name", "give the user a name")?;
    fields.context.checked(node, names::user)
}

/// `password` of a user. Its errors never repeat the value: it may be the password itself.
pub(super) fn password(fields: &Fields<'_>) -> Option<PasswordHash> {
    let node = fields.required("password", "give its hash, as `deploy-tool password-generate` prints it")?;
    fields.context.report.secret(node.span);
    let text = fields.context.scalar(node, "an Argon2id or bcrypt hash")?;
    let parsed = PasswordHash::parse(&text);
    if let Err(cause) = &parsed {
        let message = format!("{cause}: `deploy-tool password-generate` makes one");
        fields.context.error(node.span, message);
    }
    parsed.ok()
}

fn roles(fields: &Fields<'_>) -> Vec<Role> {
    let node = fields.required("roles", "list what the user may do: view, deploy or operate");
    node.map(|node| read_roles(fields.context, node)).unwrap_or_default()
}

fn read_roles(context: Context<'_>, node: &Node) -> Vec<Role> {
    let mut roles = Vec::new();
    for item in context.one_or_more(node) {
        if let Some(role) = context.choice(item, &Role::ALL.map(|role| (role.name(), role)))
            && !roles.contains(&role)
        {
            roles.push(role);
        }
    }
    roles
}

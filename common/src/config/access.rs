//! `basic-auth` and `jwt`: who may pass, by a password or by a token.

use super::{
    admin::password,
    decode::{Context, Fields},
    dispatch::changeable,
    file_path::FilePath,
    keys, names,
    node::{Node, Value},
    rule::HeaderEditKind,
    secret::Secret,
};
use crate::password::{PasswordHash, PasswordUser};
use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

/// The most claims that servers are told.
const CLAIMS_MAX: usize = 32;

/// The shortest secret that signs tokens, in bytes: as long as the hash of HS256 (RFC 7518 §3.2).
const SECRET_MIN: usize = 32;

const LEEWAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// `basic-auth`: HTTP Basic (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// `users`.
    pub users: Vec<SiteUser>,
    /// `users-file`: more of them, as `htpasswd -B` writes them.
    pub users_file: Option<FilePath>,
    /// `realm` (the site): what a browser shows.
    pub realm: String,
    /// `user-header`, in lower case: by which servers are told who it is.
    pub user_header: Option<String>,
}

/// Somebody who may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteUser {
    /// `name`.
    pub name: String,
    /// `password`: its hash.
    pub password: PasswordHash,
}

impl PasswordUser for SiteUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn password(&self) -> &PasswordHash {
        &self.password
    }
}

/// `jwt`: a JSON Web Token (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuth {
    /// `keys` or `secret`: what its signature is checked with.
    pub keys: JwtKeys,
    /// `issuer`: one of them; any if there is none.
    pub issuers: Vec<String>,
    /// `audience`: one of them; any if there is none.
    pub audiences: Vec<String>,
    /// `leeway` (1 m): how far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// `cookie`: where it is; in `Authorization: Bearer` without.
    pub cookie: Option<String>,
    /// `claims`: the names of claims, and of the headers, in lower case, by which servers are told of them.
    pub claims: Vec<(String, String)>,
}

/// What tokens are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// `keys`: a file with a JSON Web Key Set, or with public keys in PEM.
    File(FilePath),
    /// `secret`: for HS256 and its kin.
    Secret(Secret),
}

/// Reads `basic-auth`, but for `regexp` and `if`.
pub(super) fn basic_auth(fields: &Fields<'_>) -> Option<BasicAuth> {
    let context = fields.context;
    let users_file = fields.get("users-file").map(|node| context.file_path(node));
    let (mut users, mut seen) = (Vec::new(), HashSet::new());
    for item in fields.items("users") {
        let Some(user) = Fields::open(context, item, &keys::SITE_USER) else { continue };
        let name = user.required("name", "give the user a name");
        let name = name.and_then(|node| context.checked(node, names::user));
        let password = password(&user);
        let (Some(name), Some(password)) = (name, password) else { continue };
        if seen.insert(name.clone()) {
            users.push(SiteUser { name, password });
        } else {
            context.error(user.span("name"), format!("the user `{name}` stands twice in this rule"));
        }
    }
    let realm = fields.get("realm").map(|node| context.checked(node, realm));
    let user_header = fields.get("user-header").map(|node| header(context, node));
    if fields.get("users").is_none() && users_file.is_none() {
        context.error(fields.node.span, "`basic-auth` lets nobody in: give `users`, or a `users-file`");
        return None;
    }
    Some(BasicAuth {
        users,
        users_file: match users_file {
            Some(file) => Some(file?),
            None => None,
        },
        realm: realm.unwrap_or_else(|| Some("this site".to_owned()))?,
        user_header: match user_header {
            Some(name) => Some(name?),
            None => None,
        },
    })
}

/// A text that may stand in quotes (RFC 9110 §5.6.4).
fn realm(text: &str) -> Result<(), String> {
    names::header_value(text)?;
    match text.is_empty() || !text.is_ascii() || text.contains(['"', '\\']) {
        true => Err("expected a name in ASCII without quotes and backslashes".to_owned()),
        false => Ok(()),
    }
}

/// A header that tells servers of somebody.
fn header(context: Context<'_>, node: &Node) -> Option<String> {
    let check = |text: &str| {
        changeable(text, HeaderEditKind::SetOnRequest)?;
        let is_taken = ["host", "authorization", "cookie"].iter().any(|it| text.eq_ignore_ascii_case(it));
        if is_taken { Err("expected a header of its own, such as X-User".to_owned()) } else { Ok(()) }
    };
    context.checked(node, check).map(|name| name.to_ascii_lowercase())
}

/// Reads `jwt`, but for `regexp` and `if`.
pub(super) fn jwt(fields: &Fields<'_>) -> Option<JwtAuth> {
    let context = fields.context;
    let file = fields.get("keys").map(|node| context.file_path(node));
    let secret = fields.get("secret").map(|node| secret(context, node));
    let texts = |key: &str| -> Vec<String> {
        let items = fields.get(key).map_or(&[][..], |node| context.one_or_more(node));
        items.iter().filter_map(|item| context.checked(item, some)).collect()
    };
    let (issuers, audiences, claims) = (texts("issuer"), texts("audience"), claims(fields));
    let cookie = fields.get("cookie").map(|node| context.checked(node, names::cookie_name));
    let leeway = fields.duration("leeway", LEEWAY).unwrap_or(Duration::from_secs(60));
    let keys = match (file, secret) {
        (Some(file), None) => JwtKeys::File(file?),
        (None, Some(secret)) => JwtKeys::Secret(secret?),
        _ => {
            let message =
                "`jwt` needs `keys` (a file with a JSON Web Key Set or PEM) or a `secret`, one of them";
            context.error(fields.node.span, message);
            return None;
        }
    };
    let cookie = match cookie {
        Some(name) => Some(name?),
        None => None,
    };
    Some(JwtAuth { keys, issuers, audiences, leeway, cookie, claims })
}

fn secret(context: Context<'_>, node: &Node) -> Option<Secret> {
    context.report.secret(node.span);
    let text = context.scalar(node, "a text of 32 bytes or more")?;
    if text.len() < SECRET_MIN {
        let message = format!("the secret has {} bytes: expected at least {SECRET_MIN}", text.len());
        context.error(node.span, message);
        return None;
    }
    Some(Secret::from(text.as_bytes()))
}

/// `claims`: a list of `{claim: …, header: …}`.
fn claims(fields: &Fields<'_>) -> Vec<(String, String)> {
    let (context, items) = (fields.context, fields.items("claims"));
    if let Some(beyond) = items.get(CLAIMS_MAX) {
        context.error(beyond.span, format!("servers are told {CLAIMS_MAX} claims at most"));
    }
    let read = items.iter().take(CLAIMS_MAX).filter_map(|item| {
        if !matches!(item.value, Value::Map(_)) {
            context.error(item.span, "expected a claim and a header, such as {claim: sub, header: X-User}");
            return None;
        }
        let claim = Fields::open(context, item, &keys::JWT_CLAIM)?;
        let name = claim.required("claim", "name the claim");
        let name = name.and_then(|node| context.checked(node, some));
        let told = claim.required("header", "name the header");
        let told = told.and_then(|node| header(context, node));
        Some((name?, told?))
    });
    read.collect()
}

fn some(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("expected a text, found nothing".to_owned()) } else { Ok(()) }
}

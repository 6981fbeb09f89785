//! `basic-auth` and `jwt`: whose request it is, by what it brings.

use crate::{
    access::{Site, Tokens},
    http1::{Fields, Name, RequestHead},
    proxy::{Reply, local::Local},
    route::trusted::Asker,
    upstream::sticky,
    worker::client::Client,
};
use password_gate::{Credentials, Refused};

/// Whether a user of the site is there, whom servers are told of then.
///
/// # Errors
/// What the client gets instead.
pub(super) async fn by_password(
    client: &Client,
    asker: &Asker<'_>,
    site: &Site,
    head: &mut RequestHead,
) -> Result<(), Reply> {
    let refuse = || Reply::Local(Local::sign_in(client, 401, &site.challenge, "sign in"));
    if let Some(name) = &site.config.user_header {
        remove(&mut head.fields, name);
    }
    let Some(credentials) = credentials(&head.fields) else { return Err(refuse()) };
    match site.gate.admit(&site.users, &credentials, asker.address).await {
        Ok(user) => {
            if let Some(name) = &site.config.user_header {
                tell(&mut head.fields, name, &user.name);
            }
            Ok(())
        }
        Err(Refused::Wrong) => Err(refuse()),
        Err(Refused::Slowed(wait)) => {
            Err(Reply::Local(Local::too_many(client, wait.as_secs().saturating_add(1))))
        }
        Err(Refused::Crowded) => Err(Reply::Local(Local::too_many(client, 1))),
    }
}

/// Those of the one `Authorization` field.
fn credentials(fields: &Fields) -> Option<Credentials> {
    let mut brought = fields.named("authorization");
    let (value, None) = (brought.next()?, brought.next()) else { return None };
    Credentials::read(value).ok()
}

/// Whether a token is there that is to be believed; servers are told of its claims then.
///
/// # Errors
/// What the client gets instead (RFC 6750 §3).
pub(super) fn by_token(client: &Client, tokens: &Tokens, head: &mut RequestHead) -> Result<(), Reply> {
    for (_, name) in &tokens.config.claims {
        remove(&mut head.fields, name);
    }
    let token = match &tokens.config.cookie {
        Some(name) => sticky::values(&head.fields, name).next().map(str::as_bytes),
        None => bearer(&head.fields),
    };
    let Some(token) = token else {
        return Err(Reply::Local(Local::sign_in(client, 401, "Bearer", "a token is needed")));
    };
    match jwt::verify(token, &tokens.keys, &tokens.rules, client.worker.wall_seconds()) {
        Ok(claims) => {
            for (claim, name) in &tokens.config.claims {
                // What a server would trim is another name than the one that was signed.
                if let Some(text) = claims.text(claim).filter(|it| !it.is_empty() && it.trim() == it) {
                    tell(&mut head.fields, name, &text);
                }
            }
            Ok(())
        }
        Err(refused) => {
            let challenge = format!("Bearer error=\"{}\", error_description=\"{refused}\"", refused.code());
            Err(Reply::Local(Local::sign_in(client, refused.status(), &challenge, &refused.to_string())))
        }
    }
}

/// RFC 6750 §2.1; `None` where there are two.
fn bearer(fields: &Fields) -> Option<&[u8]> {
    let mut brought = fields.named("authorization");
    let (value, None) = (brought.next()?, brought.next()) else { return None };
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A server may read the client's `X_User` for the `X-User` that we vouch for.
fn remove(fields: &mut Fields, name: &str) {
    fields.remove_if(|field| Name::is_alike(field.name, name.as_bytes()));
}

fn tell(fields: &mut Fields, name: &str, value: &str) {
    fields.push(Name::of(name.as_bytes()), name.as_bytes(), value.as_bytes());
}

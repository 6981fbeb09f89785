//! `token …`.

use crate::{
    cli::TokenArguments,
    client::{self, Body},
    say, table,
    target::Target,
    tell,
};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// Below the administration's own path.
const PATH: &str = "/api/v1/tokens";

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Create<'a> {
    name: &'a str,
    roles: Vec<&'static str>,
    expires_s: u64,
}

#[derive(Debug, Deserialize)]
struct Created {
    token: String,
    record: Record,
}

#[derive(Debug, Deserialize)]
struct List {
    tokens: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Revoked {
    changed: bool,
    record: Record,
}

#[derive(Debug, Deserialize)]
struct Record {
    id: String,
    name: Option<String>,
    user: String,
    roles: Vec<String>,
    created: Option<String>,
    expires: Option<String>,
    state: String,
}

/// Makes a token.
///
/// # Errors
/// It is refused: a role is not the user's, or the name is another token's.
pub(crate) async fn create(target: &Target, arguments: &TokenArguments, json: bool) -> anyhow::Result<bool> {
    let wanted = Create {
        name: arguments.name.as_deref().unwrap_or_default(),
        roles: arguments.roles.iter().map(|it| it.name()).collect(),
        expires_s: arguments.expires.as_secs(),
    };
    let answer = client::ask(target, Method::POST, PATH, Body::json(&wanted)?).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Created { token, record } = answer.read()?;
    say(&token);
    let until = record.expires.as_deref().unwrap_or("-");
    tell(&format!(
        "note: nobody can show it again. A program has it in COPAL_ADMIN_TOKEN, or as `Authorization: Bearer`; it may {} until {}; \
         `deploy-tool token revoke {}` ends it",
        record.roles.join(", "),
        table::seconds(until),
        record.name.as_ref().unwrap_or(&record.id)
    ));
    Ok(true)
}

/// Prints the tokens.
///
/// # Errors
/// They could not be had.
pub(crate) async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, PATH, Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let heading = ["ID", "NAME", "BY", "MAY", "CREATED", "EXPIRES", "STATE"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(answer.read::<List>()?.tokens.into_iter().map(|it| {
        let time = |time: &Option<String>| table::seconds(time.as_deref().unwrap_or("-"));
        let (created, expires) = (time(&it.created), time(&it.expires));
        let name = it.name.unwrap_or_else(|| "-".to_owned());
        vec![it.id, name, it.user, it.roles.join(","), created, expires, it.state]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

/// Ends a token.
///
/// # Errors
/// There is none of this name, or it is another user's.
pub(crate) async fn revoke(target: &Target, token: &str, json: bool) -> anyhow::Result<bool> {
    let path = format!("{PATH}/{}", utf8_percent_encode(token, NON_ALPHANUMERIC));
    let answer = client::ask(target, Method::DELETE, &path, Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Revoked { changed, record } = answer.read()?;
    let Record { id, name, state, .. } = record;
    let name = name.map(|name| format!("{name} ")).unwrap_or_default();
    say(&if changed { format!("Revoked {name}({id})") } else { format!("{name}({id}) is {state} already") });
    Ok(true)
}

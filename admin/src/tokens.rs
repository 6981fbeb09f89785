//! Tokens for programs: made by users, with a part of their rights and an end.

use crate::{
    AnswerBody, HUB_WAIT, Inner,
    apps::{change, record::hex},
    json,
    refusal::Refusal,
    sign_in::SignedIn,
    timestamp,
    token::TokenText,
};
use common::config::{AdminUser, Role};
use http::{Response, StatusCode};
use proto::hub::v1::{CreateToken, Token, TokenState, token_created::Outcome};
use serde::{Deserialize, Serialize};

/// Digits of the hash that name a token.
const ID: usize = 12;

/// The longest name, in characters.
const NAME_MAX: usize = 64;

/// The longest life: ten years.
const EXPIRES_MAX_S: u64 = 10 * 366 * 24 * 3600;

/// `POST /api/v1/tokens`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Create {
    #[serde(default)]
    name: String,
    roles: Vec<String>,
    expires_s: u64,
}

#[derive(Debug, Serialize)]
struct Created<'a> {
    /// The token itself: nobody can tell it again.
    token: &'a str,
    record: TokenRecord,
}

/// `GET /api/v1/tokens`.
#[derive(Debug, Serialize)]
struct List {
    tokens: Vec<TokenRecord>,
}

#[derive(Debug, Serialize)]
struct Revoked {
    /// False: it had ended already.
    changed: bool,
    record: TokenRecord,
}

/// What is known of a token.
#[derive(Debug, Serialize)]
struct TokenRecord {
    id: String,
    name: Option<String>,
    user: String,
    roles: Vec<String>,
    created: Option<String>,
    expires: Option<String>,
    /// `valid`, `expired` or `revoked`.
    state: &'static str,
    ended: Option<String>,
}

impl TokenRecord {
    fn of(token: &Token) -> Self {
        Self {
            id: id(token),
            name: Some(token.name.clone()).filter(|it| !it.is_empty()),
            user: token.user.clone(),
            roles: token.roles.clone(),
            created: timestamp::format(token.created_ms),
            expires: timestamp::format(token.expires_ms),
            state: match token.state() {
                TokenState::Valid => "valid",
                TokenState::Expired => "expired",
                TokenState::Revoked => "revoked",
            },
            ended: timestamp::format(token.ended_ms),
        }
    }
}

/// The beginning of its hash.
pub(crate) fn id(token: &Token) -> String {
    hex(&token.hash).unwrap_or_default().chars().take(ID).collect()
}

/// What a new token is to be, as the hub takes it.
///
/// # Errors
/// The name is none, or a role is none or not the maker's.
fn wanted(create: Create, user: &AdminUser, text: &TokenText) -> Result<CreateToken, Refusal> {
    let Create { name, roles, expires_s } = create;
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    if name.len() > NAME_MAX || !name.chars().all(fits) {
        let shown: String = name.chars().take(NAME_MAX).collect();
        let expected = format!("expected at most {NAME_MAX} letters, digits, `-`, `_` and `.`");
        return Err(Refusal::Body(format!("name is {shown:?}: {expected}")));
    }
    if roles.is_empty() {
        return Err(Refusal::Body("roles is empty: expected view, deploy or operate".to_owned()));
    }
    let mut known = Vec::new();
    for given in roles {
        let Some(role) = Role::ALL.into_iter().find(|it| it.name() == given) else {
            let shown: String = given.chars().take(NAME_MAX).collect();
            return Err(Refusal::Body(format!("roles has {shown:?}: expected view, deploy or operate")));
        };
        // Whoever may do anything may look.
        if role != Role::View && !user.roles.contains(&role) {
            return Err(Refusal::TokenRole { user: user.name.clone(), role: role.name() });
        }
        if !known.contains(&given) {
            known.push(given);
        }
    }
    if !(1..=EXPIRES_MAX_S).contains(&expires_s) {
        return Err(Refusal::Body(format!("expires-s is {expires_s}: expected 1 to {EXPIRES_MAX_S}")));
    }
    Ok(CreateToken {
        hash: text.hash(),
        name,
        user: user.name.clone(),
        roles: known,
        valid_ms: expires_s * 1000,
        author: None,
    })
}

impl Inner {
    /// Makes a token; the answer is the only place where it stands.
    pub(crate) async fn create_token(
        &self,
        asker: &SignedIn,
        body: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let user = &asker.user;
        if asker.by_token {
            return Err(Refusal::ByToken);
        }
        let text = TokenText::random();
        let mut wanted = wanted(change::read(body)?, user, &text)?;
        wanted.author = Some(asker.author("create"));
        match self.hub.create_token(wanted, HUB_WAIT).await.map_err(Refusal::Unsure)? {
            Outcome::Created(token) => {
                tracing::info!(user = user.name, token = id(&token), name = token.name, roles = ?token.roles, "a token was made");
                let record = TokenRecord::of(&token);
                Ok(json(StatusCode::CREATED, &Created { token: text.text(), record }))
            }
            Outcome::NameTaken(token) => Err(Refusal::TokenName { name: token.name, user: token.user }),
            Outcome::Full(count) => Err(Refusal::TokensFull(count)),
        }
    }

    /// All tokens, without their texts.
    pub(crate) async fn list_tokens(&self) -> Result<Response<AnswerBody>, Refusal> {
        let tokens = self.hub.tokens(HUB_WAIT).await?.iter().map(TokenRecord::of).collect();
        Ok(json(StatusCode::OK, &List { tokens }))
    }

    /// Ends the token of this name or id.
    pub(crate) async fn revoke_token(
        &self,
        asker: &SignedIn,
        named: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let user = &asker.user;
        if asker.by_token {
            return Err(Refusal::ByToken);
        }
        let tokens = self.hub.tokens(HUB_WAIT).await?;
        let token = find(&tokens, named)
            .ok_or_else(|| Refusal::UnknownToken(named.chars().take(NAME_MAX).collect()))?;
        if token.user != user.name && !user.roles.contains(&Role::Operate) {
            return Err(Refusal::OthersToken { user: user.name.clone(), of: token.user.clone() });
        }
        tracing::info!(user = user.name, token = id(token), name = token.name, "a token is revoked");
        let was_valid = token.state() == TokenState::Valid;
        let author = asker.author("revoke");
        let revoked = self.hub.revoke_token(token.hash.clone(), author, HUB_WAIT).await;
        let revoked = revoked.map_err(Refusal::Unsure)?;
        let revoked = revoked.ok_or_else(|| Refusal::UnknownToken(id(token)))?;
        self.heard_of(&revoked).await;
        Ok(json(StatusCode::OK, &Revoked { changed: was_valid, record: TokenRecord::of(&revoked) }))
    }

    /// Waits until this server goes by it; the others hear of it at the same time.
    async fn heard_of(&self, revoked: &Token) {
        let mut tokens = self.tokens.clone();
        let knows = tokens.wait_for(|all| {
            let known = all.as_ref().and_then(|all| all.get(&revoked.hash));
            known.is_none_or(|it| it.state() != TokenState::Valid)
        });
        let _late = tokio::time::timeout(HUB_WAIT, knows).await;
    }
}

/// The one that is valid and has this name, else the one with this id or name that came last.
fn find<'a>(tokens: &'a [Token], named: &str) -> Option<&'a Token> {
    let by_name = |it: &&Token| it.name == named && !named.is_empty();
    let valid = tokens.iter().find(|it| by_name(it) && it.state() == TokenState::Valid);
    valid.or_else(|| tokens.iter().rfind(|it| id(it) == named || by_name(it)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::password::PasswordHash;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn refused(name: &str, roles: &[&str], expires_s: u64) -> Option<String> {
        let user = AdminUser {
            name: "ops".into(),
            password: PasswordHash::parse(HASH).unwrap(),
            roles: vec![Role::Deploy],
        };
        let roles = roles.iter().map(|it| (*it).to_owned()).collect();
        let create = Create { name: name.into(), roles, expires_s };
        wanted(create, &user, &TokenText::random()).err().map(|it| it.to_string())
    }

    #[test]
    fn a_token_has_a_part_of_its_makers_roles_a_name_and_an_end() {
        assert_eq!(refused("ci.1_x-y", &["deploy", "view", "deploy"], 1), None);
        assert_eq!(refused("", &["view"], EXPIRES_MAX_S), None);
        for (name, roles, expires_s, words) in [
            ("ci", &["operate"][..], 1, "the user `ops` may not give `operate`"),
            ("ci", &[], 1, "roles is empty"),
            ("ci", &["root"], 1, "roles has \"root\""),
            ("c i", &["deploy"], 1, "name is \"c i\""),
            ("ci", &["deploy"], 0, "expires-s is 0"),
            ("ci", &["deploy"], u64::MAX, "expires-s is 1844"),
        ] {
            let said = refused(name, roles, expires_s).unwrap();
            assert!(said.starts_with(words), "{said}");
        }
        assert!(refused(&"x".repeat(65), &["deploy"], 1).is_some());
    }

    #[test]
    fn a_token_is_found_by_its_name_or_its_id() {
        let token = |number: u8, name: &str, state: TokenState| {
            let hash = vec![number; 32].into();
            Token { hash, name: name.into(), state: state.into(), ..Token::default() }
        };
        let tokens = [
            token(1, "ci", TokenState::Revoked),
            token(2, "ci", TokenState::Valid),
            token(3, "ci", TokenState::Expired),
            token(4, "", TokenState::Valid),
        ];
        let found = |named: &str| find(&tokens, named).map(|it| it.hash[0]);
        assert_eq!((found("ci"), found("040404040404"), found("030303030303")), (Some(2), Some(4), Some(3)));
        assert_eq!((found(""), found("0404"), found("x")), (None, None, None));
        assert_eq!(find(&tokens[..1], "ci").map(|it| it.hash[0]), Some(1));
    }
}

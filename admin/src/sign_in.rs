//! Who asks: a user by a password, or a program by a token that a user made for it.

use crate::{HUB_WAIT, Inner, gate, refusal::Refusal, timestamp, token, token::TokenText, tokens};
use common::config::{AdminUser, Config, Role};
use http::HeaderMap;
use proto::hub::v1::{Author, Token, TokenState};
use std::time::Duration;

/// What this server remembers of tokens counts for so long after the hub's last sign of life: from then on the hub is asked, for another
/// server may have heard that one was revoked.
const BELIEVED: Duration = Duration::from_secs(60);

/// Who has signed in.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// The user, with the roles that this request has: by a token those of the token that its user still has.
    pub(crate) user: AdminUser,
    /// By a token.
    pub(crate) by_token: bool,
    /// As the audit log names whoever has something done.
    pub(crate) author: Author,
}

impl SignedIn {
    /// A user, who showed a password, or a browser's session, or the token that is named.
    pub(crate) fn new(user: AdminUser, token: Option<&Token>, headers: &HeaderMap) -> Self {
        let author = Author {
            user: user.name.clone(),
            token: token.map(token_name).unwrap_or_default(),
            address: gate::client(headers).map(|it| it.to_string()).unwrap_or_default(),
            ..Author::default()
        };
        Self { user, by_token: token.is_some(), author }
    }

    /// The author of a command that somebody asked for by this verb.
    pub(crate) fn author(&self, verb: &str) -> Author {
        Author { verb: verb.to_owned(), ..self.author.clone() }
    }

    /// # Errors
    /// The user may not deploy.
    pub(crate) fn must_deploy(&self) -> Result<(), Refusal> {
        if self.user.roles.contains(&Role::Deploy) {
            return Ok(());
        }
        Err(Refusal::DeployRole { user: self.user.name.clone() })
    }

    /// # Errors
    /// The user may not operate.
    pub(crate) fn must_operate(&self) -> Result<(), Refusal> {
        if self.user.roles.contains(&Role::Operate) {
            return Ok(());
        }
        Err(Refusal::Role { user: self.user.name.clone() })
    }
}

/// Its name, or else the beginning of its hash, as the list of tokens has it.
fn token_name(token: &Token) -> String {
    if token.name.is_empty() { tokens::id(token) } else { token.name.clone() }
}

impl Inner {
    /// Who a request comes from.
    ///
    /// # Errors
    /// It names nobody, what it brings is wrong or has ended, or too many come at once.
    pub(crate) async fn sign_in(&self, config: &Config, headers: &HeaderMap) -> Result<SignedIn, Refusal> {
        let users = &config.admin_users;
        let Some(text) = TokenText::of(headers)?.filter(|_| !users.is_empty()) else {
            let user = self.gate.admit(users, headers).await?.clone();
            return Ok(SignedIn::new(user, None, headers));
        };
        let hash = text.hash();
        let lately = self.heard.age(self.clock.now()).is_some_and(|age| age < BELIEVED);
        let known = self.tokens.borrow().clone().filter(|_| lately);
        let known = known.and_then(|all| find(all.values(), &hash).cloned());
        // One that was made a moment ago may be news to this server.
        let asked = async { Ok(find(self.hub.tokens(HUB_WAIT).await?.iter(), &hash).cloned()) };
        let found = self.gate.admit_token(headers, known, asked).await?;
        let user = by_token(users, &found, self.clock.unix_ms())?;
        Ok(SignedIn::new(user, Some(&found), headers))
    }
}

fn find<'a>(tokens: impl Iterator<Item = &'a Token>, hash: &[u8]) -> Option<&'a Token> {
    // All of them are looked at, whichever it is.
    tokens.fold(None, |found, it| if token::same(&it.hash, hash) { Some(it) } else { found })
}

/// The user whose token this is, with what the token may do.
fn by_token(users: &[AdminUser], token: &Token, now_ms: u64) -> Result<AdminUser, Refusal> {
    let ended = |how| Refusal::TokenEnded { how, at: timestamp::format(token.ended_ms).unwrap_or_default() };
    match token.state() {
        TokenState::Revoked => return Err(ended("was revoked")),
        TokenState::Expired => return Err(ended("has expired")),
        // The hub has not said so yet, or can't be heard.
        TokenState::Valid if token.expires_ms <= now_ms => {
            let at = timestamp::format(token.expires_ms).unwrap_or_default();
            return Err(Refusal::TokenEnded { how: "has expired", at });
        }
        TokenState::Valid => {}
    }
    let maker = users.iter().find(|it| it.name == token.user);
    let mut user = maker.cloned().ok_or_else(|| Refusal::TokenOrphan { user: token.user.clone() })?;
    // Whoever may do anything may look.
    let has = |role: &Role| user.roles.contains(role) || (*role == Role::View && !user.roles.is_empty());
    let given = |role: &Role| token.roles.iter().any(|it| it == role.name());
    user.roles = Role::ALL.into_iter().filter(|role| has(role) && given(role)).collect();
    if user.roles.is_empty() {
        return Err(Refusal::TokenOrphan { user: user.name });
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::password::PasswordHash;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn a_token_does_what_its_maker_still_may_until_it_ends() {
        let user = |name: &str, roles: &[Role]| {
            let password = PasswordHash::parse(HASH).unwrap();
            AdminUser { name: name.into(), password, roles: roles.to_vec() }
        };
        let roles = ["deploy", "operate"].map(str::to_owned).to_vec();
        let token = Token { user: "ops".into(), roles, expires_ms: 1000, ..Token::default() };
        let roles = |users: &[AdminUser]| by_token(users, &token, 999).map(|it| it.roles);
        let all = user("ops", &[Role::View, Role::Deploy, Role::Operate]);
        assert_eq!(roles(std::slice::from_ref(&all)).unwrap(), [Role::Deploy, Role::Operate]);
        assert_eq!(roles(&[user("ops", &[Role::Deploy])]).unwrap(), [Role::Deploy]);
        for users in [&[user("ops", &[Role::View])][..], &[user("eve", &[Role::Deploy])]] {
            assert!(matches!(roles(users), Err(Refusal::TokenOrphan { .. })));
        }
        let looks = Token { roles: vec!["view".into()], ..token.clone() };
        assert_eq!(by_token(&[user("ops", &[Role::Deploy])], &looks, 999).unwrap().roles, [Role::View]);
        let said = |token: &Token, now_ms| {
            by_token(std::slice::from_ref(&all), token, now_ms).unwrap_err().to_string()
        };
        assert_eq!(
            said(&token, 1000),
            "the token has expired, 1970-01-01T00:00:01.000Z: `deploy-tool token create` makes another one"
        );
        let mut ended = Token { ended_ms: 500, ..token.clone() };
        ended.set_state(TokenState::Revoked);
        assert!(said(&ended, 600).starts_with("the token was revoked, 1970-01-01T00:00:00.500Z"));
    }
}

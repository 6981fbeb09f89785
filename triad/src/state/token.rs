//! Tokens by their hashes. Those that have ended are remembered for as long as there is room, so that whoever still has one can be
//! told what has become of it.

use super::{change::Change, reply::Reply};
use bytes::Bytes;
use imbl::OrdMap;
use proto::hub::v1::{
    CreateToken, RevokeToken, Token, TokenCreated, TokenRevoked, TokenState, token_created::Outcome,
};

/// Tokens, those that have ended included.
pub(crate) const TOKENS_MAX: usize = 1000;

/// The tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tokens(OrdMap<Bytes, Token>);

impl Tokens {
    /// Adds one, if nothing speaks against it.
    pub(super) fn create(&mut self, create: CreateToken, now_ms: u64, changes: &mut Vec<Change>) -> Reply {
        let outcome = match self.answered(&create, now_ms, changes) {
            Some(outcome) => outcome,
            None => {
                let CreateToken { hash, name, user, roles, valid_ms, .. } = create;
                let expires_ms = now_ms.saturating_add(valid_ms);
                let token =
                    Token { hash, name, user, roles, created_ms: now_ms, expires_ms, ..Token::default() };
                self.put(&token, changes);
                Outcome::Created(token)
            }
        };
        Reply::TokenCreated(TokenCreated { outcome: Some(outcome) })
    }

    /// The answer, if it is none that makes a token; makes room for one otherwise.
    fn answered(&mut self, create: &CreateToken, now_ms: u64, changes: &mut Vec<Change>) -> Option<Outcome> {
        if let Some(same) = self.0.get(&create.hash) {
            return Some(Outcome::Created(same.clone()));
        }
        // What is too old by now has not been noticed yet: it keeps neither its name nor its room.
        self.expire(now_ms, changes);
        let named = |it: &&Token| is_valid(it) && !it.name.is_empty() && it.name == create.name;
        if let Some(taken) = self.0.values().find(named) {
            return Some(Outcome::NameTaken(taken.clone()));
        }
        if self.0.len() < TOKENS_MAX {
            return None;
        }
        let ended = self.0.values().filter(|it| !is_valid(it));
        let Some(oldest) = ended.min_by_key(|it| (it.ended_ms, it.hash.clone())) else {
            return Some(Outcome::Full(u32::try_from(self.0.len()).unwrap_or(u32::MAX)));
        };
        let hash = oldest.hash.clone();
        self.0.remove(&hash);
        changes.push(Change::TokenForgotten(hash));
        None
    }

    /// Ends one; what has ended already stays as it is.
    pub(super) fn revoke(&mut self, revoke: &RevokeToken, now_ms: u64, changes: &mut Vec<Change>) -> Reply {
        let mut token = self.0.get(&revoke.hash).cloned();
        if let Some(token) = token.as_mut().filter(|it| is_valid(it)) {
            token.set_state(TokenState::Revoked);
            token.ended_ms = now_ms;
            self.put(token, changes);
        }
        Reply::TokenRevoked(TokenRevoked { token })
    }

    /// It is too late for some.
    pub(super) fn expire(&mut self, now_ms: u64, changes: &mut Vec<Change>) {
        let due = |it: &&Token| is_valid(it) && it.expires_ms <= now_ms;
        let due: Vec<Token> = self.0.values().filter(due).cloned().collect();
        for mut token in due {
            token.set_state(TokenState::Expired);
            token.ended_ms = token.expires_ms;
            self.put(&token, changes);
        }
    }

    fn put(&mut self, token: &Token, changes: &mut Vec<Change>) {
        self.0.insert(token.hash.clone(), token.clone());
        changes.push(Change::Token(token.clone()));
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, token: Token) {
        self.0.insert(token.hash.clone(), token);
    }

    /// All of them in order of hash.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.values()
    }

    /// When the first one is due.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.iter().filter(|it| is_valid(it)).map(|it| it.expires_ms).min()
    }
}

fn is_valid(token: &Token) -> bool {
    token.state() == TokenState::Valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> Bytes {
        let mut hash = vec![0; 32];
        hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
        hash.into()
    }

    fn create(number: usize, name: &str, valid_ms: u64) -> CreateToken {
        let roles = vec!["deploy".to_owned()];
        let user = "ops".into();
        CreateToken { hash: hash(number), name: name.into(), user, roles, valid_ms, author: None }
    }

    fn outcome(tokens: &mut Tokens, create: CreateToken, now_ms: u64) -> Outcome {
        match tokens.create(create, now_ms, &mut Vec::new()) {
            Reply::TokenCreated(TokenCreated { outcome: Some(outcome) }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn revoke(tokens: &mut Tokens, number: usize, now_ms: u64) -> (Option<TokenState>, usize) {
        let mut changes = Vec::new();
        match tokens.revoke(&RevokeToken { hash: hash(number), author: None }, now_ms, &mut changes) {
            Reply::TokenRevoked(revoked) => (revoked.token.map(|it| it.state()), changes.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_lives_from_its_making_to_its_time() {
        let mut tokens = Tokens::default();
        let Outcome::Created(made) = outcome(&mut tokens, create(1, "ci", 500), 1000) else { panic!() };
        assert_eq!((made.created_ms, made.expires_ms, made.state()), (1000, 1500, TokenState::Valid));
        assert_eq!(outcome(&mut tokens, create(1, "ci", 500), 1200), Outcome::Created(made.clone()), "again");
        assert_eq!(outcome(&mut tokens, create(2, "ci", 9), 1200), Outcome::NameTaken(made));
        assert_eq!(tokens.next_deadline_ms(), Some(1500));
        let mut changes = Vec::new();
        tokens.expire(1499, &mut changes);
        assert!(changes.is_empty());
        tokens.expire(1500, &mut changes);
        let [Change::Token(ended)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((ended.state(), ended.ended_ms), (TokenState::Expired, 1500));
        assert_eq!(tokens.next_deadline_ms(), None);
        assert!(
            matches!(outcome(&mut tokens, create(2, "ci", 9), 1501), Outcome::Created(_)),
            "the name is free"
        );
    }

    #[test]
    fn a_revoked_one_ends_once_and_for_all() {
        let mut tokens = Tokens::default();
        assert_eq!(revoke(&mut tokens, 1, 5), (None, 0));
        outcome(&mut tokens, create(1, "", 500), 1000);
        assert_eq!(revoke(&mut tokens, 1, 1001), (Some(TokenState::Revoked), 1));
        assert_eq!(revoke(&mut tokens, 1, 1002), (Some(TokenState::Revoked), 0));
        tokens.expire(9999, &mut Vec::new());
        let ended = tokens.iter().next().unwrap();
        assert_eq!((ended.state(), ended.ended_ms), (TokenState::Revoked, 1001));
    }

    #[test]
    fn the_table_is_bounded_and_those_that_have_ended_make_room() {
        let mut tokens = Tokens::default();
        for number in 0..TOKENS_MAX {
            let valid_ms = if number < 2 { 10 } else { 1_000_000 };
            assert!(matches!(
                outcome(&mut tokens, create(number, "", valid_ms), number as u64 % 5),
                Outcome::Created(_)
            ));
        }
        // The first two are too old by now, whether anyone has said so or not.
        for number in [TOKENS_MAX, TOKENS_MAX + 1] {
            assert!(matches!(outcome(&mut tokens, create(number, "", 1_000_000), 100), Outcome::Created(_)));
            assert_eq!(tokens.iter().count(), TOKENS_MAX);
        }
        let full = outcome(&mut tokens, create(TOKENS_MAX + 2, "", 1), 100);
        assert_eq!(full, Outcome::Full(u32::try_from(TOKENS_MAX).unwrap()));
        revoke(&mut tokens, 7, 200);
        let mut changes = Vec::new();
        tokens.create(create(TOKENS_MAX + 2, "", 1), 300, &mut changes);
        assert_eq!(changes.len(), 2, "one is forgotten, one is new");
        assert_eq!(changes[0], Change::TokenForgotten(hash(7)));
    }
}

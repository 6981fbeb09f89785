//! The cookie that names a foreign backend: a code that servers with the cluster key alone can make. Each backend has one,
//! which is the same on every web-tier and after every restart, so nothing is stored and nothing is asked.
//!
//! It says nothing of the backend's name, nobody without the key can aim at a backend of his choice, and one that is gone
//! from the file has no token: its cookies count as none. It names no user and proves nothing else: a stolen one is of no use.

use cluster_port::ClusterKey;
use common::id::ServerId;
use std::hint::black_box;

/// What the key's code is for. The version is in it: another make of tokens has another purpose.
const PURPOSE: &str = "web-tier sticky token 1";

/// Characters of a token, of six bits each.
const LENGTH: usize = 20;

/// The first characters find the backend (42 bits), the others are compared in constant time (78 bits).
const TAG: usize = 7;

/// RFC 4648 §5, as cookies can carry it without quotes.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The tokens of one pool of backends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StickyTokens {
    tokens: Vec<[u8; LENGTH]>,
    /// The backends' indices in the order of their tokens.
    sorted: Vec<u16>,
}

impl StickyTokens {
    /// Of the backends with these ids, in order. `pool` keeps two pools with the same backend apart.
    pub(crate) fn new<'a>(key: &ClusterKey, pool: &str, ids: impl IntoIterator<Item = &'a ServerId>) -> Self {
        let token = |id: &ServerId| encode(&key.code(PURPOSE, &[pool.as_bytes(), id.as_str().as_bytes()]));
        let tokens: Vec<_> = ids.into_iter().map(token).collect();
        let mut sorted: Vec<_> = (0..tokens.len()).filter_map(|index| u16::try_from(index).ok()).collect();
        sorted.sort_by_key(|index| tokens[usize::from(*index)]);
        Self { tokens, sorted }
    }

    /// A backend's token: 20 characters that need no quotes in a cookie.
    pub(crate) fn token(&self, index: usize) -> &str {
        str::from_utf8(&self.tokens[index]).expect("the alphabet is ASCII")
    }

    /// The backend that a cookie's value names.
    pub(crate) fn find(&self, value: &str) -> Option<usize> {
        let value: &[u8; LENGTH] = value.as_bytes().try_into().ok()?;
        let token = |index: &u16| &self.tokens[usize::from(*index)];
        let begin = self.sorted.partition_point(|index| token(index)[..TAG] < value[..TAG]);
        let alike = self.sorted[begin..].iter().take_while(|index| token(index)[..TAG] == value[..TAG]);
        let mut found = None;
        for index in alike {
            if same(token(index), value) {
                found = Some(usize::from(*index));
            }
        }
        found
    }
}

/// In the same time wherever they differ: a guesser must not learn how much of his guess was right.
fn same(one: &[u8; LENGTH], other: &[u8; LENGTH]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (one, other)| black_box(differ | (one ^ other)));
    differ == 0
}

fn encode(code: &[u8; 32]) -> [u8; LENGTH] {
    let mut token = [0; LENGTH];
    for (three, four) in code.chunks_exact(3).zip(token.chunks_exact_mut(4)) {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for (place, character) in four.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::Secret;
    use proptest::prelude::*;

    fn tokens(secret: &str, pool: &str, count: usize) -> StickyTokens {
        let ids: Vec<_> = (0..count).map(|n| ServerId::from(format!("10.1.0.{n}:8080"))).collect();
        StickyTokens::new(&ClusterKey::new(&Secret::from(secret.as_bytes())), pool, &ids)
    }

    #[test]
    fn every_web_tier_knows_every_token() {
        let (mine, theirs) =
            (tokens("a key of sixteen", "legacy", 300), tokens("a key of sixteen", "legacy", 300));
        for index in 0..300 {
            assert_eq!(theirs.find(mine.token(index)), Some(index));
        }
        // Frozen: a new version must know the cookies of the old one.
        assert_eq!(mine.token(7), "LBOBcucF_XKQ2Z5lQK1m");
    }

    #[test]
    fn a_token_stays_when_other_backends_come_and_go() {
        let (few, many) = (tokens("k", "legacy", 3), tokens("k", "legacy", 30));
        assert_eq!(few.token(2), many.token(2));
        assert_eq!(few.find(many.token(20)), None);
    }

    #[test]
    fn another_key_another_pool_and_a_changed_character_name_nobody() {
        let ours = tokens("k", "legacy", 5);
        assert_eq!(ours.find(tokens("l", "legacy", 5).token(1)), None);
        assert_eq!(ours.find(tokens("k", "other", 5).token(1)), None);
        for place in 0..LENGTH {
            let mut changed = ours.token(1).as_bytes().to_vec();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.find(str::from_utf8(&changed).unwrap()), None, "{place}");
        }
        assert_eq!(tokens("k", "legacy", 0).find(ours.token(1)), None);
    }

    proptest! {
        #[test]
        fn any_value_names_a_backend_only_if_it_is_its_token(value in ".{0,24}") {
            let ours = tokens("k", "legacy", 5);
            let expected = (0..5).find(|index| ours.token(*index) == value);
            prop_assert_eq!(ours.find(&value), expected);
        }
    }
}

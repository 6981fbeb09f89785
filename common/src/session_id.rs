//! Session ids: who a session's home server is can be read off the id alone, as in Resin, so that a web-tier routes without
//! asking the hub.

use crate::id::ServerIndex;
use std::fmt;

/// Resin's alphabet: `a–z` = 0–25, `A–Z` = 26–51, `0–9` = 52–61, `_` = 62, `-` = 63.
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

/// Characters that name the home server.
const PREFIX: usize = 2;

/// Random characters after the prefix: 22 × 6 = 132 bits.
const RANDOM: usize = 22;

/// The longest id that is accepted from a cookie.
const MAX: usize = 128;

/// The header of a forwarded request whose rule has `session-url: true`: the id that the URL named, taken out of its path, or nothing.
/// Believed only on the cluster port; a client's own is dropped by the web-tier.
pub const SESSION_URL: &str = "copal-session-url";

/// A session id: the first character is the home server's index in the cluster (mod 64), the second the index divided by
/// 64, the rest random.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// A fresh id whose home is the server with this index. `random` fills its bytes from a cryptographic source.
    pub fn generate(home: ServerIndex, random: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = [0; PREFIX + RANDOM];
        random(&mut bytes[PREFIX..]);
        let mut id = String::with_capacity(bytes.len());
        id.push(ALPHABET[usize::from(home.0 % 64)].into());
        id.push(ALPHABET[usize::from(home.0 / 64 % 64)].into());
        id.extend(bytes[PREFIX..].iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])));
        Self(id.into())
    }

    /// The id in a cookie's value; `None` unless it is 1 to 128 characters of the alphabet.
    pub fn parse(value: &str) -> Option<Self> {
        let fits = (1..=MAX).contains(&value.len());
        (fits && value.bytes().all(|byte| place(byte).is_some())).then(|| Self(value.into()))
    }

    /// Whether it could be one of [`SessionId::generate`]: apps of other makes, and other sites of a domain, give the cookie other values.
    pub fn is_like_ours(&self) -> bool {
        self.0.len() == PREFIX + RANDOM
    }

    /// The home server's index in a cluster of `servers` servers. A hand-made cookie such as `bXXX` whose full prefix names no
    /// server goes by its first character alone, as in Resin; `None` when that names no server either.
    pub fn home(&self, servers: usize) -> Option<ServerIndex> {
        home(&self.0, servers)
    }

    /// The id as the cookie carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// [`SessionId::home`] of a raw cookie value, without an allocation: what a web-tier asks for each request.
pub fn home(id: &str, servers: usize) -> Option<ServerIndex> {
    let mut places = id.bytes().map(place);
    let first = places.next()??;
    let full = first + 64 * places.next().flatten().unwrap_or(0);
    [full, first].into_iter().find(|index| usize::from(*index) < servers).map(ServerIndex)
}

/// Whether a raw cookie value could be an id that a cluster of `servers` servers has made: its form, and a home that there is.
pub fn is_like_ours(id: &str, servers: usize) -> bool {
    id.len() == PREFIX + RANDOM
        && id.bytes().all(|byte| place(byte).is_some())
        && full_home(id).is_some_and(|index| usize::from(index) < servers)
}

/// The server that the whole prefix names.
fn full_home(id: &str) -> Option<u16> {
    let mut places = id.bytes().map(place);
    Some(places.next()?? + 64 * places.next()??)
}

fn place(byte: u8) -> Option<u16> {
    Some(match byte {
        b'a'..=b'z' => u16::from(byte - b'a'),
        b'A'..=b'Z' => u16::from(byte - b'A') + 26,
        b'0'..=b'9' => u16::from(byte - b'0') + 52,
        b'_' => 62,
        b'-' => 63,
        _ => return None,
    })
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Only the home's prefix: a session id in a log is a stolen session.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({}…)", self.0.get(..PREFIX).unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn home_is_read_back(index in 0_u16..4096, seed: [u8; RANDOM]) {
            let id = SessionId::generate(ServerIndex(index), |bytes| bytes.copy_from_slice(&seed));
            prop_assert_eq!(id.home(4096), Some(ServerIndex(index)));
            prop_assert_eq!(SessionId::parse(id.as_str()), Some(id));
        }

        #[test]
        fn any_cookie_is_parsed_or_refused(value: String) {
            home(&value, 3);
            if let Some(id) = SessionId::parse(&value) {
                prop_assert_eq!(id.as_str(), value);
            }
        }
    }

    #[test]
    fn a_hand_made_cookie_forces_its_server() {
        assert_eq!(home("bXXX", 3), Some(ServerIndex(1)));
        assert_eq!(home("b", 3), Some(ServerIndex(1)));
        assert_eq!(home("zz", 3), None);
        assert_eq!(home("", 3), None);
    }

    #[test]
    fn foreign_cookies_are_refused() {
        for value in ["", "a b", "ä", "a;b", &"a".repeat(129)] {
            assert_eq!(SessionId::parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", SessionId::parse("abcdef").unwrap()), "SessionId(ab…)");
    }
}

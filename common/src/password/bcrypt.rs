//! Hashes by bcrypt (Provos and Mazières, 1999), as `htpasswd -B` and PHP write them: `$2y$10$`, 22 characters of salt, 31 of hash.

use super::{Cost, PasswordHashError, same, within};
use base64ct::{Base64Bcrypt, Encoding};
use std::{fmt, ops::RangeInclusive};

/// The bounds of the cost, by which the work is two to the power of it: 15 takes seconds.
const COST: RangeInclusive<u32> = 4..=15;

/// How long a hash is, in characters, all of them ASCII.
const LENGTH: usize = 60;

/// Where the salt begins, behind `$2y$10$`, and the hash.
const SALT_AT: usize = 7;
const HASH_AT: usize = 29;

/// The longest password in bytes: of a longer one bcrypt hashes the beginning alone.
const PASSWORD_MAX: usize = 72;

/// A hash, its salt and its cost.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bcrypt {
    version: Version,
    cost: u32,
    salt: [u8; 16],
    hash: [u8; 23],
}

/// Who has written it; all three are computed in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The first one.
    A,
    /// OpenBSD's.
    B,
    /// That of `htpasswd` and PHP.
    Y,
}

impl Version {
    pub(super) fn of(algorithm: &str) -> Option<Self> {
        [Self::A, Self::B, Self::Y].into_iter().find(|it| it.name() == algorithm)
    }

    fn name(self) -> &'static str {
        match self {
            Self::A => "2a",
            Self::B => "2b",
            Self::Y => "2y",
        }
    }
}

impl Bcrypt {
    /// Reads a text that begins with `version` between two `$`.
    pub(super) fn parse(version: Version, text: &str) -> Result<Self, PasswordHashError> {
        if !text.is_ascii() {
            return Err(PasswordHashError::NoHash);
        }
        if text.len() != LENGTH {
            return Err(PasswordHashError::Length { found: text.len(), expected: LENGTH });
        }
        let digits = text[4..6].bytes().all(|it| it.is_ascii_digit());
        let cost = text[4..6].parse().ok().filter(|_| digits && text.as_bytes()[6] == b'$');
        let cost = within("cost", cost.ok_or(PasswordHashError::NoHash)?, &COST)?;
        let salt = decode("salt", &text[SALT_AT..HASH_AT])?;
        Ok(Self { version, cost, salt, hash: decode("hash", &text[HASH_AT..])? })
    }

    /// A password that bcrypt would cut, at its length or (as C does) at a zero, is wrong.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_MAX || password.contains(&0) {
            return false;
        }
        // With a zero at its end, if that has a place.
        let mut key = [0; PASSWORD_MAX];
        key[..password.len()].copy_from_slice(password);
        let key = &key[..(password.len() + 1).min(PASSWORD_MAX)];
        same(&::bcrypt::bcrypt(self.cost, self.salt, key)[..self.hash.len()], &self.hash)
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::Bcrypt { cost: self.cost }
    }
}

impl fmt::Display for Bcrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cost, salt, hash } = self;
        let (salt, hash) = (Base64Bcrypt::encode_string(salt), Base64Bcrypt::encode_string(hash));
        write!(f, "${}${cost:02}${salt}{hash}", version.name())
    }
}

fn decode<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], PasswordHashError> {
    let mut bytes = [0; N];
    let decoded = Base64Bcrypt::decode(text, &mut bytes).map(<[u8]>::len);
    if decoded == Ok(N) { Ok(bytes) } else { Err(PasswordHashError::Base64(what)) }
}

#[cfg(test)]
mod tests {
    use crate::password::{Cost, PasswordHash, PasswordHashError};
    use proptest::prelude::*;

    /// Made with `crypt` of the C library, not with what is tested here.
    const REFERENCES: [(&str, &[u8]); 5] = [
        ("$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm", b"password"),
        ("$2a$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm", b"password"),
        ("$2b$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm", b"password"),
        ("$2y$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq", b""),
        ("$2y$05$abcdefghijklmnopqrstuunhU8kXLPb9M55ne7PWRqb6.6ojh43za", "passé€".as_bytes()),
    ];

    fn parse(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap()
    }

    #[test]
    fn hashes_of_the_c_library_are_verified() {
        for (text, password) in REFERENCES {
            let hash = parse(text);
            assert!(hash.verify(password), "{text}");
            assert!(!hash.verify(b"passwore") && !hash.verify(&[password, b"x"].concat()), "{text}");
            assert_eq!(hash.to_string(), text);
            assert!(!format!("{hash:?}").contains("abcdef"));
        }
    }

    /// The C library has the same hash for 72 bytes and for 73, and for a password and the same with a zero and itself behind it.
    #[test]
    fn a_password_that_bcrypt_would_cut_is_wrong() {
        let hash = parse("$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i");
        assert!(hash.verify(&[b'x'; 72]));
        assert!(!hash.verify(&[b'x'; 73]) && !hash.verify(&[b'x'; 71]));
        let hash = parse(REFERENCES[0].0);
        assert!(!hash.verify(b"password\0") && !hash.verify(b"password\0password"));
    }

    #[test]
    fn the_cost_tells_kinds_and_costs_apart() {
        let [y, a, .., dear] = REFERENCES.map(|(text, _)| parse(text).cost());
        assert_eq!(y, a);
        assert!(y < dear);
        assert_ne!(y, PasswordHash::new(b"password", [7; 16]).cost());
    }

    #[test]
    fn errors_say_what_was_expected() {
        let good = REFERENCES[0].0;
        let fault = |text: &str| PasswordHash::parse(text).unwrap_err().to_string();
        assert_eq!(fault(&good.replace("$04", "$03")), "the hash's cost is 3: expected 4 to 15");
        assert_eq!(fault(&good.replace("$04", "$16")), "the hash's cost is 16: expected 4 to 15");
        assert_eq!(
            fault(&good[..59]),
            "the bcrypt hash has 59 characters: expected 60, as `htpasswd -B` writes it"
        );
        for none in [good.replace("jk", "j£"), good.replace("$04", "$+4"), good.replace("$04$", "$044")] {
            assert_eq!(PasswordHash::parse(&none), Err(PasswordHashError::NoHash));
        }
        assert_eq!(fault(&good.replace("abc", "a*c")), "the hash's salt is not base64");
        assert_eq!(fault(&good.replace("/J", "*J")), "the hash's hash is not base64");
        assert_eq!(parse(&good.replace("$04", "$15")).cost(), Cost::Bcrypt { cost: 15 });
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", cut in 0..60usize) {
            let good = REFERENCES[0].0;
            let _ = PasswordHash::parse(&format!("$2y${text}"));
            let mut changed = good.to_owned();
            changed.replace_range(cut..=cut, text.chars().next().map(String::from).unwrap_or_default().as_str());
            if let Ok(hash) = PasswordHash::parse(&changed) {
                prop_assert_eq!(hash.to_string(), changed);
            }
        }
    }
}

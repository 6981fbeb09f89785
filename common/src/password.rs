//! Passwords as the configuration keeps them: hashed with Argon2id (RFC 9106) and written as a PHC string, such as
//! `$argon2id$v=19$m=65536,t=3,p=1$<salt>$<hash>`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use std::{fmt, ops::RangeInclusive};

/// The bounds of the parameters of a hash that is taken from a file: a typing error must not take all the memory of a server.
const MEMORY_KIB: RangeInclusive<u32> = 8..=1024 * 1024;
const PASSES: RangeInclusive<u32> = 1..=100;
const LANES: RangeInclusive<u32> = 1..=64;

/// The bounds of salt and hash, in bytes.
const SALT: RangeInclusive<u32> = 8..=48;
const HASH: RangeInclusive<u32> = 16..=64;

/// The parameters of new hashes: those of RFC 9106 §4 for little memory, with one lane, as one thread computes them.
const NEW_MEMORY_KIB: u32 = 64 * 1024;
const NEW_PASSES: u32 = 3;
const NEW_HASH: usize = 32;

/// The longest password, in bytes.
pub const PASSWORD_MAX: usize = 1024;

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Why a text is no hash. It never repeats the text: that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Something else, most likely the password itself.
    #[error("this is no Argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")]
    NoHash,
    /// One of the other algorithms, or an older version.
    #[error("only argon2id, version 19, is taken: this hash is {0}")]
    Other(String),
    /// A parameter beyond what a server is to spend.
    #[error("the hash's {name} is {found}: expected {from} to {to}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What the hash has.
        found: u64,
        /// The least.
        from: u64,
        /// The most.
        to: u64,
    },
    /// Salt or hash are not base64 without padding.
    #[error("the hash's {0} is not base64")]
    Base64(&'static str),
}

impl PasswordHash {
    /// Hashes a password with a salt that must be new and random. Takes 64 MiB and tens of milliseconds: not for a thread that
    /// serves others.
    pub fn new(password: &[u8], salt: [u8; 16]) -> Self {
        let (memory_kib, passes) = (NEW_MEMORY_KIB, NEW_PASSES);
        let mut made = Self { memory_kib, passes, lanes: 1, salt: salt.to_vec(), hash: vec![0; NEW_HASH] };
        made.hash = made.compute(password).expect("the parameters are within their bounds");
        made
    }

    /// Reads a PHC string.
    ///
    /// # Errors
    /// See [`PasswordHashError`].
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let parts: Vec<&str> = text.split('$').collect();
        let ["", algorithm, version, parameters, salt, hash] = parts[..] else {
            // bcrypt, scrypt and the like, and hashes without a version, have other parts.
            return Err(match parts[..] {
                ["", algorithm, _, ..] if is_name(algorithm) => {
                    PasswordHashError::Other(algorithm.to_owned())
                }
                _ => PasswordHashError::NoHash,
            });
        };
        if algorithm != "argon2id" || version != "v=19" {
            let known = is_name(algorithm) && version.strip_prefix("v=").is_some_and(is_name);
            return Err(if known {
                PasswordHashError::Other(format!("{algorithm}, {version}"))
            } else {
                PasswordHashError::NoHash
            });
        }
        let numbers: Vec<_> = parameters.split(',').map(number).collect();
        let [Some(("m", memory)), Some(("t", passes)), Some(("p", lanes))] = numbers[..] else {
            return Err(PasswordHashError::NoHash);
        };
        let (salt, hash) = (decode("salt", salt)?, decode("hash", hash)?);
        let lanes = within("number of lanes (p)", lanes, &LANES)?;
        let least = (*MEMORY_KIB.start()).max(8 * lanes);
        let memory_kib = within("memory in KiB (m)", memory, &(least..=*MEMORY_KIB.end()))?;
        let passes = within("number of passes (t)", passes, &PASSES)?;
        within("salt's length", salt.len() as u64, &SALT)?;
        within("length", hash.len() as u64, &HASH)?;
        Ok(Self { memory_kib, passes, lanes, salt, hash })
    }

    /// Whether the hash is of this password. Takes as much memory and time as the hash's parameters say: not for a thread that
    /// serves others.
    pub fn verify(&self, password: &[u8]) -> bool {
        let computed = self.compute(password);
        computed.is_some_and(|computed| {
            // All bytes, wherever the first difference is.
            let differences =
                computed.iter().zip(&self.hash).fold(0, |sum, (one, other)| sum | (one ^ other));
            computed.len() == self.hash.len() && differences == 0
        })
    }

    /// What a verification costs: memory in KiB, passes, lanes and the hash's bytes. Two hashes of the same cost take the same time.
    pub fn cost(&self) -> (u32, u32, u32, usize) {
        (self.memory_kib, self.passes, self.lanes, self.hash.len())
    }

    fn compute(&self, password: &[u8]) -> Option<Vec<u8>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(self.hash.len())).ok()?;
        let mut out = vec![0; self.hash.len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // The one error that is left is a want of memory.
        argon2.hash_password_into(password, &self.salt, &mut out).ok()?;
        Some(out)
    }
}

/// The PHC string.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_kib, passes, lanes, salt, hash } = self;
        let (salt, hash) = (Base64Unpadded::encode_string(salt), Base64Unpadded::encode_string(hash));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

/// What a hash is worth guessing at is not for logs.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

fn is_name(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
}

fn number(text: &str) -> Option<(&str, u64)> {
    let (name, digits) = text.split_once('=')?;
    let plain = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    Some((name, digits.parse().ok().filter(|_| plain)?))
}

fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, PasswordHashError> {
    Base64Unpadded::decode_vec(text).map_err(|_| PasswordHashError::Base64(what))
}

fn within(name: &'static str, found: u64, bounds: &RangeInclusive<u32>) -> Result<u32, PasswordHashError> {
    let fits = u32::try_from(found).ok().filter(|it| bounds.contains(it));
    let (from, to) = (u64::from(*bounds.start()), u64::from(*bounds.end()));
    fits.ok_or(PasswordHashError::Parameter { name, found, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made with the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1` (of its test vectors).
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_hash_of_the_reference_implementation_is_verified() {
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        assert!(hash.verify(b"password"));
        assert!(!hash.verify(b"passwore"));
        assert_eq!(hash.to_string(), REFERENCE);
        assert!(!format!("{hash:?}").contains("CTFhFd"));
    }

    #[test]
    fn a_new_hash_is_read_again_and_is_of_its_password_alone() {
        let hash = PasswordHash::new(b"correct horse", [7; 16]);
        let again = PasswordHash::parse(&hash.to_string()).unwrap();
        assert_eq!(again, hash);
        assert!(again.verify(b"correct horse") && !again.verify(b"correct horsf") && !again.verify(b""));
        assert_ne!(PasswordHash::new(b"correct horse", [8; 16]).hash, hash.hash);
    }

    #[test]
    fn errors_say_what_was_expected_and_never_repeat_a_password() {
        let fault = |text: &str| PasswordHash::parse(text).unwrap_err().to_string();
        for text in
            ["hunter2", "", "$", "a$b$c$d$e$f", "$hunter 2$x$y$z$a", "$argon2id$v=19$hunter2$AAAA$AAAA"]
        {
            let fault = fault(text);
            assert!(fault.contains("no Argon2id hash") && !fault.contains("hunter"), "{fault}");
        }
        assert!(fault("$2b$12$abcdefghijklmnopqrstuv").contains("2b"));
        assert!(fault(&REFERENCE.replace("argon2id", "argon2i")).contains("this hash is argon2i, v=19"));
        assert!(fault(&REFERENCE.replace("v=19", "v=16")).contains("this hash is argon2id, v=16"));
        assert!(
            fault(&REFERENCE.replace("m=65536", "m=99999999")).contains("99999999: expected 8 to 1048576")
        );
        assert!(fault(&REFERENCE.replace("t=2", "t=0")).contains("passes (t) is 0"));
        assert!(fault(&REFERENCE.replace("m=65536,t=2,p=1", "m=8,t=2,p=2")).contains("expected 16 to"));
        assert!(fault(&REFERENCE.replace("c29tZXNhbHQ", "c29")).contains("salt"));
        assert!(fault(&REFERENCE.replace("CTFhF", "CT*hF")).contains("hash is not base64"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", cut in 0..REFERENCE.len()) {
            let _ = PasswordHash::parse(&text);
            let _ = PasswordHash::parse(&REFERENCE[..cut]);
            let mut changed = REFERENCE.to_owned();
            changed.replace_range(cut..=cut, text.chars().next().map(String::from).unwrap_or_default().as_str());
            if let Ok(hash) = PasswordHash::parse(&changed) {
                prop_assert_eq!(PasswordHash::parse(&hash.to_string()).unwrap(), hash);
            }
        }
    }
}

//! Passwords as the configuration keeps them: hashed, with Argon2id (`$argon2id$v=19$m=65536,t=3,p=1$<salt>$<hash>`) or with bcrypt
//! as `htpasswd -B` writes it (`$2y$10$<salt and hash>`).

mod argon2id;
mod bcrypt;

use self::{
    argon2id::Argon2id,
    bcrypt::{Bcrypt, Version},
};
use std::{fmt, ops::RangeInclusive};

/// The longest password, in bytes.
pub const PASSWORD_MAX: usize = 1024;

/// Somebody who is let in by a password.
pub trait PasswordUser {
    /// Unique among the users of one place.
    fn name(&self) -> &str;

    /// The hash of the password.
    fn password(&self) -> &PasswordHash;
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2id(Argon2id),
    Bcrypt(Bcrypt),
}

/// What a verification costs. Two hashes of the same cost take the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cost {
    /// RFC 9106 §3.1.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// How often that is passed over.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// The length of the hash in bytes.
        hash_bytes: usize,
    },
    /// Provos and Mazières, 1999.
    Bcrypt {
        /// Two to the power of it is the work.
        cost: u32,
    },
}

/// Why a text is no hash. It never repeats the text: that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Something else, most likely the password itself.
    #[error("this is no Argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash) and no bcrypt hash ($2y$10$…)")]
    NoHash,
    /// One of the other algorithms, or an older version.
    #[error("only argon2id, version 19, and bcrypt ($2y$, $2a$, $2b$) are taken: this hash is {0}")]
    Other(String),
    /// One that `htpasswd` writes when it is not asked for bcrypt.
    #[error("{0} hashes are not taken, as they are guessed fast (`htpasswd -B` writes bcrypt)")]
    Weak(&'static str),
    /// A bcrypt hash that is cut, or has something behind it.
    #[error("the bcrypt hash has {found} characters: expected {expected}, as `htpasswd -B` writes it")]
    Length {
        /// Characters that there are.
        found: usize,
        /// Characters of a whole one.
        expected: usize,
    },
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
    /// Hashes a password with Argon2id and a salt that must be new and random. Takes 64 MiB and tens of milliseconds: not for a
    /// thread that serves others.
    pub fn new(password: &[u8], salt: [u8; 16]) -> Self {
        Self(Kind::Argon2id(Argon2id::new(password, salt)))
    }

    /// Reads a PHC string of Argon2id, or a bcrypt hash.
    ///
    /// # Errors
    /// See [`PasswordHashError`].
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if text.starts_with("{SHA}") {
            return Err(PasswordHashError::Weak("{SHA}"));
        }
        let algorithm = text.strip_prefix('$').and_then(|rest| rest.split('$').next()).unwrap_or_default();
        if algorithm == "apr1" {
            return Err(PasswordHashError::Weak("apr1"));
        }
        Ok(Self(match Version::of(algorithm) {
            Some(version) => Kind::Bcrypt(Bcrypt::parse(version, text)?),
            None => Kind::Argon2id(Argon2id::parse(text)?),
        }))
    }

    /// Whether the hash is of this password. Takes as much memory and time as its [`Cost`] says: not for a thread that serves others.
    /// A password that bcrypt would cut, beyond 72 bytes, is wrong.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.0 {
            Kind::Argon2id(hash) => hash.verify(password),
            Kind::Bcrypt(hash) => hash.verify(password),
        }
    }

    /// What a verification costs.
    pub fn cost(&self) -> Cost {
        match &self.0 {
            Kind::Argon2id(hash) => hash.cost(),
            Kind::Bcrypt(hash) => hash.cost(),
        }
    }
}

/// As it was read.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Argon2id(hash) => hash.fmt(f),
            Kind::Bcrypt(hash) => hash.fmt(f),
        }
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

/// All bytes are looked at, wherever the first difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && differences == 0
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
        let salted = PasswordHash::new(b"correct horse", [8; 16]).to_string();
        assert_ne!(salted.rsplit('$').next(), hash.to_string().rsplit('$').next());
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
        assert!(fault("$2b$12$abcdefghijklmnopqrstuv").contains("29 characters: expected 60"));
        assert!(fault("$2x$12$abcdefghijklmnopqrstuv").contains("this hash is 2x"));
        for (weak, name) in [("$apr1$hunter2$hunter", "apr1"), ("{SHA}hunter2=", "{SHA}")] {
            let fault = fault(weak);
            assert!(
                fault.starts_with(name) && fault.contains("htpasswd -B") && !fault.contains("hunter"),
                "{fault}"
            );
        }
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

//! Hashes by Argon2id (RFC 9106), written as PHC strings.

use super::{Cost, PasswordHashError, is_name, same, within};
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

/// A hash, its salt and its parameters.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Argon2id {
    pub(super) fn new(password: &[u8], salt: [u8; 16]) -> Self {
        let (memory_kib, passes) = (NEW_MEMORY_KIB, NEW_PASSES);
        let mut made = Self { memory_kib, passes, lanes: 1, salt: salt.to_vec(), hash: vec![0; NEW_HASH] };
        made.hash = made.compute(password).expect("the parameters are within their bounds");
        made
    }

    /// Reads a PHC string.
    pub(super) fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let parts: Vec<&str> = text.split('$').collect();
        let ["", algorithm, version, parameters, salt, hash] = parts[..] else {
            // scrypt and the like, and hashes without a version, have other parts.
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

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        self.compute(password).is_some_and(|computed| same(&computed, &self.hash))
    }

    pub(super) fn cost(&self) -> Cost {
        let Self { memory_kib, passes, lanes, .. } = *self;
        Cost::Argon2id { memory_kib, passes, lanes, hash_bytes: self.hash.len() }
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
impl fmt::Display for Argon2id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_kib, passes, lanes, salt, hash } = self;
        let (salt, hash) = (Base64Unpadded::encode_string(salt), Base64Unpadded::encode_string(hash));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

fn number(text: &str) -> Option<(&str, u64)> {
    let (name, digits) = text.split_once('=')?;
    let plain = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    Some((name, digits.parse().ok().filter(|_| plain)?))
}

fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, PasswordHashError> {
    Base64Unpadded::decode_vec(text).map_err(|_| PasswordHashError::Base64(what))
}

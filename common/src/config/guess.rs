//! Whether a cluster key can be guessed. Whoever has seen one handshake can try keys out at home, millions a second: a phrase, a
//! pattern or a handful of characters is found, random bytes are not.
//!
//! This is an estimate from below of what an attacker has to try, not a proof: what it refuses is bad, what it takes may still be
//! known to somebody.

use super::secret::Secret;
use std::fmt;

/// The fewest bits that an attacker must have to guess.
const BITS_MIN: f64 = 80.0;

/// So many bytes are looked at: enough to tell.
const JUDGED_MAX: usize = 1024;

/// From so many letters of one case on, in a row, they are taken for a word.
const WORD_MIN: usize = 4;

/// What a letter of a word is worth: Shannon's estimate for English (1951) is 0.6 to 1.3 bits, and words here are short.
const WORD_LETTER_BITS: f64 = 1.5;

/// Why a key can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guessable {
    /// It is a pattern, again and again.
    Repeats,
    /// It goes on as one would expect: `1234`, `abcd`, `aaaa`.
    Sequence,
    /// It is made of words.
    Words,
    /// It has few different characters, or few at all.
    Short,
}

impl fmt::Display for Guessable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeats => "it repeats itself",
            Self::Sequence => "it counts up or down, or says the same character on and on",
            Self::Words => "it is made of words",
            Self::Short => "it has too few characters, or too few different ones",
        })
    }
}

/// Whether a key can be guessed, and why.
pub fn guessable(key: &Secret) -> Option<Guessable> {
    // What is longer is not made worse by its rest.
    let bytes = &key.bytes()[..key.bytes().len().min(JUDGED_MAX)];
    let once = &bytes[..period(bytes)];
    let each = entropy(bytes);
    let (mut bits, mut in_words, mut in_sequences) = (0.0, 0_usize, 0_usize);
    let hex = bytes.iter().all(|it| it.is_ascii_hexdigit() || *it == b'-');
    let words = if hex { vec![false; once.len()] } else { words(once) };
    for (at, byte) in once.iter().enumerate() {
        if continues(once, at) {
            in_sequences += 1;
        } else if words[at] {
            in_words += 1;
            bits += each.min(WORD_LETTER_BITS);
        } else if !(byte.is_ascii_whitespace() || hex && *byte == b'-') {
            bits += each;
        }
    }
    if bits >= BITS_MIN {
        return None;
    }
    Some(match once.len() {
        0 => Guessable::Short,
        length if length < bytes.len() => Guessable::Repeats,
        length if in_sequences * 2 >= length => Guessable::Sequence,
        length if in_words * 2 >= length => Guessable::Words,
        _ => Guessable::Short,
    })
}

/// After how many bytes the key says the same again; all of them if it does not.
fn period(bytes: &[u8]) -> usize {
    let repeats = |period: &usize| bytes.iter().zip(&bytes[*period..]).all(|(one, other)| one == other);
    (1..=bytes.len() / 2).find(repeats).unwrap_or(bytes.len())
}

/// Whether a byte is what one would expect after the two before it: the same step again, of one, none or minus one.
fn continues(bytes: &[u8], at: usize) -> bool {
    let step = |at: usize| i16::from(bytes[at]) - i16::from(bytes[at - 1]);
    at >= 2 && step(at).abs() <= 1 && step(at) == step(at - 1)
}

/// Which bytes are letters of words: in lower case, in upper case, or in lower case after a capital.
fn words(bytes: &[u8]) -> Vec<bool> {
    let mut found = vec![false; bytes.len()];
    let mut start = 0;
    for end in 1..=bytes.len() {
        let goes_on = bytes.get(end).is_some_and(|next| {
            let (last, length) = (bytes[end - 1], end - start);
            let same = last.is_ascii_lowercase() && next.is_ascii_lowercase()
                || last.is_ascii_uppercase() && next.is_ascii_uppercase();
            same || length == 1 && last.is_ascii_uppercase() && next.is_ascii_lowercase()
        });
        if !goes_on {
            if end - start >= WORD_MIN {
                found[start..end].fill(true);
            }
            start = end;
        }
    }
    found
}

/// Bits a byte, by how often each value occurs (Shannon).
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let all = bytes.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    shares.map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge(key: &str) -> Option<Guessable> {
        guessable(&Secret::from(key.as_bytes()))
    }

    #[test]
    fn keys_that_people_think_of_are_guessed() {
        for (key, why) in [
            ("at-least-sixteen-secret-bytes", Guessable::Words),
            ("the quick brown fox jumps over", Guessable::Words),
            ("CorrectHorseBatteryStaple", Guessable::Words),
            ("changeme-changeme-changeme", Guessable::Repeats),
            ("secretsecretsecretsecret", Guessable::Repeats),
            ("P4ssw0rd!P4ssw0rd!P4ssw0rd!", Guessable::Repeats),
            ("0123456789abcdef0123456789abcdef", Guessable::Repeats),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Guessable::Repeats),
            ("0123456789abcdefghijklmnopqrstuvwxyz", Guessable::Sequence),
            ("copal2024copal2025", Guessable::Words),
            ("key1key2key3key4", Guessable::Short),
            ("xK9#mQ2$vL5@nR8!", Guessable::Short),
            ("aaaabbbbccccddddeeeeffff", Guessable::Sequence),
            ("1010011010101101011010110101101", Guessable::Short),
        ] {
            assert_eq!(judge(key), Some(why), "{key}");
        }
    }

    #[test]
    fn what_the_commands_make_is_not() {
        for key in [
            // openssl rand -base64 32, -hex 32, -hex 16, -base64 16; uuidgen; pwgen -s 24
            "q7d1o0cS3R2r8y6TqU0mJx8wKzv5oGm3yPBeN4iLhXA=",
            "9f1c3a77e05b42d8c6a90e1f84b7d2635fa8107e9cd34b62e8f05a1c7d9b3640",
            "8c1f5e02b97a4d36c0e8f1a27b459d63",
            "Yk3vR9sT0qLw8ZbNfH2xAg==",
            "2f1b7c64-9a0e-4d83-b5f6-0c8e71d3a942",
            "Zt4bXq9LmW2cRk7HsV1dNy8G",
        ] {
            assert_eq!(judge(key), None, "{key}");
        }
    }

    #[test]
    fn an_empty_key_and_one_byte_have_an_answer() {
        assert_eq!((judge(""), judge("a")), (Some(Guessable::Short), Some(Guessable::Short)));
    }

    fn encoded(bytes: &[u8; 32], hex: bool) -> String {
        use base64ct::{Base64, Encoding};
        if hex {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        } else {
            Base64::encode_string(bytes)
        }
    }

    proptest! {
        /// Not one in the number of cases that are tried, or this fails now and then.
        #[test]
        fn random_keys_pass(seed in any::<u64>(), hex in any::<bool>()) {
            use rand::{RngExt, SeedableRng};
            let bytes: [u8; 32] = rand::rngs::StdRng::seed_from_u64(seed).random();
            prop_assert_eq!(judge(&encoded(&bytes, hex)), None);
            prop_assert_eq!(guessable(&Secret::from(&bytes[..])), None, "raw bytes");
        }

        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            guessable(&Secret::from(bytes.as_slice()));
        }

        #[test]
        fn once_more_of_the_same_makes_no_key_better(key in "[a-z0-9]{1,12}", times in 2_usize..8) {
            prop_assert!(judge(&key.repeat(times)).is_some());
        }
    }
}

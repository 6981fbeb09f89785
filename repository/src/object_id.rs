//! The name of an object: the SHA-1 of its header and content.

use std::fmt;
use std::str::FromStr;

/// The SHA-1 of an object's kind, size and content (gitformat-pack's "object name").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 20]);

/// What is not 40 hexadecimal digits, or not 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an object id has 40 hexadecimal digits (20 bytes), and this has {0} characters or another digit")]
pub struct NotAnObjectId(usize);

impl ObjectId {
    /// Git's id of nothing: no object has it.
    pub const NULL: Self = Self([0; 20]);

    /// The 20 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAnObjectId> {
        bytes.try_into().map(Self).map_err(|_| NotAnObjectId(bytes.len()))
    }

    /// From 40 hexadecimal digits. Git writes them in lower case only, and takes both.
    pub(crate) fn from_hex(digits: &[u8]) -> Result<Self, NotAnObjectId> {
        let wrong = NotAnObjectId(digits.len());
        if digits.len() != 40 {
            return Err(wrong);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0]).ok_or(wrong)? << 4) | digit(pair[1]).ok_or(wrong)?;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

impl From<[u8; 20]> for ObjectId {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl FromStr for ObjectId {
    type Err = NotAnObjectId;

    fn from_str(text: &str) -> Result<Self, NotAnObjectId> {
        Self::from_hex(text.as_bytes())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_both_ways() {
        let text = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let id: ObjectId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_eq!(ObjectId::from_bytes(id.as_bytes()), Ok(id));
        for wrong in ["", "4b", &text[1..], "4b825dc642cb6eb9a060e54bf8d69288fbee490g", &format!("{text}0")] {
            assert!(wrong.parse::<ObjectId>().is_err(), "{wrong}");
        }
        assert!(ObjectId::from_bytes(&[0; 19]).is_err());
    }
}

//! HTTP Basic (RFC 7617): what an `Authorization` header says.

use base64ct::{Base64, Encoding};
use common::password::PASSWORD_MAX;

/// The longest name of a user, in bytes: that of `htpasswd`.
pub(crate) const NAME_MAX: usize = 255;

/// A user's name and password, as the request has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Without a colon.
    pub name: String,
    /// In whatever encoding the client has: UTF-8 as a rule.
    pub password: Vec<u8>,
}

/// The password is for nobody's log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the header's value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &[u8]) -> Result<Self, &'static str> {
        let (scheme, encoded) =
            value.split_at_checked(6).ok_or("sign in by HTTP Basic, or with a bearer token")?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return Err("sign in by HTTP Basic or with a bearer token, not by another scheme");
        }
        let encoded = encoded.trim_ascii();
        if encoded.len() > (NAME_MAX + PASSWORD_MAX + 1).div_ceil(3) * 4 {
            return Err("user and password are too long");
        }
        let text = std::str::from_utf8(encoded).map_err(|_| "user and password are not base64")?;
        let decoded = Base64::decode_vec(text).map_err(|_| "user and password are not base64")?;
        let colon =
            decoded.iter().position(|byte| *byte == b':').ok_or("expected user:password in base64")?;
        let name = std::str::from_utf8(&decoded[..colon]).map_err(|_| "the user's name is not UTF-8")?;
        Ok(Self { name: name.to_owned(), password: decoded[colon + 1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rfcs_examples_are_read() {
        let read = |text: &str| Credentials::read(text.as_bytes());
        let aladdin = read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!((aladdin.name.as_str(), aladdin.password.as_slice()), ("Aladdin", &b"open sesame"[..]));
        let pound = read("bASIC dGVzdDoxMjPCow==").unwrap();
        assert_eq!(pound.password, "123£".as_bytes());
        assert!(!format!("{aladdin:?}").contains("sesame"));
        for bad in ["", "Basic", "Bearer abcdef", "Basic ***", "Basic QWxhZGRpbg==", "Basic QWx"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_read_or_refused(name in "[^:\\x00]{0,20}", password in any::<Vec<u8>>(), junk in any::<Vec<u8>>()) {
            let mut plain = name.clone().into_bytes();
            plain.push(b':');
            plain.extend_from_slice(&password);
            let value = format!("Basic {}", Base64::encode_string(&plain));
            prop_assert_eq!(Credentials::read(value.as_bytes()), Ok(Credentials { name, password }));
            let _ = Credentials::read(&junk);
        }
    }
}

//! What we need to know of a certificate (RFC 5280): its names, its validity, its subject, issuer and serial number.
//!
//! It proves nothing: signatures and chains are rustls's to check. Any bytes have an answer.

mod der;
mod name;
pub mod ocsp;
mod time;

#[cfg(test)]
mod tests;

pub use name::distinguished_name;
pub use time::date;

use der::{Der, tag};
use std::net::IpAddr;

/// `subjectAltName` (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// A certificate's own words; see RFC 5280 §4.1.
#[derive(Debug)]
pub struct X509<'a> {
    /// The serial number, as an unsigned number in big-endian order, without leading zeros.
    pub serial: &'a [u8],
    /// The issuer's distinguished name, in DER.
    pub issuer: &'a [u8],
    /// The subject's distinguished name, in DER.
    pub subject: &'a [u8],
    /// The first second of its validity, since the Unix epoch.
    pub not_before: i64,
    /// The last one.
    pub not_after: i64,
    /// DNS names of `subjectAltName`, as they stand.
    pub dns_names: Vec<&'a str>,
    /// IP addresses of it.
    pub addresses: Vec<IpAddr>,
}

impl<'a> X509<'a> {
    /// Reads a certificate; `None` when it is none.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let mut certificate = Der::new(Der::new(der).take(tag::SEQUENCE)?);
        let mut fields = Der::new(certificate.take(tag::SEQUENCE)?);
        fields.skip_if(tag::VERSION)?;
        let serial = fields.take(tag::INTEGER)?;
        fields.take(tag::SEQUENCE)?;
        let issuer = fields.whole(tag::SEQUENCE)?;
        let mut validity = Der::new(fields.take(tag::SEQUENCE)?);
        let not_before = time::read(&validity.any()?)?;
        let not_after = time::read(&validity.any()?)?;
        let subject = fields.whole(tag::SEQUENCE)?;
        fields.take(tag::SEQUENCE)?;
        let mut found = Self {
            serial: &serial[serial.iter().take_while(|byte| **byte == 0).count()..],
            issuer,
            subject,
            not_before,
            not_after,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        };
        while let Some(element) = fields.next()? {
            if element.tag == tag::EXTENSIONS {
                found.extensions(Der::new(Der::new(element.content).take(tag::SEQUENCE)?))?;
            }
        }
        Some(found)
    }

    fn extensions(&mut self, mut extensions: Der<'a>) -> Option<()> {
        while let Some(extension) = extensions.next()? {
            let mut fields = Der::new(extension.content);
            let id = fields.take(tag::OBJECT_IDENTIFIER)?;
            fields.skip_if(tag::BOOLEAN)?;
            let value = fields.take(tag::OCTET_STRING)?;
            if id == SUBJECT_ALT_NAME {
                let mut names = Der::new(Der::new(value).take(tag::SEQUENCE)?);
                while let Some(name) = names.next()? {
                    match name.tag {
                        tag::DNS_NAME => self.dns_names.push(std::str::from_utf8(name.content).ok()?),
                        tag::IP_ADDRESS => self.addresses.push(address(name.content)?),
                        _ => {}
                    }
                }
            }
        }
        Some(())
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

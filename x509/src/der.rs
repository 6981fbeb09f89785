//! The distinguished encoding rules (X.690 §10), as far as certificates need them: elements one after the other.

/// The tags that certificates are made of.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]` of a certificate.
    pub(crate) const VERSION: u8 = 0xa0;
    /// `[3]` of a certificate.
    pub(crate) const EXTENSIONS: u8 = 0xa3;
    /// `[2]` and `[7]` of a general name.
    pub(crate) const DNS_NAME: u8 = 0x82;
    pub(crate) const URI: u8 = 0x86;
    pub(crate) const IP_ADDRESS: u8 = 0x87;
}

/// An element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With tag and length.
    pub(crate) whole: &'a [u8],
}

/// What is left of a run of elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, whatever it is; `None` when there is none, or it is malformed.
    pub(crate) fn any(&mut self) -> Option<Element<'a>> {
        let (tag, length, header) = match *self.0 {
            // Tags of several bytes do not occur in certificates.
            [tag, ..] if tag & 0x1f == 0x1f => return None,
            [tag, length @ 0..=0x7f, ..] => (tag, usize::from(length), 2),
            [tag, 0x81, length, ..] => (tag, usize::from(length), 3),
            [tag, 0x82, high, low, ..] => (tag, usize::from(u16::from_be_bytes([high, low])), 4),
            [tag, 0x83, high, middle, low, ..] => {
                (tag, usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?, 5)
            }
            _ => return None,
        };
        let end = header + length;
        let (whole, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(Element { tag, content: &whole[header..], whole })
    }

    /// The next element, or `Some(None)` at the end; `None` when it is malformed.
    #[expect(clippy::option_option, reason = "malformed, the end, or an element")]
    pub(crate) fn next(&mut self) -> Option<Option<Element<'a>>> {
        if self.0.is_empty() { Some(None) } else { self.any().map(Some) }
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|element| element.tag == tag).map(|element| element.content)
    }

    /// [`take`](Self::take) with tag and length.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|element| element.tag == tag).map(|element| element.whole)
    }

    /// Passes over the next element if it has this tag; `None` when it is malformed.
    pub(crate) fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.any()?;
        }
        Some(())
    }
}

//! The distinguished encoding rules (X.690 §10), as far as certificates need them: elements one after the other.

/// The tags that certificates are made of.
pub(super) mod tag {
    pub(in super::super) const BOOLEAN: u8 = 0x01;
    pub(in super::super) const INTEGER: u8 = 0x02;
    pub(in super::super) const OCTET_STRING: u8 = 0x04;
    pub(in super::super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(in super::super) const UTF8_STRING: u8 = 0x0c;
    pub(in super::super) const PRINTABLE_STRING: u8 = 0x13;
    pub(in super::super) const IA5_STRING: u8 = 0x16;
    pub(in super::super) const UTC_TIME: u8 = 0x17;
    pub(in super::super) const GENERALIZED_TIME: u8 = 0x18;
    pub(in super::super) const SEQUENCE: u8 = 0x30;
    pub(in super::super) const SET: u8 = 0x31;
    /// `[0]` of a certificate.
    pub(in super::super) const VERSION: u8 = 0xa0;
    /// `[3]` of a certificate.
    pub(in super::super) const EXTENSIONS: u8 = 0xa3;
    /// `[2]` and `[7]` of a general name.
    pub(in super::super) const DNS_NAME: u8 = 0x82;
    pub(in super::super) const IP_ADDRESS: u8 = 0x87;
}

/// An element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// What is left of a run of elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, whatever it is; `None` when there is none, or it is malformed.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
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
    pub(super) fn next(&mut self) -> Option<Option<Element<'a>>> {
        if self.0.is_empty() { Some(None) } else { self.any().map(Some) }
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|element| element.tag == tag).map(|element| element.content)
    }

    /// [`take`](Self::take) with tag and length.
    pub(super) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|element| element.tag == tag).map(|element| element.whole)
    }

    /// Passes over the next element if it has this tag; `None` when it is malformed.
    pub(super) fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.any()?;
        }
        Some(())
    }
}

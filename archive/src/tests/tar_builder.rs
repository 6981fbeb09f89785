//! Builds tar archives, wrong ones too.

/// A tar under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", content.as_bytes())
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"")
    }

    pub(super) fn hard_link(self, name: &str, of: &str) -> Self {
        self.entry(b'1', name.as_bytes(), of.as_bytes(), b"")
    }

    /// Names beyond their fields are cut: put [`Tar::pax`] or [`Tar::gnu`] before.
    pub(super) fn entry(self, kind: u8, name: &[u8], target: &[u8], content: &[u8]) -> Self {
        self.with(kind, name, target, content, |_| {})
    }

    /// The same, with the header changed before its checksum is made.
    pub(super) fn with(
        mut self,
        kind: u8,
        name: &[u8],
        target: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let mut header = [0; 512];
        let mut put = |at: usize, room: usize, text: &[u8]| {
            let text = &text[..text.len().min(room)];
            header[at..at + text.len()].copy_from_slice(text);
        };
        put(0, 100, name);
        put(100, 8, b"0000644\0");
        put(124, 12, format!("{:011o}\0", content.len()).as_bytes());
        put(157, 100, target);
        put(257, 8, b"ustar\x0000");
        header[156] = kind;
        change(&mut header);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A pax header for the next entry.
    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        self.records(b'x', records)
    }

    pub(super) fn records(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length.to_string().len() + rest.len() != length {
                length += 1;
            }
            content += &format!("{length}{rest}");
        }
        self.entry(kind, b"pax", b"", content.as_bytes())
    }

    /// GNU's long name (`L`) or target (`K`) for the next entry.
    pub(super) fn gnu(self, kind: u8, name: &str) -> Self {
        self.entry(kind, b"././@LongLink", b"", format!("{name}\0").as_bytes())
    }

    pub(super) fn executable(header: &mut [u8; 512]) {
        header[100..108].copy_from_slice(b"0000755\0");
    }

    /// Without its end.
    pub(super) fn cut(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

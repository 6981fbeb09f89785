//! Builds zip archives, wrong ones too.

use std::io::Write;

/// A zip under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Zip {
    entries: Vec<Entry>,
    /// Zip64 numbers everywhere.
    wide: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    name: Vec<u8>,
    /// In its own header; `None`: the same.
    own_name: Option<Vec<u8>>,
    data: Vec<u8>,
    size: u64,
    checksum: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    mode: u32,
    extra: Vec<u8>,
    /// Instead of where it is.
    offset: Option<u32>,
    /// Numbers after the data.
    pub(super) descriptor: bool,
}

impl Zip {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.stored(name.as_bytes(), content.as_bytes(), 0o100_644)
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.stored(name.as_bytes(), target.as_bytes(), 0o120_777)
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.stored(name.as_bytes(), b"", 0o040_755)
    }

    pub(super) fn stored(mut self, name: &[u8], content: &[u8], mode: u32) -> Self {
        self.entries.push(Entry {
            name: name.to_vec(),
            own_name: None,
            data: content.to_vec(),
            size: content.len() as u64,
            checksum: crc32fast::hash(content),
            method: 0,
            flags: 0,
            mode,
            extra: Vec::new(),
            offset: None,
            descriptor: false,
        });
        self
    }

    pub(super) fn deflated(self, name: &str, content: &str) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content.as_bytes()).unwrap();
        let data = encoder.finish().unwrap();
        self.file(name, content).last(|entry| {
            entry.data = data;
            entry.method = 8;
        })
    }

    /// Changes the last entry.
    pub(super) fn last(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        change(self.entries.last_mut().unwrap());
        self
    }

    pub(super) fn checksum(self, checksum: u32) -> Self {
        self.last(|entry| entry.checksum = checksum)
    }

    pub(super) fn size(self, size: u64) -> Self {
        self.last(|entry| entry.size = size)
    }

    pub(super) fn own_name(self, name: &str) -> Self {
        self.last(|entry| entry.own_name = Some(name.as_bytes().to_vec()))
    }

    pub(super) fn extra(self, id: u16, content: &[u8]) -> Self {
        self.last(|entry| {
            entry.extra.extend(id.to_le_bytes());
            entry.extra.extend(u16::try_from(content.len()).unwrap().to_le_bytes());
            entry.extra.extend(content);
        })
    }

    pub(super) fn offset(self, offset: u32) -> Self {
        self.last(|entry| entry.offset = Some(offset))
    }

    pub(super) fn trailing(self, more: &[u8]) -> Self {
        self.last(|entry| entry.data.extend(more))
    }

    pub(super) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    pub(super) fn end(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut directory = Vec::new();
        for entry in &self.entries {
            let offset = entry.offset.unwrap_or_else(|| u32::try_from(bytes.len()).unwrap());
            entry.local(&mut bytes);
            entry.central(offset, self.wide, &mut directory);
        }
        let start = bytes.len() as u64;
        let size = directory.len() as u64;
        bytes.extend(directory);
        self.end_records(start, size, &mut bytes);
        bytes
    }

    fn end_records(&self, start: u64, size: u64, bytes: &mut Vec<u8>) {
        let count = self.entries.len() as u64;
        if self.wide {
            let at = bytes.len() as u64;
            bytes.extend(b"PK\x06\x06");
            bytes.extend(44_u64.to_le_bytes());
            bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for number in [count, count, size, start] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(b"PK\x06\x07\0\0\0\0");
            bytes.extend(at.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
        }
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        let narrow = |number: u64| if self.wide { u32::MAX } else { u32::try_from(number).unwrap() };
        let count = u16::try_from(narrow(count)).unwrap_or(u16::MAX);
        bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
        bytes.extend(narrow(size).to_le_bytes());
        bytes.extend(narrow(start).to_le_bytes());
        bytes.extend([0, 0]);
    }
}

impl Entry {
    fn local(&self, bytes: &mut Vec<u8>) {
        let name = self.own_name.as_ref().unwrap_or(&self.name);
        bytes.extend(b"PK\x03\x04\x14\0");
        let flags = self.flags | if self.descriptor { 1 << 3 } else { 0 };
        bytes.extend(flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0; 4]);
        let mut numbers = self.checksum.to_le_bytes().to_vec();
        numbers.extend(u32::try_from(self.data.len()).unwrap().to_le_bytes());
        numbers.extend(u32::try_from(self.size).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(if self.descriptor { &[0; 12][..] } else { &numbers });
        bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name);
        bytes.extend(&self.data);
        if self.descriptor {
            bytes.extend(b"PK\x07\x08");
            bytes.extend(numbers);
        }
    }

    fn central(&self, offset: u32, wide: bool, bytes: &mut Vec<u8>) {
        let mut extra = self.extra.clone();
        let mut numbers =
            [u32::try_from(self.data.len()).unwrap(), u32::try_from(self.size).unwrap(), offset];
        if wide {
            extra.extend([1, 0, 24, 0]);
            for number in [numbers[1], numbers[0], numbers[2]] {
                extra.extend(u64::from(number).to_le_bytes());
            }
            numbers = [u32::MAX; 3];
        }
        bytes.extend(b"PK\x01\x02\x14\x03\x14\0");
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(numbers[0].to_le_bytes());
        bytes.extend(numbers[1].to_le_bytes());
        bytes.extend(u16::try_from(self.name.len()).unwrap().to_le_bytes());
        bytes.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend((self.mode << 16).to_le_bytes());
        bytes.extend(numbers[2].to_le_bytes());
        bytes.extend(&self.name);
        bytes.extend(extra);
    }
}

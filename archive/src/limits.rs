//! How much an archive may hold.

/// What an archive may hold at most. The defaults are far above what is deployed, and far below what would harm a server with
/// 1 GB of memory: [`read()`](crate::read()) then holds less than 100 MiB, whatever the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and folders, those that paths imply included (200,000; a large `node_modules` has 100,000).
    pub entries: u64,
    /// Bytes of all files together (4 GiB).
    pub bytes: u64,
    /// Bytes that come out of one byte that goes in, on average (1,000), …
    pub ratio: u64,
    /// … looked at once this many came out (64 MiB). Deflate gets to 1,032 at most, Zstandard to many thousands.
    pub ratio_from: u64,
    /// Bytes of a path, and of a link's target (1,024; Linux ends at 4,096 with the folders above).
    pub path: usize,
    /// Bytes of a name (255, as in most file systems).
    pub name: usize,
    /// Folders in folders, with the file (64).
    pub depth: usize,
    /// Bytes of all names and link targets together, those of a folder counted once (16 MiB): this bounds the memory.
    pub names: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            bytes: 4 << 30,
            ratio: 1_000,
            ratio_from: 64 << 20,
            path: 1_024,
            name: 255,
            depth: 64,
            names: 16 << 20,
        }
    }
}

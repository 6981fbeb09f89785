//! How much a stranger may make a repository store, unpack and keep in memory.

/// What is refused beyond, with an error that names the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one pack as it arrives.
    pub pack_bytes: u64,
    /// Objects of one pack; each costs about 100 bytes of memory while it is stored.
    pub objects: u64,
    /// Bytes that are unpacked, deltas included, while one pack is stored: the limit on what a small pack can make a server do.
    pub unpacked_bytes: u64,
    /// Deltas upon deltas. Git writes 50 at most unless told otherwise.
    pub delta_depth: usize,
    /// Bytes of one commit, tree or tag: these are read into memory as a whole.
    pub structure_bytes: u64,
    /// Files, links and folders of one checked-out tree, counted as often as they appear.
    pub files: u64,
    /// Bytes of one checked-out tree, counted likewise.
    pub checkout_bytes: u64,
    /// Folders within folders.
    pub depth: u32,
    /// Bytes of a path within a tree.
    pub path_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 4 << 30,
            objects: 1_000_000,
            unpacked_bytes: 32 << 30,
            delta_depth: 256,
            structure_bytes: 16 << 20,
            files: 1_000_000,
            checkout_bytes: 16 << 30,
            depth: 128,
            path_bytes: 3500,
        }
    }
}

/// How a repository is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What is refused beyond.
    pub limits: Limits,
    /// Called with the name of each step that changed the disk, right after it: tests end the process there.
    pub on_step: fn(&'static str),
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), on_step: |_| {} }
    }
}

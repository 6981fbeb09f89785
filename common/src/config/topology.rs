//! A number that is the same on every server whose file names the same servers in the same order.

use super::model::Config;

/// 64-bit FNV-1a over the clusters, their servers with addresses and ports, and the triad, in file order. Servers of a
/// cluster compare it: a difference means that their files differ where they must not. It is part of the contract between
/// versions and never changes.
pub fn topology_hash(config: &Config) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.number(config.clusters.len());
    for cluster in &config.clusters {
        hash.text(cluster.id.as_str());
        hash.number(cluster.servers.len());
        for server in &cluster.servers {
            hash.text(server.id.as_str());
            hash.text(&server.address);
            hash.number(server.port.into());
        }
    }
    hash.number(config.triad.len());
    config.triad.iter().for_each(|id| hash.text(id.as_str()));
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    /// The length goes first, so that `ab`, `c` and `a`, `bc` differ.
    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }
}

//! Rendezvous hashing (highest random weight): every web-tier picks the same backup for a session without asking anyone,
//! and a server that leaves moves only its own sessions.

/// The candidate with the highest weight for `key`; `None` when there are no candidates.
///
/// The hash is part of the wire contract between servers of different versions: it must never change.
pub fn choose<'a, T>(key: &str, candidates: impl IntoIterator<Item = (&'a str, T)>) -> Option<T> {
    let key = hashed(FNV_BASIS, key.bytes().chain([0]));
    candidates.into_iter().max_by_key(|(name, _)| (mixed(hashed(key, name.bytes())), *name)).map(|(_, it)| it)
}

/// Where 64-bit FNV-1a begins.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// 64-bit FNV-1a, gone on with: over the key, a zero byte and a candidate's name.
fn hashed(hash: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The mixer of SplitMix64 (Steele, Lea, Flood 2014): short, similar values spread over all bits. It too must never change.
pub fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [&str; 4] = ["app-a", "app-b", "app-c", "app-d"];

    fn chosen(key: &str, servers: &[&'static str]) -> &'static str {
        choose(key, servers.iter().map(|name| (*name, *name))).unwrap()
    }

    #[test]
    fn spreads_keys_evenly() {
        let mut counts = std::collections::HashMap::new();
        for n in 0..4000 {
            *counts.entry(chosen(&format!("a{n}"), &SERVERS)).or_insert(0) += 1;
        }
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_keys() {
        for n in 0..1000 {
            let key = format!("b{n}");
            let before = chosen(&key, &SERVERS);
            if before != "app-d" {
                assert_eq!(before, chosen(&key, &SERVERS[..3]));
            }
        }
    }

    #[test]
    fn the_hash_is_frozen() {
        assert_eq!(chosen("aaXYZ", &SERVERS), chosen("aaXYZ", &["app-d", "app-c", "app-b", "app-a"]));
        expect_test::expect!["app-b app-d app-c app-d"]
            .assert_eq(&["aa1", "ba2", "ca3", "da4"].map(|key| chosen(key, &SERVERS)).join(" "));
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(choose("a", std::iter::empty::<(&str, ())>()), None);
    }
}

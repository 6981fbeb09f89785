//! Packs that a stranger sends: refused, told why, and nothing is left behind.

use super::*;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use repository::{Limits, Options, PackError, RepositoryError};
use std::fs;
use std::io::Write;

/// Stores a pack that is refused; why.
fn refused(repository: &Repository, pack: &[u8]) -> PackError {
    let error = repository.store_pack(pack).expect_err("it is refused");
    let left: Vec<_> = fs::read_dir(repository.path().join("objects/pack")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(error.is_refusal(), "{error}");
    let RepositoryError::Pack(error) = error else { panic!("{error}") };
    error
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn header(number: u8, mut size: u64) -> Vec<u8> {
    let mut bytes = vec![(number << 4) | (size & 15) as u8];
    size >>= 4;
    while size > 0 {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push((size & 127) as u8);
        size >>= 7;
    }
    bytes
}

/// A pack of raw entries, with a right checksum.
fn raw(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut pack = [b"PACK\0\0\0\x02".as_slice(), &count.to_be_bytes()].concat();
    pack.extend(entries.concat());
    let mut hasher = sha1dc::Hasher::new();
    hasher.update(&pack);
    let digest: [u8; 20] = hasher.finalize().unwrap().into();
    pack.extend(digest);
    pack
}

fn blob(content: &[u8]) -> Vec<u8> {
    [header(3, content.len() as u64), zlib(content)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A delta that copies the first `part` bytes of its base so often.
fn copies(base: u64, part: u32, times: u64) -> Vec<u8> {
    let mut delta = [varint(base), varint(u64::from(part) * times)].concat();
    for _ in 0..times {
        delta.push(0xf0);
        delta.extend(&part.to_le_bytes()[..3]);
    }
    delta
}

fn upon(base: ObjectId, delta: &[u8]) -> Vec<u8> {
    [header(7, delta.len() as u64), base.as_bytes().to_vec(), zlib(delta)].concat()
}

fn id(content: &[u8]) -> ObjectId {
    blob_id(content.len() as u64, content).unwrap()
}

#[test]
fn cut_off_anywhere_or_with_a_bit_flipped() {
    let (_folder, repository) = fresh();
    let (_, objects) =
        commit(&[("a", b"12345678901234567890123456789012345678901234567890"), ("b", b"2")], &[]);
    let pack = pack(&objects);
    for end in 0..pack.len() {
        refused(&repository, &pack[..end]);
    }
    for at in 0..pack.len() {
        let mut flipped = pack.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&repository, &flipped);
    }
    let longer = [&pack[..], b"x"].concat();
    assert!(matches!(refused(&repository, &longer), PackError::Trailing));
    assert!(matches!(refused(&repository, b"GET / HTTP/1.1\r\n"), PackError::NotAPack(_)));
    repository.store_pack(&pack[..]).unwrap();
}

#[test]
fn sizes_that_are_not_true() {
    let (_folder, repository) = fresh();
    for (announced, content) in
        [(3, b"1234".to_vec()), (5, b"1234".to_vec()), (1 << 60, b"1234".to_vec()), (10, vec![0; 1 << 20])]
    {
        let entry = [header(3, announced), zlib(&content)].concat();
        let error = refused(&repository, &raw(1, &[entry])).to_string();
        assert!(error.contains("it says") || error.contains("limit"), "{error}");
    }
    let count = refused(&repository, &raw(u32::MAX, &[blob(b"x")])).to_string();
    assert!(count.contains("4294967295 objects, and the limit is 1000000"), "{count}");
    assert!(matches!(
        refused(&repository, &raw(2, &[blob(b"x")])),
        PackError::Truncated(_) | PackError::Entry { .. }
    ));
    refused(&repository, &raw(0, &[blob(b"x")]));
    let garbage = [header(3, 4), b"not zlib at all".to_vec()].concat();
    refused(&repository, &raw(1, &[garbage]));
    assert!(matches!(refused(&repository, &raw(2, &[blob(b"x"), blob(b"x")])), PackError::Twice(_)));
    assert!(matches!(
        refused(&repository, &raw(1, &[[header(5, 1), zlib(b"x")].concat()])),
        PackError::Entry { .. }
    ));
}

#[test]
fn deltas_upon_nothing() {
    let (_folder, repository) = fresh();
    let base = b"a base of some bytes".as_slice();
    let delta = copies(base.len() as u64, 4, 1);
    assert!(matches!(refused(&repository, &raw(1, &[upon(id(base), &delta)])), PackError::NoBase(_)));
    // Upon itself, upon what comes later, upon the middle of something.
    for distance in [0u8, 1, 5, 12, 100] {
        let entry = [header(6, delta.len() as u64), vec![distance], zlib(&delta)].concat();
        refused(&repository, &raw(2, &[blob(base), entry]));
    }
    // Each upon the other: their results are "a ba" and "a ba", which no chain leads to.
    let (one, two) = (id(b"one"), id(b"two"));
    assert!(matches!(
        refused(&repository, &raw(2, &[upon(one, &copies(3, 1, 3)), upon(two, &copies(3, 1, 3))])),
        PackError::NoBase(_)
    ));
    for wrong in [
        copies(19, 4, 1),
        copies(20, 21, 1),
        [copies(20, 4, 1), vec![0]].concat(),
        vec![20, 200, 1, b'x'],
        vec![],
    ] {
        assert!(matches!(
            refused(&repository, &raw(2, &[blob(base), upon(id(base), &wrong)])),
            PackError::Entry { .. }
        ));
    }
}

#[test]
fn bombs_stop_at_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { unpacked_bytes: 4 << 20, delta_depth: 8, pack_bytes: 1 << 20, ..Limits::default() };
    let repository =
        Repository::open_with(&folder.path().join("r"), Options { limits, ..Options::default() }).unwrap();
    let zeros = vec![0; 1 << 20];
    let bomb = copies(1 << 20, 1 << 20, 1000);
    let pack = raw(2, &[blob(&zeros), upon(id(&zeros), &bomb)]);
    assert!(refused(&repository, &pack).to_string().contains("limit"), "a delta");
    let pack = raw(1, &[blob(&vec![0; 5 << 20])]);
    assert!(refused(&repository, &pack).to_string().contains("limit"), "a blob");
    let many: Vec<_> =
        (1..=6u64).map(|it| upon(id(&zeros), &copies(1 << 20, (1 << 20) - it as u32, 1))).collect();
    assert!(
        refused(&repository, &raw(7, &[vec![blob(&zeros)], many].concat())).to_string().contains("limit"),
        "many deltas"
    );
    let mut entries = vec![blob(b"0123456789")];
    for length in (1..10).rev() {
        entries.push(upon(id(&b"0123456789"[..=length]), &copies(length as u64 + 1, length as u32, 1)));
    }
    assert!(refused(&repository, &raw(10, &entries)).to_string().contains("deltas upon deltas"));
    let random: Vec<u8> = (0..600_000u32)
        .flat_map(|it| it.wrapping_mul(2_654_435_761).rotate_left(it % 31).to_le_bytes())
        .collect();
    let error = refused(&repository, &raw(1, &[blob(&random)])).to_string();
    assert!(error.contains("bytes, and the limit is 1048576"), "{error}");
}

#[test]
fn large_deltas_go_through_files() {
    let (_folder, repository) = fresh();
    let base: Vec<u8> = (0..17 << 18u32).flat_map(|it: u32| (it / 64).to_le_bytes()).collect();
    let size = base.len() as u64;
    let part = 9 << 20;
    let delta = copies(size, part, 2);
    let result: Vec<u8> = base[..part as usize].repeat(2);
    // And a small one upon the large result.
    let small = copies(result.len() as u64, 5, 1);
    repository
        .store_pack(&raw(3, &[blob(&base), upon(id(&base), &delta), upon(id(&result), &small)])[..])
        .unwrap();
    assert_eq!(repository.header(id(&result)).unwrap(), (Kind::Blob, result.len() as u64));
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut repository.reader(id(&result)).unwrap(), &mut read).unwrap();
    assert!(read == result);
    assert!(repository.missing(&[id(&result[..5])]).is_empty());
}

#[test]
fn objects_that_git_refuses() {
    let (_folder, repository) = fresh();
    let entry = |mode: &str, name: &str| [format!("{mode} {name}\0").as_bytes(), &[1; 20]].concat();
    let refuse = |kind, content: Vec<u8>| refused(&repository, &pack(&[(kind, content)])).to_string();
    assert!(refuse(Kind::Tree, entry("100644", ".git")).contains("a form of .git"));
    assert!(refuse(Kind::Tree, entry("120000", "..")).contains("relative"));
    assert!(refuse(Kind::Commit, b"tree 0\n".to_vec()).contains("its tree"));
    assert!(refuse(Kind::Tag, b"object x\n".to_vec()).contains("its object"));
    // As the result of a delta too.
    let good = entry("100644", "aaaa");
    let delta = [vec![32, 32], vec![0x90, 7], vec![4], b".git".to_vec(), vec![0x91, 11, 21]].concat();
    let base = repository::objects::id(Kind::Tree, &good).unwrap();
    let whole = [header(2, 32), zlib(&good)].concat();
    let error = refused(&repository, &raw(2, &[whole, upon(base, &delta)])).to_string();
    assert!(error.contains("a form of .git"), "{error}");
    // An attributes file with a line that Git refuses.
    let line = vec![b'x'; 3000];
    let tree = [b"100644 .gitattributes\0".as_slice(), id(&line).as_bytes()].concat();
    let error = refused(&repository, &pack(&[(Kind::Tree, tree), (Kind::Blob, line)])).to_string();
    assert!(error.contains(".gitattributes"), "{error}");
}

/// Entries of a pack in any order, cut, doubled and changed, with a right checksum: refused or stored, never a panic, and Git agrees.
#[test]
fn mutated_packs() {
    let good = blob(b"a base of some bytes");
    let delta = upon(id(b"a base of some bytes"), &copies(20, 4, 2));
    let offset = [header(6, 10), vec![good.len() as u8], zlib(&copies(20, 7, 1))].concat();
    let entries = [good, delta, offset, [header(2, 0), zlib(b"")].concat()];
    let (_folder, repository) = fresh();
    let mut state = 7u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..200 {
        let mut chosen: Vec<_> = (0..random(5)).map(|_| entries[random(4)].clone()).collect();
        if let (Some(last), 0..2) = (chosen.last_mut(), random(4)) {
            let at = random(last.len());
            last[at] ^= 1 << random(8);
        }
        let _ = repository.store_pack(&raw(chosen.len() as u32, &chosen)[..]);
    }
    assert!(repository.scrub(|_| {}).unwrap().is_empty());
    repository.delete_garbage(&[], std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(repository.size().unwrap().packs <= 2);
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
}

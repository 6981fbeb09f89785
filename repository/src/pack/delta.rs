//! Deltas: an object as pieces of another one (gitformat-pack, "Deltified representation").

use super::content::{Content, ContentWriter, invalid};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// The sizes that a delta begins with: of its base and of its result.
pub(super) fn sizes(delta: &mut impl Read) -> io::Result<(u64, u64)> {
    Ok((size(delta)?, size(delta)?))
}

fn size(delta: &mut impl Read) -> io::Result<u64> {
    let mut size = 0u64;
    for shift in (0..63).step_by(7) {
        let byte = byte(delta)?;
        size |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(size);
        }
    }
    Err(invalid("a delta has a size of more than 63 bits"))
}

fn byte(delta: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    delta.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Makes the object of its base and its delta; refuses results above `limit` bytes before it makes them.
pub(super) fn apply(base: &Content, delta: impl Read, limit: u64, folder: &Path) -> io::Result<Content> {
    let mut delta = BufReader::with_capacity(4096, delta);
    let (base_size, size) = sizes(&mut delta)?;
    if base_size != base.len() {
        return Err(invalid("a delta is upon an object of another size"));
    }
    if size > limit {
        return Err(invalid("a delta makes more than the limit allows"));
    }
    let mut left = size;
    let mut out = ContentWriter::new(size, folder)?;
    while !delta.fill_buf()?.is_empty() {
        let command = byte(&mut delta)?;
        let count = if command & 0x80 == 0 {
            let count = u64::from(command);
            if count == 0 || count > left {
                return Err(invalid(
                    "a delta has a command that Git doesn't know, or makes more than it says",
                ));
            }
            if io::copy(&mut (&mut delta).take(count), &mut out)? != count {
                return Err(invalid("a delta is cut off"));
            }
            count
        } else {
            let (offset, count) = piece(command, &mut delta)?;
            if count > left {
                return Err(invalid("a delta makes more than it says"));
            }
            copy(base, offset, count, &mut out)?;
            count
        };
        left -= count;
    }
    if left > 0 {
        return Err(invalid("a delta makes less than it says"));
    }
    out.finish()
}

/// Which piece of the base is copied: its offset and its size.
fn piece(command: u8, delta: &mut impl Read) -> io::Result<(u64, u64)> {
    let mut number = |bits: std::ops::Range<u32>| -> io::Result<u64> {
        let mut number = 0;
        for (place, bit) in bits.enumerate() {
            if command & (1 << bit) != 0 {
                number |= u64::from(byte(delta)?) << (8 * place);
            }
        }
        Ok(number)
    };
    let (offset, size) = (number(0..4)?, number(4..7)?);
    Ok((offset, if size == 0 { 0x1_0000 } else { size }))
}

fn copy(base: &Content, mut offset: u64, mut count: u64, out: &mut ContentWriter) -> io::Result<()> {
    let mut buffer = [0; 8192];
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
        base.read_exact_at(&mut buffer[..part], offset)
            .map_err(|_| invalid("a delta copies what its base doesn't have"))?;
        out.write_all(&buffer[..part])?;
        offset += part as u64;
        count -= part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(base: &[u8], delta: &[u8]) -> io::Result<Vec<u8>> {
        let content = apply(&Content::Memory(base.to_vec()), delta, 1 << 20, Path::new("/nonexistent"))?;
        let Content::Memory(bytes) = content else { panic!("small contents are in memory") };
        Ok(bytes)
    }

    #[test]
    fn copies_and_inserts() {
        // Base of 10 bytes, result of 8: copy 4 from 2, insert "abcd".
        let delta = [10, 8, 0x91, 2, 4, 4, b'a', b'b', b'c', b'd'];
        assert_eq!(run(b"0123456789", &delta).unwrap(), b"2345abcd");
    }

    #[test]
    fn hostile_deltas_are_refused() {
        let base = b"0123456789";
        let wrong: [&[u8]; 9] = [
            &[],
            &[10],
            &[9, 1, 1, b'a'],
            &[10, 2, 1, b'a'],
            &[10, 1, 2, b'a', b'b'],
            &[10, 4, 4, b'a'],
            &[10, 1, 0],
            &[10, 8, 0x91, 8, 8],
            &[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        for delta in wrong {
            assert!(run(base, delta).is_err(), "{delta:?}");
        }
    }

    proptest! {
        #[test]
        fn any_delta_ends(delta: Vec<u8>) {
            let mut whole = vec![3];
            whole.extend(delta);
            let _ = run(b"abc", &whole);
        }
    }
}

//! The Huffman code of field values (RFC 7541 Appendix B, which RFC 9204 §4.1.2 takes over). It is canonical: codes of one length follow
//! each other in the order of their bytes, and longer ones follow shorter ones. So the lengths tell all of it.

/// The length of each byte's code in bits.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The code by lengths: the codes of `length` are those below `ends[length]`, as far as they are no beginning of shorter ones, and
/// the last of them, or `0`, is the one of `symbols[places[length] - 1]`.
struct Code {
    symbols: [u8; 256],
    /// The first code of each length.
    firsts: [u32; LONGEST + 1],
    /// Behind the last code of each length.
    ends: [u32; LONGEST + 1],
    /// Where the bytes of each length begin in `symbols`.
    places: [u16; LONGEST + 1],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        symbols: [0; 256],
        firsts: [0; LONGEST + 1],
        ends: [0; LONGEST + 1],
        places: [0; LONGEST + 1],
    };
    let (mut next, mut place, mut length) = (0, 0, SHORTEST);
    while length <= LONGEST {
        next <<= 1;
        code.firsts[length] = next;
        code.places[length] = place as u16;
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == length {
                code.symbols[place] = byte as u8;
                place += 1;
                next += 1;
            }
            byte += 1;
        }
        code.ends[length] = next;
        length += 1;
    }
    code
}

/// What is wrong with a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// Appends to `out` what `input` is the code of.
///
/// # Errors
/// It has the code of no byte, or a padding that is none (RFC 7541 §5.2).
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let (mut bits, mut count) = (0_u64, 0_usize);
    for byte in input {
        bits = bits << 8 | u64::from(*byte);
        count += 8;
        // The longest code is there for certain.
        while count >= LONGEST {
            count -= symbol(bits, count, out).ok_or(Invalid)?;
        }
    }
    while count >= SHORTEST {
        match symbol(bits, count, out) {
            Some(length) => count -= length,
            None => break,
        }
    }
    // The rest is the beginning of the code of the end, which is all ones, and shorter than a byte.
    let padding = (1 << count) - 1;
    if count < 8 && bits & padding == padding { Ok(()) } else { Err(Invalid) }
}

/// Appends the byte whose code is first in the last `count` of `bits`, and says how long the code is.
fn symbol(bits: u64, count: usize, out: &mut Vec<u8>) -> Option<usize> {
    (SHORTEST..=LONGEST.min(count)).find_map(|length| {
        let code = (bits >> (count - length)) as u32 & ((1 << length) - 1);
        let place = code.checked_sub(CODE.firsts[length]).filter(|_| code < CODE.ends[length])?;
        out.push(CODE.symbols[usize::from(CODE.places[length]) + place as usize]);
        Some(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    /// The code of `text`, by the definition.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let before = (0..*byte).filter(|it| usize::from(LENGTHS[usize::from(*it)]) == length).count();
            let code = CODE.firsts[length] as usize + before;
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|it| it.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn examples_of_the_standard() {
        // RFC 7541 §C.4.
        for (input, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
        ] {
            assert_eq!(decoded(input).unwrap(), text.as_bytes());
            assert_eq!(encoded(text.as_bytes()), input);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encoded(&all)).unwrap(), all);
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn a_padding_is_less_than_a_byte_of_ones() {
        assert!(decoded(&[0x1f]).is_ok(), "an a and three ones");
        for bad in [&[0x18][..], &[0x1f, 0xff], &[0xff], &[0xff, 0xff, 0xff, 0xff], &[0xff; 40]] {
            assert_eq!(decoded(bad), Err(Invalid), "{bad:?}");
        }
    }
}

//! Hexadecimal digits: of the length of a chunk, of the ids that each request gets.

/// All 16 digits of a number, in lower case. Eight at a time, in one register: each request has six of these numbers' halves.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&half(number >> 32));
    digits[8..].copy_from_slice(&half(number & 0xffff_ffff));
    digits
}

/// The 8 digits of a number of 32 bits.
fn half(number: u64) -> [u8; 8] {
    /// The same byte in each place.
    const fn each(byte: u8) -> u64 {
        u64::from_be_bytes([byte; 8])
    }
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let values = (bytes | bytes << 4) & each(0x0f);
    // 1 where the digit is a letter: 6 more than 10 or above are 16.
    let letters = (values + each(6)) >> 4 & each(1);
    (values + each(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_has_it(number: u64) {
            prop_assert_eq!(hex(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }
}

//! The encoders, one after another piece.

use brotli::CompressorWriter;
use common::config::Encoding;
use flate2::write::GzEncoder;
use std::{
    fmt,
    io::{self, Write},
};
use zstd::{stream::write::Encoder as ZstdEncoder, zstd_safe::CParameter};

/// How hard an encoder tries. As measured with 20 KB of text on one core: streams take 63 µs in zstd, 156 in br and 134 in gzip, to a quarter.
#[derive(Debug, Clone, Copy)]
struct Effort {
    zstd: i32,
    br: u32,
    gzip: u32,
    /// How far back it looks, as a power of two, in bytes: what the client has to remember, and most of what the encoder takes.
    window: u32,
}

/// Of a body that is sent as it comes, to one client.
const STREAM: Effort = Effort { zstd: 3, br: 3, gzip: 5, window: 17 };

/// Of a body that is kept for many. Brotli's higher levels take ten times as long for a hundredth.
const WHOLE: Effort = Effort { zstd: 9, br: 6, gzip: 6, window: 20 };

/// What zstd's tables of a stream have at most, as powers of two: with them an encoder takes less than a megabyte.
const ZSTD_TABLES: [CParameter; 2] = [CParameter::HashLog(15), CParameter::ChainLog(15)];

/// The shortest window of brotli: shorter ones are slow.
const BROTLI_WINDOW_MIN: u32 = 17;

/// What a brotli encoder gathers before it gives something out, in bytes.
const BROTLI_BUFFER: usize = 4096;

/// Encodes a body that comes in pieces.
pub struct Encoder(Kind);

enum Kind {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    // In a box, as the others would be as large.
    Br(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Kind::Zstd(_) => Encoding::Zstd,
            Kind::Br(_) => Encoding::Br,
            Kind::Gzip(_) => Encoding::Gzip,
        };
        write!(f, "Encoder({})", kind.name())
    }
}

impl Encoder {
    /// For a stream. `length` is that of the body in bytes, where it is known.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(encoding: Encoding, length: Option<u64>) -> io::Result<Self> {
        Self::with(encoding, STREAM, length)
    }

    fn with(encoding: Encoding, effort: Effort, length: Option<u64>) -> io::Result<Self> {
        // None longer than the body.
        let needed = length.map_or(u32::MAX, |it| it.max(1024).next_power_of_two().trailing_zeros());
        let window = effort.window.min(needed);
        let out = Vec::new();
        Ok(Self(match encoding {
            Encoding::Zstd => {
                let mut encoder = ZstdEncoder::new(out, effort.zstd)?;
                encoder.set_parameter(CParameter::WindowLog(window))?;
                if effort.window == STREAM.window && needed >= window {
                    ZSTD_TABLES.into_iter().try_for_each(|it| encoder.set_parameter(it))?;
                }
                encoder.set_pledged_src_size(length)?;
                Kind::Zstd(encoder)
            }
            Encoding::Br => {
                let window = window.max(BROTLI_WINDOW_MIN);
                Kind::Br(Box::new(CompressorWriter::new(out, BROTLI_BUFFER, effort.br, window)))
            }
            Encoding::Gzip => Kind::Gzip(GzEncoder::new(out, flate2::Compression::new(effort.gzip))),
        }))
    }

    /// Takes a piece, and appends what comes out to `out`, which may be nothing yet.
    ///
    /// # Errors
    /// There is no memory for it, or the body is longer than was said.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Kind::Zstd(it) => it.write_all(piece),
            Kind::Br(it) => it.write_all(piece),
            Kind::Gzip(it) => it.write_all(piece),
        }?;
        self.take(out);
        Ok(())
    }

    /// Appends what the reader needs to have all that was written: the next piece may come late.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Kind::Zstd(it) => it.flush(),
            Kind::Br(it) => it.flush(),
            Kind::Gzip(it) => it.flush(),
        }?;
        self.take(out);
        Ok(())
    }

    /// Appends the end.
    ///
    /// # Errors
    /// There is no memory for it, or the body is not as long as was said.
    pub fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        let rest = match self.0 {
            Kind::Zstd(it) => it.finish()?,
            Kind::Br(it) => it.into_inner(),
            Kind::Gzip(it) => it.finish()?,
        };
        out.extend_from_slice(&rest);
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        let ready = match &mut self.0 {
            Kind::Zstd(it) => it.get_mut(),
            Kind::Br(it) => it.get_mut(),
            Kind::Gzip(it) => it.get_mut(),
        };
        out.append(ready);
    }
}

/// A body at once, for one that is sent many times.
///
/// # Errors
/// There is no memory for it.
pub fn whole(encoding: Encoding, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::with(encoding, WHOLE, Some(body.len() as u64))?;
    let mut out = Vec::new();
    encoder.write(body, &mut out)?;
    encoder.finish(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// What a reader has of it; of a beginning, what can be known of it.
    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read> = match encoding {
            Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Encoding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        };
        let (mut out, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            out.extend_from_slice(&piece[..count]);
        }
        out
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|it| b"the quick brown fox "[it * it % 20]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However it is cut, all of it comes out; and what was flushed is there before the end.
        #[test]
        fn pieces_come_out_as_they_went_in(pieces in proptest::collection::vec((0..40_000_usize, any::<bool>()), 0..5), is_known in any::<bool>()) {
            let all: Vec<u8> = text(pieces.iter().map(|it| it.0).sum());
            for encoding in Encoding::ALL {
                let mut encoder = Encoder::new(encoding, is_known.then_some(all.len() as u64)).unwrap();
                let (mut out, mut at) = (Vec::new(), 0);
                for (length, flushes) in &pieces {
                    encoder.write(&all[at..at + length], &mut out).unwrap();
                    at += length;
                    if *flushes {
                        encoder.flush(&mut out).unwrap();
                        prop_assert_eq!(&decoded(encoding, &out), &all[..at]);
                    }
                }
                encoder.finish(&mut out).unwrap();
                prop_assert!(decoded(encoding, &out) == all);
            }
        }
    }

    #[test]
    fn wholes_are_smaller_than_streams_and_both_than_the_text() {
        let body = [text(30_000), text(999)].concat();
        for encoding in Encoding::ALL {
            let packed = whole(encoding, &body).unwrap();
            assert!(decoded(encoding, &packed) == body);
            assert!(packed.len() < body.len() / 10, "{encoding:?}: {}", packed.len());
            assert_eq!(decoded(encoding, &whole(encoding, b"").unwrap()), b"");
        }
    }

    #[test]
    fn a_body_that_is_not_as_long_as_was_said_is_an_error_or_whole() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(Encoding::Zstd, Some(10)).unwrap();
        let written = encoder.write(b"eleven bytes", &mut out).and_then(|()| encoder.finish(&mut out));
        assert!(written.is_err(), "zstd says the length at its beginning");
    }
}

//! Bodies: what of the bytes on a connection is data, and where it ends; and chunks for the way on (RFC 9112 §7.1).

use super::{fields::Fields, framing::Length, head};

/// Chunk extensions of one body, in bytes; nobody uses them, and they are not passed on.
const EXTENSIONS_MAX: u32 = 4096;

/// A trailer section, in bytes.
const TRAILERS_MAX: usize = 8192;

/// What a body in chunks did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("invalid chunk size")]
    Size,
    #[error("chunk size out of range")]
    Overflow,
    #[error("invalid chunk extension")]
    Extension,
    #[error("no CRLF after a chunk")]
    End,
    #[error("invalid trailer")]
    Trailer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Done,
    /// So many bytes of an exact length are left.
    Exact(u64),
    UntilClose,
    /// Before a digit of a chunk's size; the digits so far.
    Size(u64, u8),
    /// Behind white space after it.
    Padded(u64),
    Extension(u64, Extension),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

/// A trailer section as it came.
#[derive(Debug, Default)]
struct Trailers {
    bytes: Vec<u8>,
}

/// Where in the extensions of a chunk the next byte stands (RFC 9112 §7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// Behind `;`.
    Start,
    Name,
    NamePadded,
    /// Behind `=`.
    Equals,
    Value,
    Quoted,
    /// Behind `\` in quotes.
    Escaped,
    /// Behind the quotes.
    Closed,
    ValuePadded,
}

/// Reads a body.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// It is of an answer: what servers are known to write, and nobody takes for something else, is let pass.
    lenient: bool,
    /// Its trailers go no further.
    drops_trailers: bool,
    extensions: u32,
    /// In a box, as hardly any body has some and every connection has this.
    trailers: Option<Box<Trailers>>,
}

impl Decoder {
    /// Of a request's body of this length.
    pub(crate) fn new(length: Length) -> Self {
        let state = match length {
            Length::Empty => State::Done,
            Length::Exact(bytes) => State::Exact(bytes),
            Length::Chunked => State::Size(0, 0),
            Length::UntilClose => State::UntilClose,
        };
        Self { state, ..Self::default() }
    }

    /// Of an answer's. White space behind a chunk's size (RFC 9112 §7.1.1 has it before a `;` as "bad" white space, which a
    /// recipient must parse; some servers pad each size) and extensions of any form are let pass.
    pub(crate) fn of_answer(length: Length) -> Self {
        Self { lenient: true, ..Self::new(length) }
    }

    /// Whether the body has been read to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether it ends with the connection.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// How many of the next bytes are data for certain, when nothing but data can follow: they may be read without a look.
    pub(crate) fn plain(&self) -> Option<u64> {
        match self.state {
            State::Exact(left) => Some(left),
            State::UntilClose => Some(u64::MAX),
            _ => None,
        }
    }

    /// How many bytes of data come next, before anything that frames them.
    pub(crate) fn data_ahead(&self) -> u64 {
        match self.state {
            State::Exact(left) | State::Data(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// Counts `bytes` that were read without a look; no more than [`plain`](Self::plain) allowed.
    pub(crate) fn skip(&mut self, bytes: u64) {
        if let State::Exact(left) = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// Gives the data among `input` to `data`, and returns how many bytes belong to the body: all, unless it ends before.
    pub(crate) fn decode(&mut self, input: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, ChunkError> {
        let mut rest = input;
        while self.state != State::Done
            && let Some(&byte) = rest.first()
        {
            let mut taken = 1;
            self.state = match self.state {
                State::Done => State::Done,
                State::Exact(left) | State::Data(left) => {
                    taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    data(&rest[..taken]);
                    self.state.after(left - taken as u64)
                }
                State::UntilClose => {
                    taken = rest.len();
                    data(rest);
                    State::UntilClose
                }
                State::Size(size, digits) => self.size_byte(size, digits, byte)?,
                State::Padded(size) => self.behind_size(size, byte)?,
                State::Extension(size, place) => self.extension_byte(size, place, byte)?,
                State::SizeLf(size) => match (byte, size) {
                    (b'\n', 0) => State::Trailers,
                    (b'\n', size) => State::Data(size),
                    _ => return Err(ChunkError::Size),
                },
                State::DataCr if byte == b'\r' => State::DataLf,
                State::DataLf if byte == b'\n' => State::Size(0, 0),
                State::DataCr | State::DataLf => return Err(ChunkError::End),
                State::Trailers => self.trailer_byte(byte)?,
            };
            rest = &rest[taken..];
        }
        Ok(input.len() - rest.len())
    }

    /// Hexadecimal digits, 16 at most.
    fn size_byte(&mut self, size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
        match char::from(byte).to_digit(16) {
            // 2^63 and more: longer than any body, and negative where someone has signed numbers.
            Some(_) if digits == 16 || size >> 59 != 0 => Err(ChunkError::Overflow),
            Some(digit) => Ok(State::Size(size << 4 | u64::from(digit), digits + 1)),
            None if digits == 0 => Err(ChunkError::Size),
            None => self.behind_size(size, byte),
        }
    }

    fn behind_size(&mut self, size: u64, byte: u8) -> Result<State, ChunkError> {
        match byte {
            b'\r' => Ok(State::SizeLf(size)),
            b';' => Ok(State::Extension(size, Extension::Start)),
            b' ' | b'\t' if self.lenient => {
                self.count_extension()?;
                Ok(State::Padded(size))
            }
            _ => Err(ChunkError::Size),
        }
    }

    fn extension_byte(&mut self, size: u64, place: Extension, byte: u8) -> Result<State, ChunkError> {
        let next = match byte {
            b'\r' if self.lenient || place.may_be_last() => return Ok(State::SizeLf(size)),
            b'\t' | b' '..=b'~' | 0x80.. if self.lenient => Some(place),
            _ => place.next(byte),
        };
        self.count_extension()?;
        next.map(|place| State::Extension(size, place)).ok_or(ChunkError::Extension)
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS_MAX { Err(ChunkError::Extension) } else { Ok(()) }
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        let trailers = &mut self.trailers.get_or_insert_default().bytes;
        if trailers.len() == TRAILERS_MAX {
            return Err(ChunkError::Trailer);
        }
        trailers.push(byte);
        let ended = trailers == b"\r\n" || trailers.ends_with(b"\r\n\r\n");
        // A bare LF is found as soon as it comes, not when the limit is reached.
        if byte == b'\n' && !trailers.ends_with(b"\r\n") {
            return Err(ChunkError::Trailer);
        }
        if ended {
            head::parse_trailers(trailers, |_, _| {})?;
            return Ok(State::Done);
        }
        Ok(State::Trailers)
    }

    /// Its trailers are not to be passed on.
    pub(crate) fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    /// The trailers that may be passed on.
    pub(crate) fn trailers(&self) -> Option<Fields> {
        if self.drops_trailers {
            return None;
        }
        let trailers = self.trailers.as_ref().filter(|trailers| trailers.bytes.len() > 2)?;
        let mut fields = Fields::default();
        head::parse_trailers(&trailers.bytes, |name, value| fields.push_trailer(name, value)).ok()?;
        Some(fields)
    }
}

impl State {
    /// With so many bytes left of an exact length or a chunk.
    fn after(self, left: u64) -> Self {
        match (self, left) {
            (Self::Exact(_), 0) => Self::Done,
            (Self::Exact(_), left) => Self::Exact(left),
            (_, 0) => Self::DataCr,
            (_, left) => Self::Data(left),
        }
    }
}

impl Extension {
    /// Behind one byte more; `None`: it has no place there. White space around `=` and `;` has.
    fn next(self, byte: u8) -> Option<Self> {
        use Extension::{Closed, Equals, Escaped, Name, NamePadded, Quoted, Start, Value, ValuePadded};
        match (self, byte) {
            (Start | NamePadded | Equals | ValuePadded, b' ' | b'\t') => Some(self),
            (Name, b' ' | b'\t') => Some(NamePadded),
            (Value | Closed, b' ' | b'\t') => Some(ValuePadded),
            (Name | NamePadded | Value | Closed | ValuePadded, b';') => Some(Start),
            (Name | NamePadded, b'=') => Some(Equals),
            (Quoted, b'"') => Some(Closed),
            (Quoted, b'\\') => Some(Escaped),
            (Equals, b'"') | (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Some(Quoted),
            (Start | Name, byte) if is_token_byte(byte) => Some(Name),
            (Equals | Value, byte) if is_token_byte(byte) => Some(Value),
            _ => None,
        }
    }

    /// Whether a line may end here.
    fn may_be_last(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::Closed)
    }
}

/// Of a token (RFC 9110 §5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Appends a chunk; nothing for no data, as an empty chunk would be the last.
pub(crate) fn put_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    put_hex(out, data.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Whether trailers are as few and short as a body in chunks may have them: whoever reads them has the same bounds.
pub(crate) fn trailers_fit(trailers: &Fields) -> bool {
    let (mut count, mut bytes) = (0, 2);
    for field in trailers.iter() {
        count += 1;
        bytes += field.name.len() + field.value.len() + ": \r\n".len();
    }
    count <= head::TRAILERS_COUNT_MAX && bytes <= TRAILERS_MAX
}

/// Appends the last chunk, with trailers.
pub(crate) fn put_last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.put(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn put_hex(out: &mut Vec<u8>, number: usize) {
    let digits = super::hex(number as u64);
    let start = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len() - 1);
    out.extend_from_slice(&digits[start..]);
}

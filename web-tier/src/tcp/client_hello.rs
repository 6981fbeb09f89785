//! Reads the ClientHello at the beginning of a connection (RFC 8446 §4.1.2, of TLS 1.2 too: RFC 5246 §7.4.1.2): the name that the
//! client asks for (SNI, RFC 6066 §3) and the protocols that it offers (ALPN, RFC 7301). Nothing is decrypted, nothing is kept: what is
//! looked at belongs to the server that the connection goes to.
//!
//! Whoever connects can send anything. What is taken for a ClientHello is read to its end, each length checked; a name that no host
//! can have is no name. What a client hides from those who pass it on (ECH) is not seen: the outer name counts.

/// The most bytes of a ClientHello, with the records that it comes in. Those of browsers have about 2,000.
pub(super) const BYTES_MAX: usize = 16 * 1024;

/// The longest name.
const NAME_MAX: usize = 255;

/// A record of a handshake (RFC 8446 §5.1), and the longest one.
const HANDSHAKE: u8 = 22;
const RECORD_MAX: usize = 1 << 14;
const RECORD_HEAD: usize = 5;

/// The first message of a client.
const CLIENT_HELLO: u8 = 1;

const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// What the beginning of a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It may become a ClientHello.
    More,
    /// Something else than TLS.
    NotTls,
    /// A ClientHello.
    Hello(ClientHello),
}

/// What of it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClientHello {
    /// In lower case, without a dot at its end.
    pub(super) name: Option<Box<str>>,
    /// As the client lists them.
    pub(super) alpn: Vec<Box<[u8]>>,
}

/// Why it is none though it began like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientHelloError {
    #[error("a ClientHello of more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("a record of {0} bytes within a ClientHello, expected 1 to {RECORD_MAX}")]
    Record(usize),
    #[error("a record of type {0} within a ClientHello, expected {HANDSHAKE}")]
    RecordType(u8),
    #[error("the first message of a client is of type {0}, expected {CLIENT_HELLO} (ClientHello)")]
    Message(u8),
    #[error("a ClientHello whose {0} does not fit")]
    Field(&'static str),
    #[error("a ClientHello with {0} twice")]
    Twice(&'static str),
    #[error("a ClientHello that asks for a name that no host can have")]
    Name,
}

/// Reads the beginning of a connection, as far as it has come.
///
/// # Errors
/// See [`ClientHelloError`]. It does not depend on how the bytes arrive: more of them change no answer but [`Beginning::More`].
pub(super) fn parse(bytes: &[u8]) -> Result<Beginning, ClientHelloError> {
    match bytes {
        [] => return Ok(Beginning::More),
        [HANDSHAKE] | [HANDSHAKE, 3, ..] => {}
        _ => return Ok(Beginning::NotTls),
    }
    let mut message = Vec::new();
    // What comes later changes nothing.
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let mut rest = bytes;
    loop {
        let whole = message_length(&message)?;
        if let Some(length) = whole.filter(|length| message.len() >= *length) {
            return hello(&message[4..length]).map(Beginning::Hello);
        }
        // A record that begins with another type tells so before its head is whole.
        if let Some(kind) = rest.first().filter(|kind| **kind != HANDSHAKE) {
            return Err(ClientHelloError::RecordType(*kind));
        }
        let Some((head, body)) = rest.split_first_chunk::<RECORD_HEAD>() else { return more(bytes) };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if !(1..=RECORD_MAX).contains(&length) {
            return Err(ClientHelloError::Record(length));
        }
        let (part, after) = body.split_at(length.min(body.len()));
        message.extend_from_slice(part);
        rest = after;
        if part.len() < length {
            // What is wrong with its first bytes is told at once, and what is whole is read.
            return match message_length(&message)? {
                Some(whole) if message.len() >= whole => hello(&message[4..whole]).map(Beginning::Hello),
                _ => more(bytes),
            };
        }
    }
}

fn more(bytes: &[u8]) -> Result<Beginning, ClientHelloError> {
    if bytes.len() >= BYTES_MAX { Err(ClientHelloError::TooLong) } else { Ok(Beginning::More) }
}

/// How long the message is, its own head included; `None` while that is not known.
fn message_length(message: &[u8]) -> Result<Option<usize>, ClientHelloError> {
    match message {
        [CLIENT_HELLO, high, middle, low, ..] => {
            let length = 4 + u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > BYTES_MAX { Err(ClientHelloError::TooLong) } else { Ok(Some(length)) }
        }
        [] | [CLIENT_HELLO, ..] => Ok(None),
        [kind, ..] => Err(ClientHelloError::Message(*kind)),
    }
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ClientHelloError::Field(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, ClientHelloError> {
        Ok(self.take(1, what)?[0])
    }

    fn short(&mut self, what: &'static str) -> Result<u16, ClientHelloError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with one byte of length before it.
    fn vector8(&mut self, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let length = self.byte(what)?;
        self.take(length.into(), what)
    }

    /// With two.
    fn vector16(&mut self, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let length = self.short(what)?;
        self.take(length.into(), what)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads what is in the message.
fn hello(body: &[u8]) -> Result<ClientHello, ClientHelloError> {
    let mut body = Reader(body);
    body.take(2 + 32, "version and random")?;
    body.vector8("session id")?;
    body.vector16("list of cipher suites")?;
    body.vector8("list of compression methods")?;
    let mut found = ClientHello::default();
    // Before TLS 1.2 there may be none.
    if body.is_empty() {
        return Ok(found);
    }
    let mut extensions = Reader(body.vector16("list of extensions")?);
    if !body.is_empty() {
        return Err(ClientHelloError::Field("length"));
    }
    let (mut has_name, mut has_alpn) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.short("extension")?;
        let data = extensions.vector16("extension")?;
        match kind {
            SERVER_NAME if std::mem::replace(&mut has_name, true) => {
                return Err(ClientHelloError::Twice("server_name"));
            }
            ALPN if std::mem::replace(&mut has_alpn, true) => return Err(ClientHelloError::Twice("ALPN")),
            SERVER_NAME => found.name = server_name(data)?,
            ALPN => found.alpn = protocols(data)?,
            // Those of GREASE (RFC 8701) too.
            _ => {}
        }
    }
    Ok(found)
}

fn server_name(data: &[u8]) -> Result<Option<Box<str>>, ClientHelloError> {
    const WHAT: &str = "server_name";
    let mut data = Reader(data);
    let mut list = Reader(data.vector16(WHAT)?);
    if !data.is_empty() {
        return Err(ClientHelloError::Field(WHAT));
    }
    let mut name = None;
    while !list.is_empty() {
        let kind = list.byte(WHAT)?;
        let text = list.vector16(WHAT)?;
        if kind == HOST_NAME && name.replace(host_name(text)?).is_some() {
            return Err(ClientHelloError::Twice("a host name"));
        }
    }
    Ok(name)
}

/// A name as routes have it.
fn host_name(text: &[u8]) -> Result<Box<str>, ClientHelloError> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    let fits = |it: &u8| it.is_ascii_alphanumeric() || b"-_.".contains(it);
    let text = str::from_utf8(text)
        .ok()
        .filter(|it| (1..=NAME_MAX).contains(&it.len()) && it.bytes().all(|it| fits(&it)));
    text.map(|it| it.to_ascii_lowercase().into()).ok_or(ClientHelloError::Name)
}

fn protocols(data: &[u8]) -> Result<Vec<Box<[u8]>>, ClientHelloError> {
    const WHAT: &str = "ALPN";
    let mut data = Reader(data);
    let mut list = Reader(data.vector16(WHAT)?);
    if !data.is_empty() {
        return Err(ClientHelloError::Field(WHAT));
    }
    let mut found = Vec::new();
    while !list.is_empty() {
        found.push(list.vector8(WHAT)?.into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

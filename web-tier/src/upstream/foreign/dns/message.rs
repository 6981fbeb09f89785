//! Questions and answers as bytes (RFC 1035 §4). Whatever comes is taken for hostile: lengths are checked, pointers only lead back.

use super::DnsError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of a message.
const HEADER: usize = 12;

/// What is taken over UDP (RFC 6891 §6.2.3); the usual size since DNS flag day 2020.
const UDP_MAX: u16 = 1232;

/// A name in a message, its lengths included (RFC 1035 §3.1).
const NAME_MAX: usize = 255;

/// Aliases that are followed.
const ALIASES_MAX: usize = 8;

const CNAME: u16 = 5;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses (RFC 3596).
    Aaaa = 28,
    /// Servers of a service (RFC 2782).
    Srv = 33,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Data {
    Address(IpAddr),
    Server { priority: u16, weight: u16, port: u16, target: String },
}

/// The records that were asked for; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Answer {
    pub(in super::super) records: Vec<Data>,
    /// How long it is valid, in seconds.
    pub(in super::super) ttl: u32,
}

/// A question; `None` for a name that no message can have.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 17);
    message.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question, and one record that says how large an answer may be.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|it| (1..=63).contains(it))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    if message.len() - HEADER > NAME_MAX {
        return None;
    }
    for number in [kind as u16, INTERNET] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message.push(0);
    for number in [OPT, UDP_MAX, 0, 0, 0] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    Some(message)
}

/// A record of an answer: whose it is, what, and where its data is.
struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: std::ops::Range<usize>,
}

/// Reads the answer to a question; `None` if it was cut off (over UDP: it is to be asked for over TCP).
pub(super) fn parse(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Option<Answer>, DnsError> {
    if bytes.len() < HEADER || number(bytes, 0)? != id || bytes[2] & 0x80 == 0 {
        return Err(DnsError::Other);
    }
    let asked = name.trim_end_matches('.').to_ascii_lowercase();
    if number(bytes, 4)? != 1 {
        return Err(DnsError::Other);
    }
    let (said, at) = read_name(bytes, HEADER)?;
    if said != asked || number(bytes, at)? != kind as u16 || number(bytes, at + 2)? != INTERNET {
        return Err(DnsError::Other);
    }
    if bytes[2] & 0x02 != 0 {
        return Ok(None);
    }
    match bytes[3] & 0x0f {
        0 => {}
        3 => return Err(DnsError::NoSuchName),
        code => return Err(DnsError::Refused(code)),
    }
    let records = records(bytes, at + 4, number(bytes, 6)?)?;
    select(bytes, &asked, kind, &records).map(Some)
}

/// The records of the answer section that are of the Internet.
fn records(bytes: &[u8], mut at: usize, count: u16) -> Result<Vec<Record>, DnsError> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, fixed) = read_name(bytes, at)?;
        let (kind, class) = (number(bytes, fixed)?, number(bytes, fixed + 2)?);
        let ttl = u32::from(number(bytes, fixed + 4)?) << 16 | u32::from(number(bytes, fixed + 6)?);
        let start = fixed + 10;
        let data = start..start + usize::from(number(bytes, fixed + 8)?);
        if data.end > bytes.len() {
            return Err(DnsError::Malformed("a record is longer than the message"));
        }
        at = data.end;
        if class == INTERNET {
            // RFC 2181 §8: with the highest bit it is none.
            let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
            records.push(Record { owner, kind, ttl, data });
        }
    }
    Ok(records)
}

/// Those that were asked for, of the name or of what it is an alias of.
fn select(bytes: &[u8], asked: &str, kind: Kind, records: &[Record]) -> Result<Answer, DnsError> {
    let (mut name, mut ttl) = (asked.to_owned(), u32::MAX);
    for _ in 0..=ALIASES_MAX {
        let own = || records.iter().filter(|it| it.owner == name);
        let found: Vec<&Record> = own().filter(|it| it.kind == kind as u16).collect();
        if !found.is_empty() {
            let read = found.iter().map(|it| data(bytes, kind, it.data.clone()));
            let read: Vec<Option<Data>> = read.collect::<Result<_, _>>()?;
            let records: Vec<Data> = read.into_iter().flatten().collect();
            let ttl = found.iter().map(|it| it.ttl).fold(ttl, u32::min);
            return if records.is_empty() { Err(DnsError::Empty) } else { Ok(Answer { records, ttl }) };
        }
        let Some(alias) = own().find(|it| it.kind == CNAME) else { break };
        ttl = ttl.min(alias.ttl);
        name = read_name(bytes, alias.data.start)?.0;
    }
    Err(DnsError::Empty)
}

/// What a record says; `None` for one that says that there is no such service.
fn data(bytes: &[u8], kind: Kind, range: std::ops::Range<usize>) -> Result<Option<Data>, DnsError> {
    let slice = &bytes[range.clone()];
    Ok(match kind {
        Kind::A => {
            let octets: [u8; 4] =
                slice.try_into().map_err(|_| DnsError::Malformed("an A record is not of 4 bytes"))?;
            Some(Data::Address(Ipv4Addr::from(octets).into()))
        }
        Kind::Aaaa => {
            let octets: [u8; 16] =
                slice.try_into().map_err(|_| DnsError::Malformed("an AAAA record is not of 16 bytes"))?;
            Some(Data::Address(Ipv6Addr::from(octets).into()))
        }
        Kind::Srv => {
            let at = range.start;
            if slice.len() < 7 {
                return Err(DnsError::Malformed("an SRV record is too short"));
            }
            let (priority, weight, port) =
                (number(bytes, at)?, number(bytes, at + 2)?, number(bytes, at + 4)?);
            let (target, end) = read_name(bytes, at + 6)?;
            if end != range.end {
                return Err(DnsError::Malformed("an SRV record is of another length than its target"));
            }
            (!target.is_empty() && port != 0).then_some(Data::Server { priority, weight, port, target })
        }
    })
}

fn number(bytes: &[u8], at: usize) -> Result<u16, DnsError> {
    let pair = bytes.get(at..at + 2).ok_or(DnsError::Malformed("it ends too early"))?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

/// A name in lower case without the last dot, and what comes behind it. A pointer leads to what was before it, or nowhere.
fn read_name(bytes: &[u8], start: usize) -> Result<(String, usize), DnsError> {
    let (mut name, mut at, mut end, mut before) = (String::new(), start, None, start);
    loop {
        let length = *bytes.get(at).ok_or(DnsError::Malformed("a name ends too early"))?;
        match length {
            0 => return Ok((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length));
                let label = label.ok_or(DnsError::Malformed("a name ends too early"))?;
                if !label.iter().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_')) {
                    return Err(DnsError::Malformed(
                        "a name with other characters than letters, digits, - and _",
                    ));
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|it| char::from(it.to_ascii_lowercase())));
                if name.len() + 2 > NAME_MAX {
                    return Err(DnsError::Malformed("a name of more than 255 bytes"));
                }
                at += 1 + label.len();
            }
            0xc0.. => {
                let to = usize::from(number(bytes, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                if to >= before {
                    return Err(DnsError::Malformed("a name that points forward"));
                }
                (at, before) = (to, to);
            }
            _ => return Err(DnsError::Malformed("a label of an unknown kind")),
        }
    }
}

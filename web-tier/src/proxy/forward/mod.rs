//! What changes in a message on its way: fields that are for one connection go, those of a proxy come.

mod max_forwards;
mod request;
mod response;

pub(crate) use max_forwards::may_go_on;
pub(crate) use request::{Trace, Via, put_request, remove_nominated};
pub(crate) use response::{Framing, NOT_PROCESSED, SHORT, STOPPED, ToClient, prepare_response, put_response};

use crate::http1::{Fields, Name};

/// Whether `Connection` names this field, among those that it can take away: not those that frame and address the message.
fn is_nominated(nominations: &[Vec<u8>], name: &[u8]) -> bool {
    nominations.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// The fields that `Connection` names, but for the common words that are no fields.
fn nominations(fields: &Fields) -> Vec<Vec<u8>> {
    let lines = fields.all(Name::Connection);
    let tokens = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let protected = |token: &&[u8]| !matches!(Name::of(token), Name::Host | Name::Te | Name::Upgrade);
    tokens.filter(protected).map(<[u8]>::to_vec).collect()
}

/// Appends `name: value\r\n`.
fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn put_number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    put_field(out, name, itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests;

//! Where a server is reached or listens: address and port as the file has them.

use super::{decode::Context, names, node::Node, source::Span};

/// A port with `port_offset` added; `None` after an error.
pub(super) fn shifted(context: Context<'_>, port: u64, port_offset: u16, span: Span) -> Option<u16> {
    let sum = port + u64::from(port_offset);
    let shifted = u16::try_from(sum).ok();
    if shifted.is_none() {
        let message =
            format!("port {port} with the port offset {port_offset} is {sum}: expected at most 65535");
        context.error(span, message);
    }
    shifted
}

/// An IP address or host name; all interfaces (`0.0.0.0`, `::`) only to listen on.
pub(super) fn address(context: Context<'_>, node: &Node, listen: bool) -> Option<String> {
    let text = context.checked(node, |text| names::address(text, listen))?;
    Some(text.trim_start_matches('[').trim_end_matches(']').to_owned())
}

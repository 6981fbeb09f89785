//! Calls in gRPC that get no server: a client of gRPC reads no text of HTTP, so that it is told by `grpc-status` in the only head
//! (the gRPC project's "Trailers-Only" answer, and its table of what a status of HTTP means).

use crate::proxy::local::{Local, LocalBody};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What may not stand in a `grpc-message`, beside all that is not ASCII.
const NOT_IN_MESSAGES: &AsciiSet = &CONTROLS.add(b'%');

/// Says in `fields` what a local answer has to say.
pub(super) fn put_refusal(local: &Local, fields: &mut HeaderMap) {
    let status = local.head.status;
    let text = match &local.body {
        LocalBody::Bytes(text) => String::from_utf8_lossy(text).trim_end().to_owned(),
        LocalBody::File(_) | LocalBody::Packing(_) | LocalBody::Stored(_) => status.to_string(),
    };
    let message = utf8_percent_encode(&text, NOT_IN_MESSAGES).to_string();
    fields.insert(CONTENT_TYPE, GRPC);
    fields.insert(GRPC_STATUS, code_of(status).into());
    fields.extend(HeaderValue::try_from(message).ok().map(|message| (GRPC_MESSAGE, message)));
}

fn code_of(status: StatusCode) -> u16 {
    const UNKNOWN: u16 = 2;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match status {
        StatusCode::BAD_REQUEST => INTERNAL,
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::FORBIDDEN => PERMISSION_DENIED,
        StatusCode::NOT_FOUND => UNIMPLEMENTED,
        // Not of that table; here it is a message beyond `body-max`, for which gRPC has this code.
        StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        http1::{HeadLimits, RequestHead},
        proxy::error_pages::is_grpc_call,
    };

    #[test]
    fn what_is_a_call() {
        let limits = HeadLimits { count: 100, bytes: 4096, target: 100 };
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("text/plain", false),
        ] {
            let mut head = RequestHead::default();
            let text = format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\n\r\n");
            head.parse(text.as_bytes(), &limits).unwrap().unwrap();
            assert_eq!(is_grpc_call(&head), is, "{kind}");
        }
        assert!(!is_grpc_call(&RequestHead::default()));
    }
}

//! What clients' bytes come through: TCP or TLS, a PROXY header before them, and the terms of the listener that they came by.

pub(crate) mod listener;
pub(crate) mod proxy_protocol;
pub(crate) mod quic;
pub(crate) mod stream;
pub(crate) mod tls;

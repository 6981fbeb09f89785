//! Content codings of HTTP answers (RFC 9110 §8.4): which answers are worth one ([`rules`]), and the encoders ([`encoder`]), for bodies
//! that come in pieces and for whole ones. Nothing here knows of connections or of a cache.

pub mod encoder;
pub mod rules;

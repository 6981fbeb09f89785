//! Fuzzes the way of a request: read, normalised, and said to servers of HTTP/1.1 and HTTP/2, by the properties that `cargo test` tries
//! with mutations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    web_tier::properties::way(bytes);
});

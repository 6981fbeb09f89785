//! Fuzzes bodies in chunks; the first byte says how they are cut, by the properties that `cargo test` tries with mutations.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/http1/mod.rs"]
mod http1;
#[path = "../../src/tests/parsing/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((size, body)) = bytes.split_first() {
        properties::chunks(body, &[usize::from(*size), 1, 7]);
    }
});

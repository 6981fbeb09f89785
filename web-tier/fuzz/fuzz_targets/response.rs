//! Fuzzes the heads of answers, by the properties that `cargo test` tries with mutations.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/http1/mod.rs"]
mod http1;
#[path = "../../src/tests/parsing/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Every cut of it is tried.
    properties::response(&bytes[..bytes.len().min(500)]);
});

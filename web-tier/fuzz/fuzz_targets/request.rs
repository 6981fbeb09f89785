//! Fuzzes the heads of requests, by the properties that `cargo test` tries with mutations.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/http1/mod.rs"]
mod http1;
#[path = "../../src/tests/parsing/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Every cut of it is tried.
    properties::request(&bytes[..bytes.len().min(500)]);
});

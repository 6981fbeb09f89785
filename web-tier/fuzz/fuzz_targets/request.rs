//! Fuzzes the heads of requests, by the properties that `cargo test` tries with mutations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Every cut of it is tried.
    web_tier::properties::request(&bytes[..bytes.len().min(500)]);
});

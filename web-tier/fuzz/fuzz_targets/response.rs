//! Fuzzes the heads of answers, by the properties that `cargo test` tries with mutations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Every cut of it is tried.
    web_tier::properties::response(&bytes[..bytes.len().min(500)]);
});

//! Fuzzes bodies in chunks; the first byte says how they are cut, by the properties that `cargo test` tries with mutations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((size, body)) = bytes.split_first() {
        web_tier::properties::chunks(body, &[usize::from(*size), 1, 7]);
    }
});

//! The binary `copal`.
fn main() {}

# What CI checks; writes nothing.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace

# Mends formatting and what clippy can mend.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

test *FILTER:
    cargo test --workspace {{FILTER}}

demo *ARGUMENTS:
    cargo run -- demo {{ARGUMENTS}}

bench:
    bench/run

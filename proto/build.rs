//! Compiles the `.proto` files with protox: no protoc on the machine is needed.

use std::{error::Error, path::Path};

const FILES: [&str; 7] = [
    "copal/app/v1/session.proto",
    "copal/hub/v1/member.proto",
    "copal/hub/v1/raft.proto",
    "copal/hub/v1/session.proto",
    "copal/hub/v1/watch.proto",
    "copal/web/v1/balancer.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, [Path::new("proto")])?;
    // Values are shared, not copied, between the log, the state and the wire.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}

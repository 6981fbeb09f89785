//! What `src/generated/` has to be: made from the `.proto` files with protox, no protoc needed. It is checked in, so that who builds
//! Copal does not build a compiler of contracts first. After a change of a `.proto` file:
//!
//! ```sh
//! UPDATE_EXPECT=1 cargo test -p proto
//! ```

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

const FILES: [&str; 38] = [
    "copal/app/v1/cache.proto",
    "copal/app/v1/job.proto",
    "copal/app/v1/lease.proto",
    "copal/app/v1/pipeline.proto",
    "copal/app/v1/queue.proto",
    "copal/app/v1/session.proto",
    "copal/app/v1/topic.proto",
    "copal/config/v1/configuration.proto",
    "copal/history/v1/history.proto",
    "copal/hub/v1/app.proto",
    "copal/hub/v1/audit.proto",
    "copal/hub/v1/cache.proto",
    "copal/hub/v1/job.proto",
    "copal/hub/v1/lead.proto",
    "copal/hub/v1/lease.proto",
    "copal/hub/v1/member.proto",
    "copal/hub/v1/message.proto",
    "copal/hub/v1/object.proto",
    "copal/hub/v1/pipeline.proto",
    "copal/hub/v1/purge.proto",
    "copal/hub/v1/queue.proto",
    "copal/hub/v1/raft.proto",
    "copal/hub/v1/secret.proto",
    "copal/hub/v1/session.proto",
    "copal/hub/v1/session_admin.proto",
    "copal/hub/v1/token.proto",
    "copal/hub/v1/topic.proto",
    "copal/hub/v1/triad.proto",
    "copal/hub/v1/watch.proto",
    "copal/logs/v1/logs.proto",
    "copal/requests/v1/request.proto",
    "copal/session/v1/memory.proto",
    "copal/status/v1/health.proto",
    "copal/status/v1/status.proto",
    "copal/web/v1/balancer.proto",
    "copal/web/v1/cache.proto",
    "grpc/health/v1/health.proto",
    "opentelemetry/v1/trace.proto",
];

#[test]
fn the_generated_code_is_that_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [root.join("proto")]).unwrap();
    // Values are shared, not copied, between the log, the state and the wire.
    let build = tonic_prost_build::configure().bytes(".");
    // Very many outcomes are remembered, and hardly one is of a job.
    let build = build.boxed(".copal.hub.v1.QueueOutcome.outcome.job_put");
    build.out_dir(made.path()).compile_fds(descriptors).unwrap();
    let (kept, made) = (root.join("src/generated"), read(made.path()));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::remove_dir_all(&kept).unwrap();
        fs::create_dir(&kept).unwrap();
        made.iter().for_each(|(name, text)| fs::write(kept.join(name), text).unwrap());
    }
    let kept = read(&kept);
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (name, text) in &made {
        assert!(kept[name] == *text, "{} is of other .proto files: UPDATE_EXPECT=1 mends it", name.display());
    }
}

fn read(folder: &Path) -> BTreeMap<OsString, String> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files.map(|it| (it.file_name(), fs::read_to_string(it.path()).unwrap())).collect()
}

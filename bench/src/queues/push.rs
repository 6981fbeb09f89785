//! Messages with which apps are called: three servers with an app each, which does nothing.

use super::{Arguments, copal};
use anyhow::Context;
use std::{env, fs, path::Path, time::Instant};

/// Messages of a run.
const COUNT: usize = 60_000;
const WARM: usize = 5_000;

/// The servers are the hub's own, and this process is one that has no app.
const FILE: &str = "
queue-memory-max: 8G
triad: [hub-a, hub-b, hub-c]
clusters:
  - id: hub
    servers:
      - {id: hub-a, address: 127.0.0.1, port: 26800}
      - {id: hub-b, address: 127.0.0.1, port: 26801}
      - {id: hub-c, address: 127.0.0.1, port: 26802}
    hosts: [{id: \"\", web-apps: [{id: \"\", root-directory: app}]}]
  - id: clients
    servers: [{id: bench, address: 127.0.0.1, port: 26803}]
    hosts: [{id: bench.example, web-apps: [{id: \"\", root-directory: none}]}]
";

/// Messages a second that are published over gRPC, each of which is posted to an app, and settled.
pub(super) async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<(f64, String)> {
    let bench = env::current_exe()?;
    let app = folder.join("app");
    fs::create_dir_all(&app)?;
    fs::create_dir_all(folder.join("none"))?;
    let command = bench.to_str().context("a path that is no text")?;
    let yaml = format!(
        "command: [{command:?}, backend, --plain, \"127.0.0.1:${{PORT}}\"]\nqueues: [{{name: push, path: /on, concurrency: 64}}]\n"
    );
    fs::write(app.join("app.yaml"), yaml)?;
    let file = folder.join("copal.yaml");
    fs::write(&file, FILE)?;
    let (copal, _processes) = copal::start_with(arguments, &file, folder).await?;
    copal.fill("push", (WARM, 1), 128).await?;
    copal.settled("push", WARM).await?;
    let began = Instant::now();
    copal.fill("push", (COUNT, 1), 128).await?;
    copal.settled("push", WARM + COUNT).await?;
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    Ok((
        rate,
        "messages/s of 1 KB, published, posted to an app on one of three servers, one a call, and settled"
            .to_owned(),
    ))
}

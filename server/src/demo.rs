//! `copal demo`: a whole cluster on loopback, in one process or one process a server.

mod files;
mod one_process;
mod processes;

use crate::{
    check::{BAD_CONFIGURATION, complain, say},
    cli::DemoArguments,
};
use common::config::{Config, LoadOptions, load};
use std::{path::PathBuf, process::ExitCode};

/// The demo's servers, in the order in which they start; they stop in the reverse.
const SERVERS: [&str; 4] = ["app-a", "app-b", "app-c", "web-a"];

/// The demo's files on disk, and what they say.
#[derive(Debug)]
struct Demo {
    config: Config,
    file: PathBuf,
    folder: PathBuf,
}

pub(crate) fn run(arguments: &DemoArguments) -> ExitCode {
    let done = prepare(arguments).and_then(|demo| {
        if arguments.processes { processes::run(&demo, arguments) } else { one_process::run(&demo) }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            if error.is::<common::config::ConfigErrors>() {
                BAD_CONFIGURATION.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The hidden `copal demo-app` and its like: apps of `examples/`, so that the one binary is the whole demo.
pub(crate) fn run_app<E: Into<anyhow::Error>>(app: impl Future<Output = Result<(), E>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(app).map_err(Into::into));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn prepare(arguments: &DemoArguments) -> anyhow::Result<Demo> {
    let folder = std::path::absolute(&arguments.data_dir)?;
    let file = files::write(&folder)?;
    let options = LoadOptions { port_offset: arguments.port_offset, ..LoadOptions::from_environment() };
    Ok(Demo { config: load(&file, &options)?.config, file, folder })
}

/// What a newcomer can do now.
fn print_what_to_try(demo: &Demo, processes: bool) {
    let port = |is_tls: bool| {
        let mut listeners = demo.config.servers().flat_map(|(_, server)| &server.http);
        listeners.find(|it| it.tls.is_some() == is_tls).map_or(0, |it| it.port)
    };
    let address = format!("http://127.0.0.1:{}", port(false));
    say("");
    say(&format!("Data is in {}. Try, in another terminal:", demo.folder.display()));
    say("");
    say(&format!("  curl -c cookies -b cookies {address}/count    # again and again: your session counts"));
    say(&format!(
        "  curl {address}/ticks                      # a daemon counts seconds, on one server of the cluster"
    ));
    say(&format!(
        "  curl --cacert '{}' https://localhost:{}/count   # the same over TLS; HTTP/2 and HTTP/3 too",
        demo.folder.join(files::CERTIFICATE[0]).display(),
        port(true)
    ));
    if processes {
        say(
            "  kill -9 <the pid of the server that answered>           # its number is above: the count goes on",
        );
    } else {
        say(
            "  copal demo --processes                                  # the same, with servers that you can kill",
        );
    }
    let tool = std::env::current_exe().ok().map(|this| this.with_file_name("deploy-tool"));
    let tool = tool.filter(|it| it.exists()).map_or("deploy-tool".to_owned(), |it| it.display().to_string());
    let password = demo.folder.join(files::PASSWORD);
    say(&format!(
        "  open {address}/ in a browser; {address}/admin is the status page (user and password below)"
    ));
    say(&format!(
        "  export COPAL_URL={address}/admin COPAL_USER={} COPAL_PASSWORD=$(cat '{}')",
        files::USER,
        password.display()
    ));
    say(&format!(
        "  {tool} server disable app-b; {tool} status    # app-b gets no request any more, until: enable app-b"
    ));
    say("");
    say("Ctrl-C stops.");
}

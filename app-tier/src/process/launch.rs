//! Starts one process of an app: its command line, environment, folder and process group.

use super::{
    output::Output,
    pid_file::{PidFile, kill_group},
    run_dir::RunDir,
};
use crate::{proxy::Target, spec::Spec};
use common::{
    config::{Listen, ServersOwn, fill_placeholders},
    id::ServerId,
};
use rustix::process::Signal;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::process::{Child, Command};

/// What every process of an app is started with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The app's folder, absolute: the process's working directory.
    pub(crate) root: PathBuf,
    /// `COPAL_APP`.
    pub(crate) app: String,
    /// A short name of the app for its sockets.
    pub(crate) socket_name: String,
    /// `COPAL_SERVER`.
    pub(crate) server: ServerId,
    /// `COPAL_HUB`: the app API's socket.
    pub(crate) hub: PathBuf,
    /// `COPAL_TOKEN`.
    pub(crate) token: String,
    /// What of this server's environment the process does not get.
    pub(crate) servers_own: ServersOwn,
    /// Where sockets of apps are.
    pub(crate) run_dir: Arc<RunDir>,
    /// Where processes are recorded.
    pub(crate) pids: Arc<PidFile>,
}

impl Launch {
    /// Starts a process of the app; it is killed with its group when the [`Running`] is dropped.
    ///
    /// # Errors
    /// The program does not exist or can't be run; no free port.
    pub(super) fn start(&self, number: usize, spec: &Spec, output: &Arc<Output>) -> io::Result<Running> {
        let (variable, place, target) = self.place(number, spec.listen)?;
        let fill = |text: &str| fill_placeholders(text, &[(variable, &place)]);
        let (program, arguments) =
            spec.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(self.program(&fill(program)));
        command.args(arguments.iter().map(|argument| fill(argument)));
        command.current_dir(&self.root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in std::env::vars_os() {
            if self.servers_own.has(name.as_encoded_bytes(), value.as_encoded_bytes()) {
                command.env_remove(name);
            }
        }
        command.env(variable, &place).env("COPAL_HUB", &self.hub).env("COPAL_TOKEN", &self.token);
        command.env("COPAL_APP", &self.app).env("COPAL_SERVER", self.server.as_str());
        command.envs(spec.env.iter().map(|(name, value)| (name, fill(value))));
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        self.pids.add(pid);
        if let Some(pipe) = child.stdout.take() {
            output.follow(pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            output.follow(pipe);
        }
        Ok(Running { child, pid, target, pids: self.pids.clone() })
    }

    /// A relative program with a slash is meant from the app's folder; a bare name is searched in `PATH`.
    fn program(&self, program: &str) -> PathBuf {
        let path = Path::new(program);
        if program.contains('/') && path.is_relative() { self.root.join(path) } else { path.to_owned() }
    }

    /// The variable that tells the process where to listen, its value, and where it will be reached.
    fn place(&self, number: usize, listen: Listen) -> io::Result<(&'static str, String, Target)> {
        match listen {
            Listen::Tcp => {
                // Free now; should another process take it first, the app ends with "address in use" and is started
                // again on another port.
                let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
                let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                Ok(("PORT", port.to_string(), target))
            }
            Listen::Unix => {
                let path = self.run_dir.socket(&format!("{}-{number}", self.socket_name));
                let _ = std::fs::remove_file(&path);
                let text = path.to_str().ok_or_else(|| io::Error::other("the socket's path is not UTF-8"))?;
                Ok(("SOCKET", text.to_owned(), Target::Unix(path.clone())))
            }
        }
    }
}

/// A running process.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pid: i32,
    /// Where it listens, once it does.
    pub(super) target: Target,
    pids: Arc<PidFile>,
}

impl Running {
    /// Waits for the process to end.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the process and its group: SIGTERM, after `timeout` SIGKILL.
    pub(super) async fn stop(mut self, timeout: Duration) {
        kill_group(self.pid, Signal::TERM);
        if tokio::time::timeout(timeout, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.pid, ?timeout, "the app did not end on SIGTERM: killing it");
        }
        // The rest, SIGKILL to the group and the record, is the drop's.
    }
}

impl Drop for Running {
    /// Also after a normal end: what the process started may still run.
    fn drop(&mut self) {
        kill_group(self.pid, Signal::KILL);
        self.pids.remove(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{LoadOptions, load_str};

    #[tokio::test]
    async fn an_app_gets_the_environment_without_what_is_the_servers_own() {
        // A variable of this test that no other name's value contains by chance, and one that has it in it.
        let (name, key) = ("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"));
        let data = tempfile::tempdir().unwrap();
        let text = format!(
            "cluster-key: '${{{name}:-{key}}}'\nclusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}]}}]"
        );
        let options = LoadOptions::from_environment();
        let config = load_str(&text, Path::new("copal.yaml"), &options).unwrap().config;
        let launch = Launch {
            root: data.path().to_owned(),
            app: "default/".to_owned(),
            socket_name: "app-0".to_owned(),
            server: "a".into(),
            hub: data.path().join("api"),
            token: "the token".to_owned(),
            servers_own: ServersOwn::new(&config),
            run_dir: Arc::new(RunDir::make(data.path()).unwrap()),
            pids: Arc::new(PidFile::open(data.path()).unwrap()),
        };
        let command = ["sh", "-c", "env > environment"].map(str::to_owned).to_vec();
        let env = vec![("OWN".to_owned(), "of app.yaml".to_owned())];
        let spec = Spec { command, env, ..Spec::default() };
        let mut running = launch.start(0, &spec, &Arc::new(Output::new("app"))).unwrap();
        assert!(running.ended().await.unwrap().success());
        let environment = std::fs::read_to_string(data.path().join("environment")).unwrap();
        assert!(!environment.contains(&format!("{name}=")), "{environment}");
        let inherited =
            environment.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("COPAL_"));
        assert!(inherited.clone().all(|line| !line.contains(key)), "{environment}");
        assert!(inherited.clone().any(|line| line.starts_with("PATH=")), "{environment}");
        for expected in ["COPAL_TOKEN=the token", "COPAL_APP=default/", "COPAL_SERVER=a", "OWN=of app.yaml"] {
            assert!(environment.lines().any(|line| line == expected), "{expected}: {environment}");
        }
    }
}

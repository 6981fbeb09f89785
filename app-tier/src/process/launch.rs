//! Starts one process of an app: its command line, environment, folder and process group.

use super::{
    confine::{Confinement, Place},
    output::Output,
    pid_file::{PidFile, kill_group, kill_marked},
    run_dir::RunDir,
};
use crate::{local_api::Addresses, proxy::Target, spec::Spec};
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
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

/// A process that was killed is gone within this.
const KILLED: Duration = Duration::from_secs(2);

/// Tells one start of an app from all others, for what leaves its process's group.
pub(super) const RUN: &str = "COPAL_RUN";

/// Of the service manager's protocol (sd_notify(3)): no app is to speak for the server.
const SERVICE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

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
    /// `COPAL_HUB` and `COPAL_API`: the local API.
    pub(crate) api: Addresses,
    /// `COPAL_TOKEN`.
    pub(crate) token: String,
    /// What of this server's environment the process does not get.
    pub(crate) servers_own: ServersOwn,
    /// Where sockets of apps are.
    pub(crate) run_dir: Arc<RunDir>,
    /// Where processes are recorded.
    pub(crate) pids: Arc<PidFile>,
    /// What its processes may do.
    pub(crate) confinement: Confinement,
}

impl Launch {
    /// Starts a process of the app, which will listen at the target; it is killed with its group when the [`Running`] is dropped.
    ///
    /// # Errors
    /// The program does not exist or can't be run; no free port.
    pub(super) fn start(
        &self,
        number: usize,
        spec: &Spec,
        output: &Arc<Output>,
    ) -> io::Result<(Running, Target)> {
        let Listening { variable, place, sockets, target } = self.place(number, spec.listen)?;
        let data = self.confinement.data()?;
        let fill = |text: &str| fill_placeholders(text, &[(variable, &place), ("DATA", data)]);
        let words: Vec<String> = spec.command.iter().map(|word| fill(word)).collect();
        let at = Place { root: &self.root, writes_root: false, sockets: sockets.as_deref() };
        let mut command = self.command(&words, at)?;
        command.env(variable, &place);
        self.tell_of_api(&mut command);
        command.envs(spec.env.iter().map(|(name, value)| (name, fill(value))));
        Ok((self.run(command, output)?, target))
    }

    /// Starts a further process of the app, which serves no requests: `variables` tell it what it is for.
    ///
    /// # Errors
    /// The program does not exist or can't be run.
    pub(crate) fn start_beside(
        &self,
        words: &[String],
        env: &[(String, String)],
        variables: &[(&str, &str)],
        (output, run): (&Arc<Output>, &str),
    ) -> io::Result<Running> {
        let data = self.confinement.data()?;
        let words: Vec<String> =
            words.iter().map(|word| fill_placeholders(word, &[("DATA", data)])).collect();
        let mut command =
            self.command(&words, Place { root: &self.root, writes_root: false, sockets: None })?;
        self.tell_of_api(&mut command);
        command.envs(env.iter().map(|(name, value)| (name, fill_placeholders(value, &[("DATA", data)]))));
        command.envs(variables.iter().copied());
        self.run_as(command, output, run.to_owned())
    }

    fn tell_of_api(&self, command: &mut Command) {
        command.env("COPAL_HUB", &self.api.socket).env("COPAL_TOKEN", &self.token);
        command.env("COPAL_API", format!("http://{}", self.api.tcp));
    }

    /// A command line of the app, with what every program of it gets of the environment.
    pub(super) fn command(&self, words: &[String], at: Place<'_>) -> io::Result<Command> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = self.confinement.command(&self.program(program), at);
        command.args(arguments).current_dir(&self.root);
        for (name, value) in std::env::vars_os() {
            if self.servers_own.has(name.as_encoded_bytes(), value.as_encoded_bytes()) {
                command.env_remove(name);
            }
        }
        for name in SERVICE_MANAGER {
            command.env_remove(name);
        }
        command.env("COPAL_APP", &self.app).env("COPAL_SERVER", self.server.as_str());
        command.envs(self.confinement.environment());
        Ok(command)
    }

    /// Starts it in a group of its own; what it prints is logged.
    pub(super) fn run(&self, command: Command, output: &Arc<Output>) -> io::Result<Running> {
        self.run_as(command, output, Self::new_run())
    }

    /// What marks one start of an app, and all that it starts.
    pub(crate) fn new_run() -> String {
        format!("{:016x}", rand::random::<u64>())
    }

    fn run_as(&self, mut command: Command, output: &Arc<Output>, run: String) -> io::Result<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(RUN, &run);
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        self.pids.add(pid);
        let stdout = child.stdout.take().map(|pipe| output.follow(pipe));
        let stderr = child.stderr.take().map(|pipe| output.follow(pipe));
        let pipes = stdout.into_iter().chain(stderr).collect();
        Ok(Running { child, pid, run, pipes, pids: self.pids.clone() })
    }

    /// A relative program with a slash is meant from the app's folder; a bare name is searched in `PATH`.
    fn program(&self, program: &str) -> PathBuf {
        let path = Path::new(program);
        if program.contains('/') && path.is_relative() { self.root.join(path) } else { path.to_owned() }
    }

    fn place(&self, number: usize, listen: Listen) -> io::Result<Listening> {
        if self.confinement.has_user() {
            self.run_dir.open_to_users()?;
        }
        match listen {
            Listen::Tcp => {
                // Free now; should another process take it first, the app ends with "address in use" and is started
                // again on another port.
                let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
                let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                Ok(Listening { variable: "PORT", place: port.to_string(), sockets: None, target })
            }
            Listen::Unix => {
                let sockets = self.run_dir.of_app(&self.socket_name, self.confinement.user.as_ref())?;
                let path = sockets.join(format!("{number}.sock"));
                let _ = std::fs::remove_file(&path);
                let text = path.to_str().ok_or_else(|| io::Error::other("the socket's path is not UTF-8"))?;
                let (place, target) = (text.to_owned(), Target::Unix(path.clone()));
                Ok(Listening { variable: "SOCKET", place, sockets: Some(sockets), target })
            }
        }
    }
}

/// Where a process is to listen.
struct Listening {
    /// What tells it.
    variable: &'static str,
    /// The variable's value.
    place: String,
    /// The folder of its socket, if it has one.
    sockets: Option<PathBuf>,
    /// Where it will be reached.
    target: Target,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: i32,
    /// [`RUN`] in its environment, and in that of what it starts.
    run: String,
    /// Who copies what it prints.
    pipes: Vec<JoinHandle<()>>,
    pids: Arc<PidFile>,
}

impl Running {
    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or_default()
    }

    /// What marks all processes that it starts.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Resolves when all that it printed is in its [`Output`]: its pipes are closed, by whoever else had them too.
    pub(super) fn printed(&mut self) -> impl Future<Output = ()> + use<> {
        let pipes = std::mem::take(&mut self.pipes);
        async move {
            for pipe in pipes {
                // A panic of a copy is in the log.
                let _ = pipe.await;
            }
        }
    }

    /// Ends the process: SIGTERM, after `limit` or when `cut` says so SIGKILL. Whether it is dead.
    pub(crate) async fn end(mut self, limit: Duration, cut: impl Future<Output = ()>) -> bool {
        kill_group(self.pid, Signal::TERM);
        let has_ended = tokio::select! {
            ended = tokio::time::timeout(limit, self.child.wait()) => ended.is_ok(),
            () = cut => false,
        };
        if !has_ended {
            tracing::warn!(pid = self.pid, "a daemon did not end on SIGTERM: killing it");
            kill_group(self.pid, Signal::KILL);
        }
        tokio::time::timeout(KILLED, self.child.wait()).await.is_ok()
    }

    /// Ends the process and its group: SIGTERM, after `timeout` SIGKILL.
    pub(crate) async fn stop(mut self, timeout: Duration) {
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
        kill_marked(&format!("{RUN}={}", self.run));
        self.pids.remove(self.pid);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use common::config::{LoadOptions, load_str};

    /// Of an app in `root`, which is the data folder too.
    pub(crate) fn launch(root: &Path) -> Launch {
        Launch {
            root: root.to_owned(),
            app: "default/".to_owned(),
            socket_name: "app-0".to_owned(),
            server: "a".into(),
            api: Addresses { socket: root.join("api"), tcp: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) },
            token: "the token".to_owned(),
            servers_own: ServersOwn::default(),
            run_dir: Arc::new(RunDir::make(root).unwrap()),
            pids: Arc::new(PidFile::open(root).unwrap()),
            confinement: Confinement::off(root),
        }
    }

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
        let launch = Launch { servers_own: ServersOwn::new(&config), ..launch(data.path()) };
        let command = ["sh", "-c", "env > environment"].map(str::to_owned).to_vec();
        let env = vec![("OWN".to_owned(), "of app.yaml".to_owned())];
        let spec = Spec { command, env, ..Spec::default() };
        let (mut running, _) = launch.start(0, &spec, &Arc::new(Output::new("app"))).unwrap();
        assert!(running.ended().await.unwrap().success());
        let environment = std::fs::read_to_string(data.path().join("environment")).unwrap();
        assert!(!environment.contains(&format!("{name}=")), "{environment}");
        let inherited =
            environment.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("COPAL_"));
        assert!(inherited.clone().all(|line| !line.contains(key)), "{environment}");
        assert!(inherited.clone().any(|line| line.starts_with("PATH=")), "{environment}");
        let own = format!("DATA={}/app-data/app", data.path().display());
        for expected in
            [own.as_str(), "COPAL_TOKEN=the token", "COPAL_APP=default/", "COPAL_SERVER=a", "OWN=of app.yaml"]
        {
            assert!(environment.lines().any(|line| line == expected), "{expected}: {environment}");
        }
    }
}

//! The configuration that servers go by, without its secrets, and which of them have another one.

use crate::{
    Admin, Inner,
    ask::{Answers, SilentServer, ask_all},
};
use common::config::{Config, topology_hash};
use proto::config::v1::{
    EffectiveConfiguration, GetConfiguration,
    configuration_client::ConfigurationClient,
    configuration_server::{Configuration, ConfigurationServer},
};
use serde::Serialize;
use tonic::{Request, Response, Status};

/// Lines in which a server differs that are told.
const LINES_MAX: usize = 40;

/// Lines are compared each with each up to so many pairs; beyond it nobody reads the difference.
const PAIRS_MAX: usize = 4_000_000;

/// The largest answer that is taken, in bytes.
const MESSAGE_MAX: usize = 4 << 20;

/// `GET /api/v1/configuration`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ConfigurationRecord {
    /// The server that answers.
    pub(crate) server: String,
    /// The file that it was read from.
    pub(crate) file: String,
    /// As YAML, without its secrets.
    pub(crate) text: String,
    /// The same on servers whose configuration says the same.
    pub(crate) hash: String,
    /// The others.
    pub(crate) servers: Vec<OtherRecord>,
    pub(crate) silent: Vec<SilentServer>,
}

/// Another server's.
#[derive(Debug, Serialize)]
pub(crate) struct OtherRecord {
    pub(crate) server: String,
    pub(crate) file: String,
    pub(crate) hash: String,
    /// Whether it says the same.
    pub(crate) same: bool,
    /// Whether it names the same servers in the same order, as it must.
    pub(crate) same_servers: bool,
    /// `-` and a line of this server's, `+` and one of the other's; the first of them.
    pub(crate) lines: Vec<String>,
}

/// What the server says that goes by `config`.
fn effective(config: &Config) -> EffectiveConfiguration {
    EffectiveConfiguration {
        file: config.file.display().to_string(),
        text: config.effective.to_string(),
        hash: hash(config),
        topology_hash: topology_hash(config),
    }
}

/// 64-bit FNV-1a over the text and the users' password hashes, which are not in it. (Those are salted. The cluster's key is left out:
/// who can guess it could find out that he has.)
fn hash(config: &Config) -> u64 {
    let hashes = config.admin_users.iter().map(|it| it.password.to_string());
    let texts = [config.effective.to_string()].into_iter().chain(hashes);
    let bytes = texts.flat_map(|it| it.into_bytes().into_iter().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl ConfigurationRecord {
    /// Of this server's configuration, and what others said.
    pub(crate) fn of(config: &Config, me: &str, answers: Answers<EffectiveConfiguration>) -> Self {
        let own = effective(config);
        let others = answers.said.into_iter().filter(|(server, _)| server != me);
        let servers = others.map(|(server, it)| OtherRecord {
            server,
            hash: format!("{:016x}", it.hash),
            same: it.hash == own.hash,
            same_servers: it.topology_hash == own.topology_hash,
            lines: difference(&own.text, &it.text),
            file: it.file,
        });
        Self {
            server: me.to_owned(),
            servers: servers.collect(),
            hash: format!("{:016x}", own.hash),
            file: own.file,
            text: own.text,
            silent: answers.silent,
        }
    }
}

/// The first lines in which two texts differ.
fn difference(ours: &str, theirs: &str) -> Vec<String> {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    let before = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let (ours, theirs) = (&ours[before..], &theirs[before..]);
    let behind = ours.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b).count();
    let (ours, theirs) = (&ours[..ours.len() - behind], &theirs[..theirs.len() - behind]);
    let mut lines = if ours.len().saturating_mul(theirs.len()) > PAIRS_MAX {
        let minus = ours.iter().map(|it| format!("-{it}"));
        minus.chain(theirs.iter().map(|it| format!("+{it}"))).take(LINES_MAX + 1).collect()
    } else {
        compared(ours, theirs)
    };
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX);
        lines.push("…".to_owned());
    }
    lines
}

/// By the longest common subsequence.
fn compared(ours: &[&str], theirs: &[&str]) -> Vec<String> {
    let width = theirs.len() + 1;
    // How many lines are common from these places on.
    let mut common = vec![0_u32; (ours.len() + 1) * width];
    for a in (0..ours.len()).rev() {
        for b in (0..theirs.len()).rev() {
            common[a * width + b] = if ours[a] == theirs[b] {
                common[(a + 1) * width + b + 1] + 1
            } else {
                common[(a + 1) * width + b].max(common[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b, mut lines) = (0, 0, Vec::new());
    while a < ours.len() || b < theirs.len() {
        let at = |a: usize, b: usize| common[a * width + b];
        if a < ours.len() && b < theirs.len() && ours[a] == theirs[b] {
            (a, b) = (a + 1, b + 1);
        } else if b == theirs.len() || (a < ours.len() && at(a + 1, b) >= at(a, b + 1)) {
            lines.push(format!("-{}", ours[a]));
            a += 1;
        } else {
            lines.push(format!("+{}", theirs[b]));
            b += 1;
        }
    }
    lines
}

impl Inner {
    /// The configuration of this server, and how those of the others differ.
    pub(crate) async fn configuration(&self, config: &Config) -> ConfigurationRecord {
        let answers = ask_all(self.collector.channels(config).await, |_, channel| async move {
            let mut client = ConfigurationClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            client.get(GetConfiguration {}).await
        });
        ConfigurationRecord::of(config, self.me.as_str(), answers.await)
    }
}

impl Admin {
    /// What tells other servers of this one's configuration, for the cluster port.
    pub fn configuration_service(&self) -> ConfigurationServer<impl Configuration + use<>> {
        ConfigurationServer::new(ConfigurationService(self.clone()))
    }
}

#[derive(Debug)]
struct ConfigurationService(Admin);

#[tonic::async_trait]
impl Configuration for ConfigurationService {
    async fn get(&self, _: Request<GetConfiguration>) -> Result<Response<EffectiveConfiguration>, Status> {
        Ok(Response::new(effective(&self.0.inner.config())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_in_which_files_differ_are_told() {
        assert!(difference("a\nb\n", "a\nb\n").is_empty());
        let (ours, theirs) = ("a\nb\nc\nd\ne\n", "a\nx\nc\ne\nf\n");
        assert_eq!(difference(ours, theirs), ["-b", "+x", "-d", "+f"]);
        let numbers = |from: usize| (from..from + 3000).map(|it| format!("{it}\n")).collect::<String>();
        let lines = difference(&numbers(0), &numbers(10_000));
        assert_eq!((lines.len(), lines[LINES_MAX].as_str()), (LINES_MAX + 1, "…"));
    }

    #[test]
    fn others_are_the_same_or_not() {
        let config = crate::status::planted::config();
        let own = effective(&config);
        let mut other = own.clone();
        other.text = other.text.replace("port: 8080", "port: 9090");
        other.hash ^= 1;
        let said = [("app-a", own.clone()), ("app-b", other), ("web-a", own)];
        let said = said.into_iter().map(|(id, it)| (id.to_owned(), it)).collect();
        let record =
            ConfigurationRecord::of(&config, "web-a", Answers { said, silent: Vec::new(), invalid: None });
        let told: Vec<_> =
            record.servers.iter().map(|it| (it.server.as_str(), it.same, it.lines.len())).collect();
        assert_eq!(told, [("app-a", true, 0), ("app-b", false, 2)]);
        assert!(record.servers[1].same_servers);
    }
}

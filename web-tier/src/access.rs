//! `basic-auth` and `jwt`: who may pass. What is known of users and guesses is the process's, made at the start and at a reload.

use common::{
    clock::SystemClock,
    config::{self, Action, Cluster, Config, ConfigErrors, Guard, JwtKeys, Problem, SiteUser},
    id::ServerId,
    tls_files::{FileFault, TlsError, read},
};
use jwt::{Keys, Rules};
use password_gate::{PasswordGate, htpasswd};
use std::{collections::HashSet, sync::Arc};

/// Of all rules of a server's cluster; rules that say the same share it.
#[derive(Debug, Default)]
pub(crate) struct Access {
    sites: Vec<Arc<Site>>,
    tokens: Vec<Arc<Tokens>>,
}

/// The users of one `basic-auth`.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: config::BasicAuth,
    pub(crate) users: Vec<SiteUser>,
    pub(crate) gate: PasswordGate,
    /// `WWW-Authenticate`.
    pub(crate) challenge: String,
}

/// The keys of one `jwt`.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) config: config::JwtAuth,
    pub(crate) keys: Keys,
    pub(crate) rules: Rules,
}

impl Access {
    /// Reads the files of a cluster's rules. What `before` knows of guesses, and of passwords that were right, lives on where the users
    /// are the same. Blocks on the file system.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(crate) fn new(cluster: &Cluster, before: Option<&Self>) -> Result<Self, TlsError> {
        let mut access = Self::default();
        for rule in cluster.hosts.iter().flat_map(|host| &host.dispatch) {
            match &rule.action {
                Action::Guard(Guard::BasicAuth(config)) if access.site(config).is_none() => {
                    let users = users(config)?;
                    let known = before.and_then(|it| it.site(config)).filter(|it| it.users == users);
                    access.sites.push(known.cloned().unwrap_or_else(|| Arc::new(Site::new(config, users))));
                }
                Action::Guard(Guard::Jwt(config)) if access.tokens(config).is_none() => {
                    access.tokens.push(Arc::new(Tokens::new(config)?));
                }
                _ => {}
            }
        }
        Ok(access)
    }

    pub(crate) fn site(&self, config: &config::BasicAuth) -> Option<&Arc<Site>> {
        self.sites.iter().find(|it| it.config == *config)
    }

    pub(crate) fn tokens(&self, config: &config::JwtAuth) -> Option<&Arc<Tokens>> {
        self.tokens.iter().find(|it| it.config == *config)
    }
}

/// Those of the rule, and those of its file.
fn users(config: &config::BasicAuth) -> Result<Vec<SiteUser>, TlsError> {
    let mut users = config.users.clone();
    let Some(file) = &config.users_file else { return Ok(users) };
    let fault = |message: String| TlsError::new(vec![FileFault::new(file, message)]);
    let bytes = read(file).map_err(|cause| TlsError::new(vec![cause]))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8".to_owned()))?;
    let found = htpasswd::parse(&text).map_err(|faults| {
        TlsError::new(faults.iter().map(|it| FileFault::new(file, it.to_string())).collect())
    })?;
    let names: HashSet<&str> = config.users.iter().map(|it| it.name.as_str()).collect();
    if let Some(twice) = found.iter().find(|it| names.contains(it.name.as_str())) {
        return Err(fault(format!("the user `{}` stands in the rule as well", twice.name)));
    }
    users.extend(found);
    Ok(users)
}

impl Site {
    fn new(config: &config::BasicAuth, users: Vec<SiteUser>) -> Self {
        Self {
            users,
            gate: PasswordGate::new(Arc::new(SystemClock), rand::random()),
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", config.realm),
            config: config.clone(),
        }
    }
}

impl Tokens {
    fn new(config: &config::JwtAuth) -> Result<Self, TlsError> {
        let keys = match &config.keys {
            JwtKeys::File(file) => {
                let bytes = read(file).map_err(|cause| TlsError::new(vec![cause]))?;
                let fault =
                    |cause: jwt::KeysError| TlsError::new(vec![FileFault::new(file, cause.to_string())]);
                let keys = Keys::parse(&bytes).map_err(fault)?;
                for why in keys.passed_over() {
                    tracing::warn!(file = %file.path.display(), why, "a key for tokens is passed over");
                }
                keys
            }
            // The configuration has looked at its length.
            JwtKeys::Secret(secret) => Keys::secret(secret.bytes()).unwrap_or_default(),
        };
        let rules = Rules {
            issuer: config.issuers.clone(),
            audience: config.audiences.clone(),
            leeway_s: config.leeway.as_secs(),
            ..Rules::default()
        };
        Ok(Self { config: config.clone(), keys, rules })
    }
}

/// `copal check` on the files of users and of tokens: what is wrong with them, at the places in the configuration that name them. Of every
/// web tier, or of that of the server `only`: files are on the servers that need them, and need not be on others.
///
/// # Errors
/// Files that are missing or hold something else.
pub fn check_access(config: &Config, only: Option<&ServerId>) -> Result<Vec<Problem>, ConfigErrors> {
    let faults = config.web_tiers(only).filter_map(|cluster| Access::new(cluster, None).err());
    ConfigErrors::part(faults.flat_map(|it| it.problems()).collect())
}

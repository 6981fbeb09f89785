//! Where the administration is, and who asks: from the command line, else from the environment.

use crate::{cli::ConnectionArguments, tell};
use anyhow::{Context, bail};
use http::{Uri, uri::Scheme};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, path::PathBuf};

/// Where a web-app with `admin: true` usually is.
const USUAL_PATH: &str = "/admin";

/// A valid address of an administration, with a user.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Without a slash at its end.
    pub(crate) path: String,
    pub(crate) sign_in: SignIn,
    pub(crate) ca_file: Option<PathBuf>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum SignIn {
    Password { user: String, password: String },
    Token(String),
}

impl SignIn {
    /// For people: never the secret itself.
    pub(crate) fn who(&self) -> String {
        match self {
            Self::Password { user, .. } => format!("user {user:?}"),
            Self::Token(_) => "by a token".to_owned(),
        }
    }
}

/// Passwords and tokens are for nobody's eyes.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url())
            .field("who", &self.sign_in.who())
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Takes what the command line has not from the environment.
    ///
    /// # Errors
    /// Something is missing or malformed; the text says how to give it.
    pub(crate) fn of(arguments: &ConnectionArguments) -> anyhow::Result<Self> {
        let target =
            Self::read(arguments, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        if !target.tls && !is_loopback(&target.host) {
            tell(&format!(
                "warning: {} is not https: whoever is on the way can read the password or token",
                target.url()
            ));
        }
        Ok(target)
    }

    fn read(
        arguments: &ConnectionArguments,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let url = arguments.url.clone().or_else(|| environment("COPAL_URL"));
        let url = url.context("where is the administration? Give --url or set COPAL_URL")?;
        let (tls, host, port, path) = parse(&url)?;
        let sign_in = sign_in(arguments, &environment)?;
        let ca_file = arguments.ca_file.clone().or_else(|| environment("COPAL_CA_FILE").map(Into::into));
        Ok(Self { tls, host, port, path, sign_in, ca_file })
    }

    /// For people and for `Host`.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The whole address.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A token or a user on the command line, else a token of the environment, else a user of the environment.
fn sign_in(
    arguments: &ConnectionArguments,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<SignIn> {
    if let Some(file) = &arguments.token_file {
        return Ok(SignIn::Token(token(read_secret("token", file)?)?));
    }
    let by_user = arguments.user.is_some() || arguments.password_file.is_some();
    if let Some(text) = environment("COPAL_ADMIN_TOKEN").filter(|_| !by_user) {
        return Ok(SignIn::Token(token(text)?));
    }
    let user = arguments.user.clone().or_else(|| environment("COPAL_USER"));
    let user = user.context(
        "as which user? Give --user or set COPAL_USER; or a token with --token-file or COPAL_ADMIN_TOKEN",
    )?;
    if user.contains(':') {
        bail!("a user's name has no colon: {user:?}");
    }
    let password = match &arguments.password_file {
        Some(file) => read_secret("password", file)?,
        None => environment("COPAL_PASSWORD")
            .context("with which password? Give --password-file or set COPAL_PASSWORD")?,
    };
    Ok(SignIn::Password { user, password })
}

/// It goes into a header; what it is the error does not repeat.
fn token(text: String) -> anyhow::Result<String> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_graphic()) {
        bail!(
            "the token is none: expected one as `deploy-tool token create` prints it, copal_ and letters and digits"
        );
    }
    Ok(text)
}

fn parse(url: &str) -> anyhow::Result<(bool, String, u16, String)> {
    let expected = "expected a URL such as https://www.example.com/admin";
    let uri: Uri = url.parse().with_context(|| format!("{expected}, found {url:?}"))?;
    let tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => bail!("{expected}, with http or https, found {url:?}"),
    };
    let Some(authority) = uri.authority().filter(|it| !it.as_str().contains('@')) else {
        bail!("{expected}: the user is given with --user");
    };
    if uri.query().is_some() || url.contains('#') {
        bail!("{expected}, without a query, found {url:?}");
    }
    let written = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port = match (written, authority.port_u16()) {
        ("", _) => Some(if tls { 443 } else { 80 }),
        (_, port) => port,
    };
    let Some(port) = port.filter(|_| !authority.host().is_empty()) else {
        bail!("{expected}, found {url:?}");
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = match uri.path().trim_end_matches('/') {
        "" => USUAL_PATH,
        path => path,
    };
    Ok((tls, host, port, path.to_owned()))
}

/// The first line of a file.
fn read_secret(what: &str, file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("the {what} file {}", file.display()))?;
    if let Ok(about) = fs::metadata(file)
        && about.permissions().mode() & 0o077 != 0
    {
        tell(&format!("warning: others can read {}: chmod 600 it", file.display()));
    }
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        bail!("the first line of the {what} file {} is empty", file.display());
    }
    Ok(password.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> anyhow::Result<Target> {
        let arguments =
            ConnectionArguments { url: Some(url.into()), user: Some("ops".into()), ..Default::default() };
        Target::read(&arguments, |name| (name == "COPAL_PASSWORD").then(|| "secret".into()))
    }

    #[test]
    fn a_url_is_taken_apart_and_its_path_may_be_left_out() {
        let url = |text| read(text).unwrap().url();
        assert_eq!(url("http://127.0.0.1:8080"), "http://127.0.0.1:8080/admin");
        assert_eq!(url("http://127.0.0.1:80/"), "http://127.0.0.1/admin");
        assert_eq!(url("HTTPS://www.example.com:443/a/b/"), "https://www.example.com/a/b");
        let six = read("http://[::1]:8080/x").unwrap();
        assert_eq!((six.host.as_str(), six.port, six.url().as_str()), ("::1", 8080, "http://[::1]:8080/x"));
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://h/",
            "http://u:p@h/",
            "http://h/?a=b",
            "http://h:99999/",
            "http://h:/",
            "/admin",
        ] {
            let error = format!("{:#}", read(bad).unwrap_err());
            assert!(error.contains("expected a URL"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_and_the_command_line_wins() {
        let none = ConnectionArguments::default();
        let fault = |has: &[&str]| {
            let read = Target::read(&none, |name| has.contains(&name).then(|| "http://h".into()));
            read.unwrap_err().to_string()
        };
        assert!(fault(&[]).contains("COPAL_URL"));
        assert!(fault(&["COPAL_URL"]).contains("COPAL_USER"));
        let given = ConnectionArguments { user: Some("ops".into()), ..Default::default() };
        let read = |has: &'static [&str]| {
            Target::read(&given, |name| has.contains(&name).then(|| "http://h".into()))
        };
        assert!(read(&["COPAL_URL", "COPAL_USER"]).unwrap_err().to_string().contains("COPAL_PASSWORD"));
        let target = read(&["COPAL_URL", "COPAL_USER", "COPAL_PASSWORD"]).unwrap();
        assert!(target.sign_in == SignIn::Password { user: "ops".into(), password: "http://h".into() });
        assert!(!format!("{target:?}").contains("password"));
    }

    #[test]
    fn a_token_needs_no_user_and_the_command_line_wins() {
        let read = |arguments: &ConnectionArguments, has: &[&str]| {
            let given = |name: &str| match name {
                "COPAL_URL" => Some("http://h".to_owned()),
                name => has.contains(&name).then(|| format!("{name}-x")),
            };
            Target::read(arguments, given).map(|it| it.sign_in.who())
        };
        let none = ConnectionArguments::default();
        assert_eq!(read(&none, &["COPAL_ADMIN_TOKEN"]).unwrap(), "by a token");
        assert_eq!(
            read(&none, &["COPAL_ADMIN_TOKEN", "COPAL_USER", "COPAL_PASSWORD"]).unwrap(),
            "by a token"
        );
        let user = ConnectionArguments { user: Some("ops".into()), ..Default::default() };
        assert_eq!(read(&user, &["COPAL_ADMIN_TOKEN", "COPAL_PASSWORD"]).unwrap(), "user \"ops\"");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "copal_secret\n").unwrap();
        let by_file = ConnectionArguments { token_file: Some(file.clone()), ..Default::default() };
        assert_eq!(read(&by_file, &[]).unwrap(), "by a token");
        fs::write(&file, "two words\n").unwrap();
        let error = read(&by_file, &[]).unwrap_err().to_string();
        assert!(error.contains("token create") && !error.contains("words"), "{error}");
        assert!(read(&none, &[]).unwrap_err().to_string().contains("COPAL_ADMIN_TOKEN"));
    }

    #[test]
    fn a_password_file_is_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "secret word\nnot this\n").unwrap();
        assert_eq!(read_secret("password", &file).unwrap(), "secret word");
        fs::write(&file, "\n").unwrap();
        assert!(read_secret("password", &file).unwrap_err().to_string().contains("empty"));
        assert!(
            format!("{:#}", read_secret("password", &folder.path().join("none")).unwrap_err())
                .contains("none")
        );
    }
}

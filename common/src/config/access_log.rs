//! `access-log`: where requests are written down, what a line looks like, and which of them are written.

use super::{
    bounds::TIMEOUT,
    decode::Fields,
    keys,
    log_format::LogFormat,
    names,
    node::{Node, Value},
    quoted::quoted,
    traces,
    units::format_duration,
};
use crate::id::ServerId;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// `sample`: all of them.
const ALL: u32 = 1_000_000;

/// `slow`: what takes as long is written in any case.
const SLOW: Duration = Duration::from_secs(1);

/// The port of syslog, over UDP (RFC 5426 §3.3) and TCP (RFC 6587).
const SYSLOG_PORT: u16 = 514;

/// The longest APP-NAME (RFC 5424 §6).
const APP_NAME_MAX: usize = 48;

/// `access-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `path`, absolute; [`AccessLog::SERVER`] in it stands for the server's id, so see [`AccessLog::of`].
    pub path: Option<PathBuf>,
    /// `format`: combined.
    pub format: AccessLogFormat,
    /// `syslog`: in place of the file, or beside it.
    pub syslog: Option<Syslog>,
    /// `sample` (1): how many of a million requests that went well and fast are written.
    pub sampled_ppm: u32,
    /// `slow` (1 s): what takes as long is written in any case.
    pub slow: Duration,
    /// `errors`: the file for requests that failed, absolute, with [`AccessLog::SERVER`] in it as in `path`.
    pub errors: Option<PathBuf>,
}

impl AccessLog {
    /// What stands for the id of the server that writes.
    pub const SERVER: &str = "${server.id}";

    /// All requests in one file.
    pub fn to_file(path: PathBuf, format: AccessLogFormat) -> Self {
        Self { path: Some(path), format, syslog: None, sampled_ppm: ALL, slow: SLOW, errors: None }
    }

    /// That of one server.
    #[must_use]
    pub fn of(&self, server: &ServerId) -> Self {
        let named = |text: &str| text.replace(Self::SERVER, server.as_str());
        let path = |path: &PathBuf| path.to_str().map_or_else(|| path.clone(), |it| named(it).into());
        let mut own = self.clone();
        own.path = self.path.as_ref().map(path);
        own.errors = self.errors.as_ref().map(path);
        if let Some(syslog) = &mut own.syslog {
            syslog.app_name = named(&syslog.app_name);
            syslog.app_name.truncate(APP_NAME_MAX);
        }
        own
    }

    /// Whether requests that went well are left out, some of them or all.
    pub fn samples(&self) -> bool {
        self.sampled_ppm < ALL
    }
}

/// `format` of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Apache's and nginx's common log format.
    Common,
    /// The same with `Referer` and `User-Agent`.
    Combined,
    /// One JSON object a line, with all that is known.
    Json,
    /// A text with variables.
    Own(Arc<LogFormat>),
}

impl AccessLogFormat {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
            Self::Own(_) => "a format of its own",
        }
    }
}

/// `syslog` of an access log (RFC 5424).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// `address`.
    pub address: SyslogAddress,
    /// `facility` (local7), 0 to 23 (RFC 5424 §6.2.1).
    pub facility: u8,
    /// `app-name` (copal): 1 to 48 graphic ASCII characters; [`AccessLog::SERVER`] in it as in a path.
    pub app_name: String,
}

/// Where a syslog server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// `udp://host:port`: a datagram a line (RFC 5426).
    Udp(String, u16),
    /// `tcp://host:port`: lines with their length before them (RFC 6587 §3.4.1).
    Tcp(String, u16),
    /// `unix:/dev/log`: a datagram a line to a socket of this machine.
    Unix(PathBuf),
}

impl std::fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Udp(name, port) => write!(f, "udp://{}:{port}", host(name)),
            Self::Tcp(name, port) => write!(f, "tcp://{}:{port}", host(name)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The facilities by their usual names (RFC 5424 §6.2.1, table 1).
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Reads the key of a cluster. Names may hold `${server.id}`: it stays as it is, and [`AccessLog::of`] puts the id in its place.
pub(super) fn decode(fields: &Fields<'_>, default: AccessLogFormat) -> Option<AccessLog> {
    let context = fields.context.in_server(AccessLog::SERVER);
    let log = Fields::open(context, fields.get("access-log")?, &keys::ACCESS_LOG)?;
    if log.get("syslog").is_none() && log.get("errors").is_none() {
        log.required("path", "name the file that the requests are written to");
    }
    let format = log.get("format").and_then(|node| format(&log, node)).unwrap_or(default);
    let syslog = log.get("syslog").map(|node| syslog(&log, node));
    let errors = log.get("errors").map(|node| errors(&log, node));
    let sampled_ppm = log.get("sample").and_then(|node| traces::share(context, node)).unwrap_or(ALL);
    let slow = log.duration("slow", TIMEOUT).unwrap_or(SLOW);
    if log.get("slow").is_some() && log.get("sample").is_none() && !context.in_default {
        let message = format!(
            "`slow` ({}) has no effect without `sample`: all requests are written",
            format_duration(slow)
        );
        context.error(log.span("slow"), message);
    }
    let path = match log.get("path") {
        Some(node) => Some(context.path(node)?),
        None => None,
    };
    // A log that is wrong is not one without that part.
    let (syslog, errors) = (flatten(syslog)?, flatten(errors)?);
    Some(AccessLog { path, format, syslog, sampled_ppm, slow, errors })
}

#[expect(clippy::option_option, reason = "no key, a wrong value, or one")]
fn flatten<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |read| read.map(Some))
}

fn format(log: &Fields<'_>, node: &Node) -> Option<AccessLogFormat> {
    let words = [
        ("common", AccessLogFormat::Common),
        ("combined", AccessLogFormat::Combined),
        ("json", AccessLogFormat::Json),
    ];
    let context = log.context;
    let is_own = matches!(&node.value, Value::Scalar { text, .. } if text.contains('$'));
    if !is_own {
        let names = [("common", 0), ("combined", 1), ("json", 2)];
        return context.choice(node, &names).map(|at| words[at].1.clone());
    }
    let text = context.checked(node, |text| LogFormat::parse(text).map(drop))?;
    LogFormat::parse(&text).ok().map(|format| AccessLogFormat::Own(Arc::new(format)))
}

fn errors(log: &Fields<'_>, node: &Node) -> Option<PathBuf> {
    let errors = Fields::open(log.context, node, &keys::ERROR_LOG)?;
    errors.required("path", "name the file that failed requests are written to");
    let path = errors.path("path")?;
    if log.get("path").and_then(|node| log.context.path(node)).is_some_and(|it| it == path) {
        let message = "`errors` has the file of the access log itself: give it another";
        log.context.error(errors.span("path"), message);
        return None;
    }
    Some(path)
}

fn syslog(log: &Fields<'_>, node: &Node) -> Option<Syslog> {
    let fields = Fields::open(log.context, node, &keys::SYSLOG)?;
    let address = fields.required("address", "name the syslog server, such as udp://127.0.0.1:514");
    let address = address.and_then(|node| {
        let text = log.context.checked(node, |text| syslog_address(text).map(drop))?;
        let address = syslog_address(&text).ok()?;
        Some(match address {
            SyslogAddress::Unix(path) => SyslogAddress::Unix(log.context.absolute(&path, node.span)),
            address => address,
        })
    });
    let facility = fields.get("facility").map(|node| log.context.choice(node, &FACILITIES));
    let app_name = fields.get("app-name").map(|node| log.context.checked(node, app_name));
    Some(Syslog {
        address: address?,
        facility: flatten(facility)?.unwrap_or(23),
        app_name: flatten(app_name)?.unwrap_or_else(|| "copal".to_owned()),
    })
}

/// PRINTUSASCII (RFC 5424 §6).
fn app_name(text: &str) -> Result<(), String> {
    if (1..=APP_NAME_MAX).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!(
        "expected a name of 1 to {APP_NAME_MAX} characters without spaces (ASCII), found {}",
        quoted(text)
    ))
}

fn syslog_address(text: &str) -> Result<SyslogAddress, String> {
    let wrong = || {
        format!(
            "expected `udp://host:port`, `tcp://host:port` or `unix:/dev/log` of a syslog server, found {}",
            quoted(text)
        )
    };
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let fits = path.starts_with('/') && !path.contains('\0');
        return fits.then(|| SyslogAddress::Unix(path.into())).ok_or_else(wrong);
    }
    let (udp, tcp) = (text.strip_prefix("udp://"), text.strip_prefix("tcp://"));
    let authority = udp.or(tcp).ok_or_else(wrong)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
            let port = port.parse().ok().filter(|port| digits && *port > 0);
            (host, port.ok_or_else(wrong)?)
        }
        _ => (authority, SYSLOG_PORT),
    };
    names::address(host, false).map_err(|_| wrong())?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(if udp.is_some() { SyslogAddress::Udp(host, port) } else { SyslogAddress::Tcp(host, port) })
}

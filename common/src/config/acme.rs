//! `acme` of a cluster: certificates that its servers get by themselves (RFC 8555).

use super::{
    decode::{Context, Fields},
    file_path::FilePath,
    keys,
    model::{ClientAuth, ListenerTls, Server},
    names::is_host_name,
    node::Node,
    quoted::quoted,
    secret::Secret,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use std::net::IpAddr;

/// Let's Encrypt's two.
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The most certificates of a cluster, and the most names of one: authorities have no more.
const CERTIFICATES_MAX: usize = 1000;
const NAMES_MAX: usize = 100;

/// The longest URL, contact or key id.
const TEXT_MAX: usize = 1024;

const CONTACTS_MAX: usize = 10;

/// Which certificates are got, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// `directory`: where the authority's directory is.
    pub directory: String,
    /// `ca`: who has signed that server's own certificate; without it an authority of this machine.
    pub ca: Option<FilePath>,
    /// `contact`: mail addresses for the authority.
    pub contact: Vec<String>,
    /// `challenge` (`http-01`): how it is shown that a name is ours.
    pub challenge: AcmeChallenge,
    /// `key-type` (`ec256`): of the certificates' private keys.
    pub key_type: AcmeKeyType,
    /// `external-account`: the account at the authority to which the one of ACME is bound.
    pub external_account: Option<ExternalAccount>,
    /// `domains`: the names of each certificate, in lower case.
    pub domains: Vec<Vec<String>>,
}

/// `challenge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// A text at a path (RFC 8555 §8.3).
    Http01,
    /// A certificate by ALPN (RFC 8737).
    TlsAlpn01,
}

/// `key-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeKeyType {
    /// ECDSA on P-256.
    Ec256,
    /// ECDSA on P-384.
    Ec384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// `external-account` (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// `key-id`.
    pub key_id: String,
    /// `hmac-key`: its bytes.
    pub hmac_key: Secret,
}

const CHALLENGES: [(&str, AcmeChallenge); 2] =
    [("http-01", AcmeChallenge::Http01), ("tls-alpn-01", AcmeChallenge::TlsAlpn01)];

const KEY_TYPES: [(&str, AcmeKeyType); 4] = [
    ("ec256", AcmeKeyType::Ec256),
    ("ec384", AcmeKeyType::Ec384),
    ("rsa2048", AcmeKeyType::Rsa2048),
    ("rsa4096", AcmeKeyType::Rsa4096),
];

impl AcmeKeyType {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        KEY_TYPES.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

/// Reads `acme` of a cluster.
pub(super) fn decode(fields: &Fields<'_>) -> Option<Acme> {
    let context = fields.context;
    let acme = Fields::open(context, fields.get("acme")?, &keys::ACME)?;
    let hint = "give `staging` to try it (browsers do not believe its certificates), `production`, or a URL";
    let directory = acme.required("directory", hint).and_then(|node| context.checked(node, directory));
    let list =
        acme.required("domains", "list the host names, as `[example.com, [example.org, www.example.org]]`");
    if let Some(list) = list
        && list.is_empty()
        && !context.in_default
    {
        context.error(list.span, "`domains` is empty: list at least one host name");
    }
    let found = Acme {
        directory: directory.map(|it| named(&it).to_owned()).unwrap_or_default(),
        ca: acme.get("ca").and_then(|node| context.file_path(node)),
        contact: contacts(&acme),
        challenge: acme.choice("challenge", &CHALLENGES).unwrap_or(AcmeChallenge::Http01),
        key_type: acme.choice("key-type", &KEY_TYPES).unwrap_or(AcmeKeyType::Ec256),
        external_account: acme.get("external-account").and_then(|node| external_account(context, node)),
        domains: domains(&acme),
    };
    (!context.in_default).then_some(found)
}

fn named(directory: &str) -> &str {
    match directory {
        "staging" => STAGING,
        "production" => PRODUCTION,
        url => url,
    }
}

fn directory(text: &str) -> Result<(), String> {
    let authority = named(text).strip_prefix("https://").and_then(|rest| rest.split(['/', '?']).next());
    let is_plain = text.len() <= TEXT_MAX && text.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
    if is_plain && authority.is_some_and(|it| !it.is_empty() && !it.contains('@')) {
        return Ok(());
    }
    Err(format!(
        "expected `staging`, `production` or the URL of a directory that begins with https://, found {}",
        quoted(text)
    ))
}

fn contacts(acme: &Fields<'_>) -> Vec<String> {
    let context = acme.context;
    let items = acme.items("contact");
    if let Some(beyond) = items.get(CONTACTS_MAX) {
        context.error(beyond.span, format!("`contact` has at most {CONTACTS_MAX} addresses"));
    }
    let check = |text: &str| {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let parts = address.split_once('@').filter(|(user, _)| !user.is_empty());
        let is_plain = address.bytes().all(|it| it.is_ascii_graphic() && !b",;?<>".contains(&it));
        if text.len() <= TEXT_MAX && is_plain && parts.is_some_and(|(_, host)| is_host_name(host)) {
            return Ok(());
        }
        Err(format!("expected a mail address, found {}", quoted(text)))
    };
    let found = items.iter().take(CONTACTS_MAX).filter_map(|node| context.checked(node, check));
    found.map(|it| if it.starts_with("mailto:") { it } else { format!("mailto:{it}") }).collect()
}

fn external_account(context: Context<'_>, node: &Node) -> Option<ExternalAccount> {
    let fields = Fields::open(context, node, &keys::EXTERNAL_ACCOUNT)?;
    let id = fields.required("key-id", "give the id that the authority has told you");
    let key = fields.required("hmac-key", "give the key that the authority has told you, in base64url");
    let id = id.and_then(|node| {
        context.checked(node, |text| {
            let is_plain =
                (1..=TEXT_MAX).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic());
            is_plain.then_some(()).ok_or_else(|| {
                format!("expected 1 to {TEXT_MAX} printable characters, found {}", quoted(text))
            })
        })
    });
    let key = key.and_then(|node| {
        let text = context.string(node)?;
        let bytes = Base64UrlUnpadded::decode_vec(text.trim_end_matches('=')).unwrap_or_default();
        if bytes.len() < 16 {
            context.error(node.span, "the key is not what was expected: 16 bytes or more in base64url");
            return None;
        }
        Some(Secret::from(&bytes[..]))
    });
    Some(ExternalAccount { key_id: id?, hmac_key: key? })
}

fn domains(acme: &Fields<'_>) -> Vec<Vec<String>> {
    let context = acme.context;
    let items = acme.items("domains");
    if let Some(beyond) = items.get(CERTIFICATES_MAX) {
        context.error(beyond.span, format!("`domains` has at most {CERTIFICATES_MAX} certificates"));
    }
    let mut certificates: Vec<Vec<String>> = Vec::new();
    for item in items.iter().take(CERTIFICATES_MAX) {
        let names = context.one_or_more(item);
        if let Some(beyond) = names.get(NAMES_MAX) {
            context.error(beyond.span, format!("a certificate has at most {NAMES_MAX} names"));
        }
        let mut certificate: Vec<String> = Vec::new();
        for node in names.iter().take(NAMES_MAX) {
            let Some(name) = context.checked(node, domain) else { continue };
            let name = name.to_ascii_lowercase();
            if certificate.contains(&name) || certificates.iter().any(|it| it.contains(&name)) {
                context.error(node.span, format!("the name {} stands twice in `domains`", quoted(&name)));
                continue;
            }
            certificate.push(name);
        }
        if !certificate.is_empty() {
            certificates.push(certificate);
        }
    }
    certificates
}

/// A name that can be shown to be ours by `http-01` and `tls-alpn-01`.
fn domain(text: &str) -> Result<(), String> {
    let hint = if text.starts_with("*.") {
        ": a name with `*` takes the challenge dns-01, which is not spoken; list the names"
    } else if text.parse::<IpAddr>().is_ok() {
        ", not an address"
    } else if !text.is_ascii() {
        ": write it in its ASCII form (xn--…)"
    } else if is_host_name(text) && text.contains('.') && !text.contains('_') {
        return Ok(());
    } else if is_host_name(text) {
        " with a dot in it, and without `_`"
    } else {
        ""
    };
    Err(format!("expected a host name{hint}, found {}", quoted(text)))
}

/// Checks that what is got is shown somewhere, and can be got.
pub(super) fn check(fields: &Fields<'_>, acme: Option<&Acme>, servers: &[Server]) {
    let context = fields.context;
    if context.in_default {
        return;
    }
    let shows = |it: &Server| tls_of(it).next().is_some();
    let Some(acme) = acme else {
        if let (Some(server), None) = (servers.iter().find(|it| shows(it)), fields.get("acme")) {
            let message = format!(
                "a listener of the server `{}` has `acme: true`, and the cluster has no `acme`: say which certificates are meant, as \
                 `acme: {{directory: staging, domains: [example.com]}}`",
                server.id
            );
            context.error(fields.span("id"), message);
        }
        return;
    };
    let span = fields.span("acme");
    if !servers.iter().any(shows) {
        let message = "no listener shows these certificates: write `acme: true` in the `tls` of one";
        context.report.warning(span, message);
    }
    let is_plain = |it: &Server| it.http.iter().any(|it| it.tls.is_none());
    match acme.challenge {
        AcmeChallenge::Http01 if !servers.iter().any(is_plain) => {
            let message = "the authority asks for `http-01` at port 80, and no server of the cluster has an `http` listener without \
                           `tls`: add one, or take `challenge: tls-alpn-01`";
            context.report.warning(span, message);
        }
        AcmeChallenge::TlsAlpn01
            if servers.iter().flat_map(tls_of).any(|it| it.client_auth == ClientAuth::Required) =>
        {
            let message = "the authority has no client certificate, and so can't ask for `tls-alpn-01` at a listener with \
                           `client-auth: required`: take `challenge: http-01`";
            context.error(span, message);
        }
        _ => {}
    }
}

/// The listeners that show what is got.
fn tls_of(server: &Server) -> impl Iterator<Item = &ListenerTls> {
    server.http.iter().filter_map(|it| it.tls.as_ref()).filter(|it| it.acme)
}

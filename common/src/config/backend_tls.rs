//! `tls` of an `http-proxy`: by what its backends are known, and what they are shown.

use super::{
    decode::{Context, Fields},
    file_path::{CertificateFiles, FilePath},
    keys,
    listener::VERSIONS,
    model::TlsVersion,
    node::Node,
    problem::Location,
    quoted::quoted,
    rule::{Backend, BackendAddress, BackendProtocol},
};
use rustls_pki_types::ServerName;

/// TLS to the backends of a rule whose addresses are `https://` or `h2://`.
#[derive(Debug, Clone)]
pub struct BackendTls {
    /// `ca` and `verify`.
    pub authorities: Authorities,
    /// `cert` and `key`: shown to backends that ask for a certificate.
    pub certificate: Option<CertificateFiles>,
    /// `server-name`: the name that their certificates are to bear, and that they are asked for by SNI (RFC 6066 §3); the host of
    /// each one's address without it.
    pub server_name: Option<String>,
    /// `min-version` (1.2).
    pub min_version: TlsVersion,
}

/// Whose signature makes a backend's certificate valid.
#[derive(Debug, Clone)]
pub enum Authorities {
    /// Those that the machine believes; where the rule stands that has backends with TLS.
    System(Location),
    /// `ca`: those of a file in PEM.
    File(FilePath),
    /// `verify: off`: any certificate is taken.
    Nobody,
}

/// Equal is what makes the same connections: where in the file it stands does not count.
impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        let paths = |it: &Self| {
            let own = it.certificate.as_ref().map(|it| (it.cert.path.clone(), it.key.path.clone()));
            let authorities = match &it.authorities {
                Authorities::System(_) => (true, None),
                Authorities::File(file) => (true, Some(file.path.clone())),
                Authorities::Nobody => (false, None),
            };
            (own, authorities)
        };
        paths(self) == paths(other)
            && (&self.server_name, self.min_version) == (&other.server_name, other.min_version)
    }
}

impl Eq for BackendTls {}

/// Reads `tls`; `None` when no backend has TLS. What the files hold is not looked at: they are on the servers that connect.
pub(super) fn decode(fields: &Fields<'_>, backends: &[Backend]) -> Option<BackendTls> {
    let context = fields.context;
    let encrypted = backends.iter().any(|it| it.tls);
    let read = decode_any(fields, backends, encrypted);
    let found = backends.iter().find(|it| it.tls && matches!(it.at, BackendAddress::Service(_)));
    if let Some(service) = found.filter(|_| read.as_ref().is_some_and(|it| it.server_name.is_none())) {
        let message = format!(
            "{} with TLS needs `tls: {{server-name: …}}`: who answers for DNS could name hosts of his own, whose certificates are valid",
            service.name()
        );
        context.error(fields.span("backends"), message);
    }
    read
}

fn decode_any(fields: &Fields<'_>, backends: &[Backend], encrypted: bool) -> Option<BackendTls> {
    let context = fields.context;
    match fields.get("tls") {
        Some(node) if !encrypted => {
            if !backends.is_empty() {
                let of_tcp = backends.iter().any(|it| it.protocol == BackendProtocol::Tcp);
                let schemes = if of_tcp { "tls://" } else { "https:// or h2://" };
                let message = format!("`tls` has no effect: no backend's address begins with {schemes}");
                context.error(node.span, message);
            }
            // For the faults that are in it.
            let _ = read(context, node);
            None
        }
        Some(node) => read(context, node),
        None => encrypted.then(|| BackendTls {
            authorities: Authorities::System(context.location(fields.span("backends"))),
            certificate: None,
            server_name: None,
            min_version: TlsVersion::Tls12,
        }),
    }
}

fn read(context: Context<'_>, node: &Node) -> Option<BackendTls> {
    let fields = Fields::open(context, node, &keys::BACKEND_TLS)?;
    let file = |key: &str| fields.get(key).map(|node| context.file_path(node));
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let verify = fields.choice("verify", &[("on", true), ("off", false)]).unwrap_or(true);
    if !verify {
        let message = "`verify: off` takes any certificate: whoever is between this server and its backends can read and change what passes";
        context.report.warning(fields.span("verify"), message);
        if ca.is_some() {
            context.error(fields.span("ca"), "`ca` does nothing with `verify: off`: leave one of them out");
        }
    }
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if fields.get(one).is_some() && fields.get(other).is_none() {
            let message = format!("`{one}` without `{other}`: a certificate is shown with its private key");
            context.error(fields.span(one), message);
        }
    }
    let min_version = fields.choice("min-version", &VERSIONS).unwrap_or(TlsVersion::Tls12);
    let server_name = fields.get("server-name").map(|node| context.checked(node, server_name));
    let authorities = match (verify, ca) {
        (false, _) => Authorities::Nobody,
        (true, None) => Authorities::System(context.location(node.span)),
        (true, Some(file)) => Authorities::File(file?),
    };
    let certificate = match (cert, key) {
        (Some(cert), Some(key)) => Some(CertificateFiles { cert: cert?, key: key? }),
        _ => None,
    };
    Some(BackendTls {
        authorities,
        certificate,
        server_name: match server_name {
            Some(name) => Some(name?),
            None => None,
        },
        min_version,
    })
}

/// A name that a certificate can bear: a host name or an IP address.
pub(super) fn server_name(text: &str) -> Result<(), String> {
    let refuse = |_| format!("expected a host name or an IP address, without a port, found {}", quoted(text));
    ServerName::try_from(text).map(drop).map_err(refuse)
}

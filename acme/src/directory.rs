//! How the authority is spoken to: HTTP/1.1 over TLS, one request a connection, with bounds on time and size.

use crate::times::RETRY_AFTER_MAX;
use bytes::Bytes;
use common::{
    config::{Acme, FilePath, Location},
    tls_files::{FileFault, chain, system_authorities},
};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::{
    error::Error as StdError,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// For a request and its whole answer.
const REQUEST: Duration = Duration::from_secs(30);

/// The largest answer: a chain of certificates has some 10 KiB.
const BODY_MAX: usize = 1 << 20;

const HTTPS: u16 = 443;

type Cause = Box<dyn StdError + Send + Sync>;

/// Speaks to an authority; its clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tls: Arc<ClientConfig>,
    /// How long the last answer that was a refusal has asked to wait.
    asked: Mutex<Option<Duration>>,
}

impl Directory {
    /// Reads who has signed the authority's own certificate. Blocks on the file system.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn new(acme: &Acme) -> Result<Self, FileFault> {
        let file = acme.ca.clone().unwrap_or_else(|| {
            let path = system_authorities().unwrap_or_else(|| PathBuf::from("ca-certificates"));
            FilePath { path, location: Location::default() }
        });
        if !file.path.is_absolute() {
            let message = "this machine has no file of authorities where it is looked for: install ca-certificates, or name a file with `ca`";
            return Err(FileFault::new(&file, message));
        }
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(chain(&file)?.0);
        if added == 0 {
            return Err(FileFault::new(&file, "no certificate in it is an authority's"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the library has TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(Inner { tls: Arc::new(config), asked: Mutex::default() })))
    }

    /// How long the last refusal has asked to wait, once.
    pub(crate) fn take_asked(&self) -> Option<Duration> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Full<Bytes>>, Cause> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") {
            return Err(format!("{uri}: the authority names a URL that is not https").into());
        }
        let host = uri.host().ok_or("a URL without a host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((bare.as_str(), uri.port_u16().unwrap_or(HTTPS))).await?;
        let name = ServerName::try_from(bare)?;
        let stream = TlsConnector::from(self.0.tls.clone()).connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(origin_form(request, &uri)?).await?;
            let (mut parts, body) = answer.into_parts();
            bound_retry_after(&mut parts.headers);
            let body = Limited::new(body, BODY_MAX).collect().await?.to_bytes();
            if parts.status.is_client_error() || parts.status.is_server_error() {
                *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner) = retry_after(&parts.headers);
            }
            Ok(Response::from_parts(parts, Full::new(body)))
        };
        // What becomes of the connection, the exchange is told.
        let driven = async {
            let _ended = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = driven => never,
        }
    }
}

/// As a server gets it: the path alone, and the host in a header.
fn origin_form(request: Request<Bytes>, uri: &Uri) -> Result<Request<Full<Bytes>>, Cause> {
    let (mut parts, body) = request.into_parts();
    let authority = uri.authority().map_or("", |it| it.as_str());
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority)?);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    parts.uri = uri.path_and_query().map_or("/", |it| it.as_str()).parse()?;
    Ok(Request::from_parts(parts, Full::new(body)))
}

/// `Retry-After` (RFC 9110 §10.2.3), in seconds or as a date; a week at most.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
        // Of digits alone, and no number: more than there is.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

/// The library adds it to the present time, which has an end: it sees a number of bounded size, or none.
fn bound_retry_after(headers: &mut http::HeaderMap) {
    match retry_after(headers) {
        Some(asked) => drop(headers.insert(header::RETRY_AFTER, asked.as_secs().into())),
        None => drop(headers.remove(header::RETRY_AFTER)),
    }
}

impl HttpClient for Directory {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let directory = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let uri = parts.uri.clone();
            let told = |cause: Cause| Error::Other(format!("{uri}: {}", chain_of(&*cause)).into());
            match timeout(REQUEST, directory.send(Request::from_parts(parts, body))).await {
                Ok(answer) => answer.map(BytesResponse::from).map_err(told),
                Err(_) => Err(told(format!("no answer within {REQUEST:?}").into())),
            }
        })
    }
}

/// An error and what has caused it.
fn chain_of(cause: &dyn StdError) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_read_as_seconds_or_a_date() {
        let asked = |text: &str| {
            let headers = [(header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        assert!(asked(&date).unwrap() > Duration::from_secs(3590));
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), None, "it is over");
        assert_eq!((asked("soon"), asked("-1")), (None, None));
        assert_eq!(retry_after(&http::HeaderMap::new()), None);
    }

    #[test]
    fn the_library_is_shown_no_wait_that_it_can_not_count() {
        let shown = |text: &str| {
            let mut headers = [(header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            bound_retry_after(&mut headers);
            headers.get(header::RETRY_AFTER).map(|it| it.to_str().unwrap().to_owned())
        };
        let week = RETRY_AFTER_MAX.as_secs().to_string();
        let far = ["18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"];
        for text in far {
            assert_eq!(shown(text).as_deref(), Some(week.as_str()), "{text}");
        }
        assert_eq!(shown("120").as_deref(), Some("120"));
        for text in ["", "soon", "-1", "+5", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}

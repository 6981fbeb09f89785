//! `forward-auth`: asks an authority about a request, with its head and without its body. What can't be asked does not pass.

use crate::{
    error::ProxyError,
    http1::{Fields, Name, RequestHead},
    proxy::{Answer, Passed, Reply, Way, cached::Nobody, prepare::prepare, try_servers},
    route::{Routes, trusted::Asker},
    upstream::{Upstream, sticky::Stickiness},
    worker::client::Client,
};
use common::config::ForwardAuth;
use http::Method;
use std::rc::Rc;
use tokio::time::timeout;

/// What an authority is asked is not what the client asks: conditions and ranges are for the server alone.
const NOT_ASKED: [&[u8]; 9] = [
    b"content-encoding",
    b"content-type",
    b"expect",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
];

/// By what authorities are told of a request: by us alone.
const OURS: [&[u8]; 7] = [
    b"x-forwarded-method",
    b"x-forwarded-uri",
    b"x-original-method",
    b"x-original-uri",
    b"x-original-url",
    b"x-rewrite-uri",
    b"x-rewrite-url",
];

/// Whether the request passes; then its head has what the authority says of it, and the values of the authority's `Set-Cookie` fields
/// are returned, for the client.
///
/// # Errors
/// What the client gets instead: the authority's answer, or why there is none.
pub(super) async fn ask(
    client: &Rc<Client>,
    asker: &Asker<'_>,
    (auth, upstream, routes): (&ForwardAuth, &Rc<Upstream>, &Routes),
    head: &mut RequestHead,
) -> Result<Vec<Vec<u8>>, Box<Result<Reply, ProxyError>>> {
    let refuse = |cause: ProxyError| Box::new(Err(cause));
    let mut asked = question(head, auth, routes).map_err(refuse)?;
    // With time-outs and a place among the worker's requests of its own.
    let client = client.stream();
    let way = Way {
        upstream,
        strategy: auth.proxy.strategy,
        sticky: false,
        stickiness: &Stickiness::None,
        session_url: None,
        mirrors: &[],
        knows_user: false,
        hash: None,
    };
    let outgoing = prepare(&client, asker, &way, &mut asked, &[]);
    let mut nobody = Nobody;
    let asking = try_servers(&client, &way, &mut asked, (outgoing, asker.address), &mut nobody);
    let passed = timeout(auth.timeout, asking).await.unwrap_or(Err(ProxyError::Silent)).map_err(refuse)?;
    if !passed.answer.head.status.is_success() {
        let Passed { answer: Answer { head, exchange, outgoing }, .. } = passed;
        return Err(Box::new(Ok(Reply::Server(Answer { head, exchange, outgoing }))));
    }
    take_over(&passed.answer.head.fields, auth, &mut head.fields);
    let cookies = passed.answer.head.fields.named("set-cookie").map(<[u8]>::to_vec).collect();
    passed.discard(&Method::GET);
    Ok(cookies)
}

/// The head of a GET that tells of the request.
fn question(head: &RequestHead, auth: &ForwardAuth, routes: &Routes) -> Result<RequestHead, ProxyError> {
    let mut asked = head.copy();
    asked.connection.nominates = head.connection.nominates;
    asked.method = Method::GET;
    asked.fields.remove_if(|field| {
        NOT_ASKED.iter().any(|name| field.name.eq_ignore_ascii_case(name))
            || OURS.iter().any(|name| Name::is_alike(field.name, name))
    });
    asked.fields.push(Name::Other, b"x-forwarded-method", head.method.as_str().as_bytes());
    asked.fields.push(Name::Other, b"x-forwarded-uri", head.target.as_bytes());
    asked.set_target(&auth.path, &routes.head_limits)?;
    Ok(asked)
}

/// Puts what the authority says in place of what the client has said, or of nothing: a field that it leaves out is not the client's to say.
fn take_over(said: &Fields, auth: &ForwardAuth, fields: &mut Fields) {
    for name in &auth.copy_headers {
        fields.remove_if(|field| Name::is_alike(field.name, name.as_bytes()));
        for value in said.named(name) {
            fields.push(Name::of(name.as_bytes()), name.as_bytes(), value);
        }
    }
}

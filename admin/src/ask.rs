//! Asks servers the same question at once; one that does not answer in time is told as silent.

use crate::status::collect::{WAIT, WHY_MAX};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Code, Response, Status, transport::Channel};

/// A server that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SilentServer {
    pub(crate) server: String,
    pub(crate) why: String,
}

/// What servers said, and which of them said nothing. A server that does not have the service at all is in neither.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) said: Vec<(String, T)>,
    pub(crate) silent: Vec<SilentServer>,
    /// What is wrong with what was asked, as one of the silent says.
    pub(crate) invalid: Option<String>,
}

/// Asks each of `servers`.
pub(crate) async fn ask_all<T, F>(
    servers: Vec<(String, Channel)>,
    call: impl Fn(String, Channel) -> F,
) -> Answers<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let asked = servers.into_iter().map(|(server, channel)| {
        let answer = timeout(WAIT, call(server.clone(), channel));
        async move { (server, answer.await) }
    });
    let mut answers = Answers { said: Vec::new(), silent: Vec::new(), invalid: None };
    for (server, answer) in join_all(asked).await {
        let why = match answer {
            Ok(Ok(answer)) => {
                answers.said.push((server, answer.into_inner()));
                continue;
            }
            Ok(Err(refused)) if refused.code() == Code::Unimplemented => continue,
            Ok(Err(refused)) => {
                let why: String = refused.message().chars().take(WHY_MAX).collect();
                if refused.code() == Code::InvalidArgument {
                    answers.invalid = Some(why.clone());
                }
                why
            }
            Err(_) => format!("no answer within {WAIT:?}"),
        };
        answers.silent.push(SilentServer { server, why });
    }
    answers
}

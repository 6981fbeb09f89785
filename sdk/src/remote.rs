//! The app API's client: sessions over the Unix socket `COPAL_HUB`.

use crate::{environment::Token, error::SessionError};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use proto::app::v1::{
    ChangeIdRequest, InvalidateRequest, LoadRequest, UpdateRequest, sessions_client::SessionsClient,
};
use std::{collections::HashMap, path::PathBuf, time::Duration};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

/// Largest message.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// A call takes at most this long; the server's own limits are well below.
const CALL_MAX: Duration = Duration::from_secs(30);

/// The sessions of this app's server.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    client: SessionsClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
}

/// Names a request in flight: the values of its `X-Copal-Request` and `X-Session-Id`.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) request: String,
    pub(crate) session: String,
}

impl Remote {
    /// Connects when it is first used.
    pub(crate) fn new(hub: PathBuf, token: &Token) -> Self {
        let connect = tower::service_fn(move |_: Uri| {
            let hub = hub.clone();
            async move { UnixStream::connect(hub).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://copal").timeout(CALL_MAX);
        let client = SessionsClient::new(endpoint.connect_with_connector_lazy(connect))
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        // A token that can't be sent is refused by the server.
        Self { client, token: token.0.parse().ok() }
    }

    pub(crate) async fn load(&self, call: &Call) -> Result<HashMap<String, Bytes>, SessionError> {
        let message = LoadRequest { session_id: call.session.clone() };
        let reply = self.client.clone().load(self.request(call, message)).await?;
        Ok(reply.into_inner().attributes)
    }

    pub(crate) async fn update(
        &self,
        call: &Call,
        set: HashMap<String, Bytes>,
        removed: Vec<String>,
    ) -> Result<(), SessionError> {
        let message = UpdateRequest { session_id: call.session.clone(), set, removed };
        self.client.clone().update(self.request(call, message)).await?;
        Ok(())
    }

    pub(crate) async fn invalidate(&self, call: &Call) -> Result<(), SessionError> {
        let message = InvalidateRequest { session_id: call.session.clone() };
        self.client.clone().invalidate(self.request(call, message)).await?;
        Ok(())
    }

    pub(crate) async fn change_id(&self, call: &Call) -> Result<String, SessionError> {
        let message = ChangeIdRequest { session_id: call.session.clone() };
        let reply = self.client.clone().change_id(self.request(call, message)).await?;
        Ok(reply.into_inner().session_id)
    }

    fn request<T>(&self, call: &Call, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("copal-token", token.clone());
        }
        if let Ok(handle) = call.request.parse() {
            metadata.insert("copal-request", handle);
        }
        request
    }
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::Aborted => Self::Stale(text),
            Code::FailedPrecondition => Self::Over,
            Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange => Self::Refused(text),
            code => Self::Unavailable(format!("{code}: {text}")),
        }
    }
}

//! The OpenAI API over HTTP/1.1: vLLM and similar servers. A request has a connection of its own
//! while it lasts. Closing it is the only way to tell such servers that a response is not needed
//! any more. After a complete answer the connection is kept ([`tensorgate_net::http1`] has the
//! rules).

mod answer;
mod arguments;
mod call_names;
mod chunk;
mod error_answer;
mod events;
mod lenient;
mod picture_links;
mod response_memory;
mod stream;
#[cfg(test)]
mod tests;
mod usage;
mod vector;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Request, StatusCode};
use serde::Deserialize;
use tensorgate_base::client_key::ClientKey;
use tensorgate_judge::document::Document;
use tensorgate_net::dialer::Dialer;
use tensorgate_net::http1::client::{Answer, Http1Client, SendError};
use tensorgate_net::http1::{AnswerBody, Observe, Reuse};
use tensorgate_policy::contract::openai::MAX_CALL_WORD_BYTES;
use tensorgate_policy::denial::ClientErrorStatus;
use tensorgate_policy::values::ConnectionSharing;
use tokio::time::Instant;

use super::BackendError;
use super::rejection::ServerKind;
pub use answer::{CheckedResponse, check};
pub use response_memory::answer_copies;
pub use response_memory::{ResponseMemory, required_bytes};
pub use stream::EventStream;

// What an answer carries comes back in the next request, where escaping may double it.
const _: () = assert!(2 * call_names::MAX_WORD_BYTES <= MAX_CALL_WORD_BYTES);

/// The media type of a streamed response.
const EVENTS: &str = "text/event-stream";
/// The most bytes of a model list: thousands of models.
const MAX_MODELS_BYTES: usize = 1 << 20;
/// The most bytes of an error that are read so that its connection may be kept.
const MAX_UNUSED_BYTES: usize = 16 << 10;
/// The longest time for reading them. They come with the head as a rule.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// A client for one server.
#[derive(Debug)]
pub struct Upstream {
    /// `host:port`.
    authority: String,
    client: Http1Client,
    sharing: ConnectionSharing,
}

/// An inference request; a probe is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inference {
    /// The kind of the server.
    pub(super) server: ServerKind,
    /// The client whose request it is.
    pub(super) client_key: ClientKey,
}

impl Upstream {
    /// Creates a client for `http://host:port`, or with TLS for `https://host:port`. Returns `None`
    /// for another address.
    pub(super) fn new(
        uri: &str,
        dialer: &Dialer,
        sharing: ConnectionSharing,
        observer: Arc<dyn Observe>,
    ) -> Option<Self> {
        let (_, authority) = uri.split_once("://")?;
        Some(Self {
            authority: authority.trim_end_matches('/').to_owned(),
            client: Http1Client::new(dialer.clone(), observer),
            sharing,
        })
    }

    /// Closes idle connections: the endpoint has failed.
    pub(super) fn close_idle(&self) {
        self.client.close_idle();
    }

    /// Sends a document and reads its response before the deadline. Returns `None` if the memory
    /// budget is exhausted. Dropping the future closes the connection.
    pub async fn complete(
        &self,
        document: &Document,
        request_id: &str,
        client_key: ClientKey,
        max_answer_bytes: usize,
        deadline: Instant,
        room: &mut ResponseMemory<'_>,
    ) -> Result<Option<Bytes>, BackendError> {
        let request = post(document, "application/json", request_id);
        let json = document.json.clone();
        let inference = Some(Inference::of(client_key));
        let bound = (max_answer_bytes, BackendError::TooLong);
        let answer = self.request(request, json, inference, bound, |bytes| {
            room.reserve_received(bytes)
        });
        let answer = within(deadline, answer).await?;
        Ok(answer.filter(|answer| room.reserve_checked(document, answer)))
    }

    /// Sends a document whose response is streamed, and reads the response head. `model` is the
    /// name that the caller used.
    pub async fn stream(
        &self,
        document: Document,
        model: &str,
        request_id: &str,
        client_key: ClientKey,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<EventStream, BackendError> {
        let request = post(&document, EVENTS, request_id);
        let inference = Some(Inference::of(client_key));
        let sent = self.send(request, document.json.clone(), inference);
        let answer = within(deadline, sent).await?;
        let kind = answer.head.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.as_bytes().get(..EVENTS.len()));
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS.as_bytes())) {
            return Err(BackendError::Fault(
                "an answer that is not an event stream".to_owned(),
            ));
        }
        let request_document = (document, model, request_id);
        Ok(EventStream::new(
            answer.lease,
            answer.body,
            request_document,
            max_answer_bytes,
            deadline,
        ))
    }

    /// The models that the server lists.
    pub async fn models(&self, deadline: Instant) -> Result<Vec<String>, BackendError> {
        #[derive(Deserialize)]
        struct Models {
            data: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let request = Request::get("/v1/models");
        let answer = self.request(
            request,
            Bytes::new(),
            None,
            own_bound(MAX_MODELS_BYTES),
            |_| true,
        );
        let answer = within(deadline, answer).await?.unwrap_or_default();
        let models: Models = serde_json::from_slice(&answer)
            .map_err(|error| BackendError::Fault(format!("its list of models: {error}")))?;
        Ok(models.data.into_iter().map(|named| named.id).collect())
    }

    /// Sends a request and reads a successful response before the deadline.
    pub(super) async fn exchange(
        &self,
        request: http::request::Builder,
        body: Bytes,
        inference: Option<Inference>,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        // The memory for the whole response was reserved before.
        let answer = self.request(request, body, inference, own_bound(max_bytes), |_| true);
        let answer = within(deadline, answer).await?;
        answer.ok_or_else(|| BackendError::Fault("a response without a memory permit".to_owned()))
    }

    /// Whether the server accepts a connection before the deadline.
    pub(super) async fn connects(&self, deadline: Instant) -> Result<(), BackendError> {
        let connect = async {
            let opened = self.client.connect().await;
            opened.map_err(|error| BackendError::Unsent(format!("no connection: {error}")))
        };
        within(deadline, connect).await
    }

    async fn request(
        &self,
        request: http::request::Builder,
        body: Bytes,
        inference: Option<Inference>,
        bound: (usize, BackendError),
        comes: impl FnMut(usize) -> bool,
    ) -> Result<Option<Bytes>, BackendError> {
        let Answer {
            head: _,
            mut body,
            lease: _lease,
        } = self.send(request, body, inference).await?;
        read(&mut body, bound, comes).await
    }

    /// Which kept connections a request may use. A probe uses none: its own connection shows that
    /// the server accepts connections.
    const fn reuse(&self, inference: Option<Inference>) -> Reuse {
        match (inference, self.sharing) {
            (None, _) | (Some(_), ConnectionSharing::OneRequest) => Reuse::Never,
            (Some(_), ConnectionSharing::Shared) => Reuse::Shared,
            (Some(inference), ConnectionSharing::PerClient) => {
                Reuse::OfClient(inference.client_key)
            }
        }
    }

    /// Sends a request and reads the head of a successful response. For an inference, a client
    /// error of the server is the client's.
    async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
        inference: Option<Inference>,
    ) -> Result<Answer, BackendError> {
        let request = request
            .header("host", &self.authority)
            .header("accept-encoding", "identity")
            .body(())
            .map_err(|error| BackendError::Fault(format!("cannot create the request: {error}")))?;
        let reuse = self.reuse(inference);
        let answer = self.client.send(&request, body, reuse).await;
        let answer = answer.map_err(to_backend_error)?;
        let status = answer.head.status;
        if status == StatusCode::OK {
            return check_coding(&answer.head.headers).map(|()| answer);
        }
        if let Some(Inference { server, .. }) = inference
            && let Some(error) = ClientErrorStatus::from_http(status.as_u16())
        {
            return Err(error_answer::read(server, error, answer).await);
        }
        // The text of other errors is not used. Its end lets the connection be kept, which matters
        // most while a busy server rejects many.
        let declared = answer.head.headers.get(http::header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok());
        let cause = match declared {
            Some(length) => format!("{status}, with a body of {length} bytes"),
            None => status.to_string(),
        };
        answer
            .body
            .drain(answer.lease, MAX_UNUSED_BYTES, DRAIN_TIMEOUT);
        Err(match status.as_u16() {
            // A busy server is reachable.
            429 | 503 => BackendError::Busy(cause),
            408 | 504 => BackendError::Timeout(cause),
            _ => BackendError::Fault(cause),
        })
    }
}

impl Inference {
    /// Of a client, at a server with the OpenAI API.
    const fn of(client_key: ClientKey) -> Self {
        Self {
            server: ServerKind::OpenAi,
            client_key,
        }
    }
}

/// The head of a document. It has nothing of the client's, except for token claims that the policy
/// maps to fields.
fn post(document: &Document, accept: &'static str, request_id: &str) -> http::request::Builder {
    let mut request = Request::post(document.api.path())
        .header("content-type", "application/json")
        .header("accept", accept)
        .header("x-request-id", request_id);
    if let Some(fields) = request.headers_mut() {
        fields.extend(document.claims.clone());
    }
    request
}

/// A bound on a body that no policy sets, and the error of a longer one.
fn own_bound(max_bytes: usize) -> (usize, BackendError) {
    let cause = format!("an answer of more than {max_bytes} bytes");
    (max_bytes, BackendError::Fault(cause))
}

/// Reads a complete body within its bound, or returns the bound's error. `comes` reserves memory
/// for this many bytes. Returns `None` if there is no memory.
async fn read(
    body: &mut AnswerBody,
    (max_bytes, too_long): (usize, BackendError),
    mut comes: impl FnMut(usize) -> bool,
) -> Result<Option<Bytes>, BackendError> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data =
            data.map_err(|error| BackendError::Broken(format!("the answer ended early: {error}")))?;
        let bytes = whole.len().saturating_add(data.len());
        if bytes > max_bytes {
            return Err(too_long);
        }
        if !comes(bytes) {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    whole.shrink_to_fit();
    Ok(Some(Bytes::from(whole)))
}

async fn within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(BackendError::Timeout(
            "no answer within the deadline".to_owned(),
        )),
    }
}

/// Checks that an answer is not compressed. Each request says that it must not be.
fn check_coding(headers: &HeaderMap) -> Result<(), BackendError> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let is_plain = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    if codings.all(|coding| is_plain(coding.as_bytes().trim_ascii())) {
        return Ok(());
    }
    fault("a compressed answer, which no request asks for: turn compression off at the server")
}

/// What follows a request without an answer.
fn to_backend_error(error: SendError) -> BackendError {
    let cause = error.to_string();
    match error {
        SendError::Unsent(_) => BackendError::Unsent(cause),
        SendError::ClosedKept(_) => BackendError::ClosedKept(cause),
        SendError::Closed(_) => BackendError::Unavailable(cause),
        SendError::Broken(_) => BackendError::Broken(cause),
        SendError::Ambiguous(_) | SendError::Early => BackendError::Fault(cause),
    }
}

/// An answer that is not passed on.
fn fault<T>(what: &str) -> Result<T, BackendError> {
    Err(BackendError::Fault(what.to_owned()))
}

//! The OpenAI API over HTTP/1.1: vLLM and similar servers. Each request has a connection of its
//! own. Closing it is the only way to tell such servers that a response is not needed any more. It
//! also keeps responses of different requests apart.

mod answer;
mod arguments;
mod call_names;
mod chunk;
mod connection;
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

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tensorgate_judge::document::Document;
use tensorgate_net::dialer::Dialer;
use tensorgate_policy::contract::openai::MAX_CALL_WORD_BYTES;
use tensorgate_policy::denial::ClientErrorStatus;
use tokio::time::Instant;

use super::BackendError;
use super::rejection::ServerKind;
pub use answer::{CheckedResponse, check};
use connection::Connection;
pub use response_memory::answer_copies;
pub use response_memory::{ResponseMemory, required_bytes};
pub use stream::EventStream;

// What an answer carries comes back in the next request, where escaping may double it.
const _: () = assert!(2 * call_names::MAX_WORD_BYTES <= MAX_CALL_WORD_BYTES);

/// The media type of a streamed response.
const EVENTS: &str = "text/event-stream";
/// The most bytes of a model list: thousands of models.
const MAX_MODELS_BYTES: usize = 1 << 20;

/// A client for one server.
#[derive(Debug)]
pub struct Upstream {
    /// `host:port`.
    authority: String,
    dialer: Dialer,
}

impl Upstream {
    /// Creates a client for `http://host:port`, or with TLS for `https://host:port`. Returns `None`
    /// for another address.
    pub(super) fn new(uri: &str, dialer: &Dialer) -> Option<Self> {
        let (_, authority) = uri.split_once("://")?;
        Some(Self {
            authority: authority.trim_end_matches('/').to_owned(),
            dialer: dialer.clone(),
        })
    }

    /// Sends a document and reads its response before the deadline. Returns `None` if the memory
    /// budget is exhausted. Dropping the future closes the connection.
    pub async fn complete(
        &self,
        document: &Document,
        request_id: &str,
        max_answer_bytes: usize,
        deadline: Instant,
        room: &mut ResponseMemory<'_>,
    ) -> Result<Option<Bytes>, BackendError> {
        let request = post(document, "application/json", request_id);
        let json = document.json.clone();
        let kind = Some(ServerKind::OpenAi);
        let bound = (max_answer_bytes, BackendError::TooLong);
        let answer = self.request(request, json, kind, bound, |bytes| {
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
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<EventStream, BackendError> {
        let request = post(&document, EVENTS, request_id);
        let sent = self.send(request, document.json.clone(), Some(ServerKind::OpenAi));
        let (connection, response) = within(deadline, sent).await?;
        let kind = response.headers().get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.as_bytes().get(..EVENTS.len()));
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS.as_bytes())) {
            return Err(BackendError::Fault(
                "an answer that is not an event stream".to_owned(),
            ));
        }
        let request_document = (document, model, request_id);
        Ok(EventStream::new(
            connection,
            response.into_body(),
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

    /// Sends a request and reads a successful response before the deadline. `kind` is that of the
    /// server if the request is an inference.
    pub(super) async fn exchange(
        &self,
        request: http::request::Builder,
        body: Bytes,
        kind: Option<ServerKind>,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        // The memory for the whole response was reserved before.
        let answer = self.request(request, body, kind, own_bound(max_bytes), |_| true);
        let answer = within(deadline, answer).await?;
        answer.ok_or_else(|| BackendError::Fault("a response without a memory permit".to_owned()))
    }

    /// Whether the server accepts a connection before the deadline.
    pub(super) async fn connects(&self, deadline: Instant) -> Result<(), BackendError> {
        within(deadline, Connection::open(&self.dialer))
            .await
            .map(drop)
    }

    async fn request(
        &self,
        request: http::request::Builder,
        body: Bytes,
        kind: Option<ServerKind>,
        bound: (usize, BackendError),
        comes: impl FnMut(usize) -> bool,
    ) -> Result<Option<Bytes>, BackendError> {
        let (_connection, response) = self.send(request, body, kind).await?;
        read(response.into_body(), bound, comes).await
    }

    /// Sends a request and reads the head of a successful response. For an inference, a client
    /// error of the server is the client's.
    async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
        kind: Option<ServerKind>,
    ) -> Result<(Connection, Response<Incoming>), BackendError> {
        let request = request
            .header("host", &self.authority)
            .header("connection", "close")
            .body(Full::new(body))
            .map_err(|error| BackendError::Fault(format!("cannot create the request: {error}")))?;
        let mut connection = Connection::open(&self.dialer).await?;
        let response = connection.send(request).await?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok((connection, response));
        }
        if let Some(kind) = kind
            && let Some(error) = ClientErrorStatus::from_http(status.as_u16())
        {
            return Err(error_answer::read(kind, error, response).await);
        }
        // The text of other errors is not read.
        let declared = response.headers().get(http::header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok());
        let cause = match declared {
            Some(length) => format!("{status}, with a body of {length} bytes"),
            None => status.to_string(),
        };
        Err(match status.as_u16() {
            // A busy server is reachable.
            429 | 503 => BackendError::Busy(cause),
            408 | 504 => BackendError::Timeout(cause),
            _ => BackendError::Fault(cause),
        })
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
    mut body: Incoming,
    (max_bytes, too_long): (usize, BackendError),
    mut comes: impl FnMut(usize) -> bool,
) -> Result<Option<Bytes>, BackendError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            BackendError::Unavailable(format!("the answer ended early: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
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

/// An answer that is not passed on.
fn fault<T>(what: &str) -> Result<T, BackendError> {
    Err(BackendError::Fault(what.to_owned()))
}

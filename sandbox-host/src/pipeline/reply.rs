//! The end of a request, and its response in HTTP: REST with a body, gRPC with frames and trailers,
//! denials in the caller's protocol. A response leaves this module only once its record was handed
//! to the audit log.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::request::DeniedRequest;
use tensorgate_policy::denial::{GrpcStatus, RateNote, UNAVAILABLE_RETRY_S};
use tensorgate_policy::{Denial, Protocol};
use tensorgate_wire::Answer;
use tensorgate_wire::answer::{percent_encoded, rate_fields};
use tensorgate_wire::context::RELEASE_TRAILER;
use tensorgate_wire::headers::JSON_LENGTH;

use super::chunk_stream::{ChunkStream, Source};
use super::record::Record;
use crate::backends::openai::EventStream;
use crate::counters::RequestUsage;

/// The gRPC status of a success.
const GRPC_OK: HeaderValue = HeaderValue::from_static("0");

/// Why a request gets no regular response.
#[derive(Debug)]
pub enum Failure {
    /// Verification denied it.
    Refused(Box<DeniedRequest>),
    /// The host denied it for another reason.
    Denied(Denial),
    /// Its body ended early.
    BrokenOff(Denial),
}

impl From<Box<DeniedRequest>> for Failure {
    fn from(refused: Box<DeniedRequest>) -> Self {
        Self::Refused(refused)
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Failure {
    /// Hands over the record. Returns the denial for the client.
    async fn write(self, record: &mut Record) -> Denial {
        match self {
            Self::Refused(refused) => {
                record.refused(&refused).await;
                refused.denial
            }
            Self::Denied(denial) => {
                record.denied(&denial).await;
                denial
            }
            Self::BrokenOff(denial) => {
                record.broken_off(&denial);
                denial
            }
        }
    }
}

/// The end of a request, or of a message of a stream: its record, and its response or why it has
/// none.
#[derive(Debug)]
pub struct Finish<T> {
    record: Record,
    response: Result<T, Failure>,
}

impl<T> Finish<T> {
    /// The end of a request whose processing returned `caught`, or panicked with a text.
    pub fn new(record: Record, caught: Result<Result<T, Failure>, String>) -> Self {
        let response = caught.unwrap_or_else(|panic| Err(record.panicked(panic).into()));
        Self { record, response }
    }

    /// Writes the audit record, then returns the response or the denial that takes its place.
    /// `extent` is the status of a response and the number of its bytes so far. `must_audit` says
    /// whether a response to a request for a model is denied if its record cannot be written.
    pub async fn write(
        self,
        extent: impl FnOnce(&T) -> (u16, usize),
        must_audit: impl FnOnce() -> bool,
    ) -> (Record, Result<T, Denial>) {
        let Self {
            mut record,
            response,
        } = self;
        let response = match response {
            Ok(response) => {
                let (status, bytes) = extent(&response);
                let written = record.audit_answer(status, bytes, must_audit).await;
                written.map(|()| response)
            }
            Err(failure) => Err(failure.write(&mut record).await),
        };
        (record, response)
    }
}

impl Finish<Reply> {
    /// Writes the audit record, then returns the response for the connection.
    pub async fn send(self, must_audit: impl FnOnce() -> bool) -> Response<ReplyBody> {
        let (mut record, response) = self.write(Reply::extent, must_audit).await;
        match response {
            Ok(reply) => {
                let (status, bytes) = reply.extent();
                let Reply(mut response) = reply;
                add_rate_headers(&mut response, &record.rates);
                if let Some(pieces) = &mut response.body_mut().pieces {
                    pieces.set_ending(record.ending(status));
                }
                record.allowed(status, bytes);
                response
            }
            Err(denial) => refusal(&denial, &record),
        }
    }
}

/// A response that has no record yet. Only [`Finish::send`] hands it to the connection.
#[derive(Debug)]
pub struct Reply(Response<ReplyBody>);

impl Reply {
    /// Its HTTP status, and the bytes of a complete body.
    fn extent(&self) -> (u16, usize) {
        (self.0.status().as_u16(), self.0.body().len())
    }

    /// Holds a memory permit as long as the data is referenced, also by the connection.
    pub fn hold(&mut self, held: MemoryPermit) {
        let body = self.0.body_mut();
        body.data = body.data.take().map(|data| metered(data, held));
    }

    /// Gives permits and unused tokens back after the last chunk of a stream, which says how many
    /// tokens were used.
    pub fn settle_at_end(&mut self, usage: RequestUsage) {
        self.0.body_mut().usage = Some(usage);
    }

    /// Marks a response of the binary data extension, as Triton does.
    pub fn mark_binary(&mut self, json_bytes: usize) {
        let headers = self.0.headers_mut();
        put(headers, "content-type", "application/octet-stream");
        put(headers, JSON_LENGTH, &json_bytes.to_string());
    }
}

/// A response body: complete in memory, with trailers if the protocol needs them, or streamed.
#[derive(Debug)]
pub struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// The stream, instead of data.
    pieces: Option<ChunkStream>,
    /// Tokens and permits of the stream.
    usage: Option<RequestUsage>,
    /// Whether the length is not announced, so that the gate waits for the trailers.
    open: bool,
}

/// Data with its memory permit. The connection may hold the data longer than the body.
struct MeteredBytes {
    data: Bytes,
    _held: MemoryPermit,
}

/// Data that holds its memory permit until the last reference is dropped.
pub(crate) fn metered(data: Bytes, held: MemoryPermit) -> Bytes {
    Bytes::from_owner(MeteredBytes { data, _held: held })
}

impl AsRef<[u8]> for MeteredBytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl ReplyBody {
    /// A body without content.
    const fn empty() -> Self {
        Self {
            data: None,
            trailers: None,
            pieces: None,
            usage: None,
            open: false,
        }
    }

    /// The number of data bytes.
    fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pieces) = &mut self.pieces {
            if let Some(piece) = ready!(pieces.poll(context)) {
                return Poll::Ready(Some(Ok(piece)));
            }
            let tokens = pieces.tokens();
            self.pieces = None;
            let refund = self.usage.take().and_then(|usage| usage.refund);
            if let Some((refund, tokens)) = refund.zip(tokens) {
                refund.used(tokens);
            }
        }
        let frame = self
            .data
            .take()
            .map(Frame::data)
            .or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.pieces.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.open || self.pieces.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(u64::try_from(self.len()).unwrap_or(u64::MAX))
    }
}

/// A successful response. `status` is for REST; gRPC has its status in the trailers.
pub fn success(protocol: Protocol, status: StatusCode, body: Vec<u8>, request_id: &str) -> Reply {
    let mut response = Response::new(ReplyBody::empty());
    let (content_type, trailers) = if protocol.is_grpc() {
        let mut trailers = HeaderMap::new();
        trailers.insert(HeaderName::from_static("grpc-status"), GRPC_OK);
        ("application/grpc", Some(trailers))
    } else {
        *response.status_mut() = status;
        ("application/json", None)
    };
    if protocol.is_grpc() || !body.is_empty() {
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        );
    }
    put(response.headers_mut(), "x-request-id", request_id);
    // Of a server or a model that is not ready.
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let wait = HeaderValue::from(UNAVAILABLE_RETRY_S);
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, wait);
    }
    let data = (!body.is_empty()).then(|| Bytes::from(body));
    *response.body_mut() = ReplyBody {
        data,
        trailers,
        ..ReplyBody::empty()
    };
    Reply(response)
}

/// A successful response that is streamed as server-sent events.
pub fn events(streamed: EventStream, request_id: &str) -> Reply {
    let mut reply = success(Protocol::OpenAi, StatusCode::OK, Vec::new(), request_id);
    let headers = reply.0.headers_mut();
    put(headers, "content-type", "text/event-stream");
    put(headers, "cache-control", "no-cache");
    reply.0.body_mut().pieces = Some(ChunkStream::new(streamed));
    reply
}

/// A stream of gRPC messages. The source also sends the trailers.
pub(crate) fn messages<S: Source>(source: S, request_id: &str) -> Reply {
    let mut reply = success(Protocol::OipGrpc, StatusCode::OK, Vec::new(), request_id);
    let body = reply.0.body_mut();
    body.trailers = None;
    body.pieces = Some(ChunkStream::new(source));
    reply
}

/// The trailers at the end of a stream, with the gRPC status.
pub(crate) fn trailers(denial: Option<&Denial>, request_id: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    match denial.map(|denial| Answer::to_denial(denial, Protocol::OipGrpc, request_id)) {
        Some(Answer::Grpc {
            status,
            message,
            headers,
        }) => grpc_fields(&mut trailers, status, &message, headers),
        // Denials of this protocol are always gRPC.
        Some(Answer::Rest { .. }) => {
            grpc_fields(&mut trailers, GrpcStatus::Internal, "", Vec::new());
        }
        None => {
            trailers.insert(HeaderName::from_static("grpc-status"), GRPC_OK);
        }
    }
    trailers
}

fn grpc_fields(
    fields: &mut HeaderMap,
    status: GrpcStatus,
    message: &str,
    headers: Vec<(&'static str, String)>,
) {
    put(fields, "grpc-status", &(status as u8).to_string());
    put(fields, "grpc-message", &percent_encoded(message));
    for (name, value) in headers {
        put(fields, name, &value);
    }
}

/// Adds the remaining quota of the caller's limits. In gRPC it is initial metadata.
fn add_rate_headers(response: &mut Response<ReplyBody>, rates: &[RateNote]) {
    for (name, value) in rate_fields(rates) {
        put(response.headers_mut(), name, &value);
    }
}

/// A denial. If the request was charged, the response has the remaining quota.
fn refusal(denial: &Denial, record: &Record) -> Response<ReplyBody> {
    let trailers = record.host_release.as_deref().and_then(|release| {
        let value = HeaderValue::from_str(release).ok()?;
        let name = HeaderName::from_static(RELEASE_TRAILER);
        Some(HeaderMap::from_iter([(name, value)]))
    });
    let mut response = denied(denial, (record.protocol, record.request_id()), trailers);
    if denial.rates.is_empty() {
        add_rate_headers(&mut response, &record.rates);
    }
    response
}

/// The answer to a readiness probe, which has no record.
pub fn to_probe(verified: Result<(), &Denial>) -> Response<ReplyBody> {
    match verified {
        Ok(()) => {
            let mut response = Response::new(ReplyBody::empty());
            response.body_mut().data = Some(Bytes::from_static(b"ready\n"));
            response
        }
        Err(denial) => denied(denial, (Protocol::OipRest, ""), None),
    }
}

/// A denial in the form of a protocol, with trailers for the gate.
fn denied(
    denial: &Denial,
    (protocol, request_id): (Protocol, &str),
    mut trailers: Option<HeaderMap>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::empty());
    match Answer::to_denial(denial, protocol, request_id) {
        Answer::Rest {
            status,
            headers,
            body,
        } => {
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            for (name, value) in headers {
                put(response.headers_mut(), name, &value);
            }
            response.body_mut().data = Some(Bytes::from(body));
        }
        // Trailers-only: one header block that ends the stream. A text for the gate needs a second
        // one.
        Answer::Grpc {
            status,
            message,
            headers,
        } => {
            put(response.headers_mut(), "content-type", "application/grpc");
            let fields = trailers.as_mut().unwrap_or(response.headers_mut());
            grpc_fields(fields, status, &message, headers);
        }
    }
    response.body_mut().open = trailers.is_some();
    response.body_mut().trailers = trailers;
    response
}

/// Sets a field. An invalid value is left out, because a response without it is better than none.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.insert(HeaderName::from_static(name), value);
        }
        Err(_) => tracing::error!(name, value, "invalid header value in a response"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn what_is_not_ready_has_retry_after() {
        for (status, expected) in [
            (StatusCode::OK, None),
            (StatusCode::SERVICE_UNAVAILABLE, Some("1")),
        ] {
            let Reply(response) = success(Protocol::OipRest, status, b"{}".to_vec(), "id-1");
            let wait = response.headers().get("retry-after");
            assert_eq!(wait.and_then(|wait| wait.to_str().ok()), expected);
        }
    }

    #[tokio::test]
    async fn an_answers_bytes_are_held_as_long_as_its_data() {
        let budget = tensorgate_base::memory_budget::Budget::new(100);
        let mut held = budget.permit();
        assert!(held.resize(60));
        let mut reply = success(Protocol::OipRest, StatusCode::OK, b"x".to_vec(), "id-1");
        reply.hold(held);
        let Reply(mut response) = reply;
        let chunk = response.body_mut().frame().await.unwrap().unwrap();
        let chunk = chunk.into_data().unwrap();
        drop(response);
        assert_eq!((budget.used(), &*chunk), (60, &b"x"[..]));
        drop(chunk);
        assert_eq!(budget.used(), 0);

        let mut empty = success(Protocol::OipRest, StatusCode::OK, Vec::new(), "id-1");
        let mut held = budget.permit();
        assert!(held.resize(60));
        empty.hold(held);
        assert_eq!(budget.used(), 0, "there is nothing to hold them for");
    }

    #[tokio::test]
    async fn a_grpc_success_ends_in_trailers_and_a_rest_one_does_not() {
        for (protocol, trailers) in [(Protocol::OipGrpc, Some("0")), (Protocol::OipRest, None)] {
            let Reply(response) = success(protocol, StatusCode::OK, b"x".to_vec(), "id-1");
            assert_eq!(response.headers()["x-request-id"], "id-1");
            let collected = response.into_body().collect().await.unwrap();
            let status = collected
                .trailers()
                .map(|trailers| trailers["grpc-status"].to_str().unwrap().to_owned());
            assert_eq!(status.as_deref(), trailers, "{protocol:?}");
            assert_eq!(collected.to_bytes(), "x");
        }
    }
}

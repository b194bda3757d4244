//! The HTTP/2 connection of a channel, over which gRPC calls go. A call writes its frames directly
//! to the connection's queues and is woken by frames for its stream. There is no task and no queue
//! in between, which would add latency to each request.
//!
//! Each channel has one connection, opened on first use. A call that finds the connection closed
//! fails as not sent (`DialError::Closed`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::{Body as _, Frame, SizeHint};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::{Code, Status, Streaming};

use super::BackendError;
use super::connection::{CONNECT_TIMEOUT, Connector, DialError};
use super::oip::{Channel, MAX_METADATA_BYTES, with_deadline, within};

/// The user agent of the host.
const USER_AGENT: HeaderValue = HeaderValue::from_static("tensorgate");
/// The most bytes of header fields in a response. A gRPC server sends a handful.
const MAX_ANSWER_HEADER_BYTES: u32 = 16 << 10;
/// The flow-control windows in bytes: for one response, and for all of a connection.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 5 << 20;
/// The most open calls before the server has sent its own limit.
const FIRST_STREAMS: usize = 100;
/// The most streams that may be reset because of server errors. Beyond it the connection is closed
/// (CVE-2025-8671).
const MAX_RESET_STREAMS: usize = 1_024;
/// Header fields that gRPC uses in responses. No claim of a caller may set them.
const OWN_FIELDS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-message-type"];
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// The header field for message compression. The client accepts none.
const ENCODING: &str = "grpc-encoding";
/// The authority of a server behind a Unix socket.
const LOCAL: &str = "localhost";

/// The scheme and authority of calls.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    scheme: Scheme,
    authority: Authority,
}

impl Origin {
    /// Parses `http://host:port`, `https://host:port` or `unix:/path`.
    ///
    /// # Errors
    /// Returns what is wrong with the URI.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        if uri.starts_with("unix:") {
            return Ok(Self {
                scheme: Scheme::HTTP,
                authority: Authority::from_static(LOCAL),
            });
        }
        let parts = Uri::try_from(uri)
            .map_err(|error| error.to_string())?
            .into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("it has no host".to_owned());
        };
        Ok(Self { scheme, authority })
    }

    /// The full URI of a method's path.
    fn address(&self, method: Uri) -> Result<Uri, Status> {
        let mut parts = method.into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A channel for gRPC calls.
#[derive(Clone, Debug)]
pub(super) struct Http2Channel {
    shared: Arc<ChannelState>,
}

#[derive(Debug)]
struct ChannelState {
    origin: Origin,
    connector: Connector,
    requests: OnceCell<SendRequest<Bytes>>,
}

impl Http2Channel {
    /// Creates a channel. Its connection is opened on first use.
    pub(super) fn new(origin: Origin, connector: Connector) -> Self {
        Self {
            shared: Arc::new(ChannelState {
                origin,
                connector,
                requests: OnceCell::new(),
            }),
        }
    }

    /// Calls a method with an encoded message and these header fields. The response has at most
    /// `max_answer_bytes`.
    ///
    /// # Errors
    /// Returns the server's status, or why there is no response.
    pub(super) async fn unary<D>(
        &self,
        (method, mut fields, message): (&'static str, HeaderMap, Body),
        reader: D,
        max_answer_bytes: usize,
    ) -> Result<tonic::Response<D::Item>, Status>
    where
        D: Decoder<Error = Status> + Send + 'static,
    {
        for own in OWN_FIELDS {
            fields.remove(own);
        }
        fields.insert(http::header::TE, TRAILERS);
        fields.insert(http::header::CONTENT_TYPE, GRPC);
        let mut request = Request::new(message);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(method);
        *request.headers_mut() = fields;
        let (head, body) = self.clone().send(request).await?.into_parts();
        if let Some(encoding) = head.headers.get(ENCODING)
            && encoding != "identity"
        {
            let cause = format!("an answer in encoding {encoding:?}");
            return Err(Status::unimplemented(cause));
        }
        let mut answers = match Status::from_header_map(&head.headers) {
            None => {
                Streaming::new_response(reader, body, head.status, None, Some(max_answer_bytes))
            }
            Some(status) if status.code() == Code::Ok => Streaming::new_empty(reader, body),
            Some(status) => return Err(status),
        };
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::internal("an answer without a message"))?;
        // The trailers have the status.
        answers.trailers().await?;
        Ok(tonic::Response::new(answer))
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let shared = &*self.shared;
        let requests = shared.requests.get_or_try_init(|| shared.open()).await;
        let mut requests = requests.map_err(not_sent_status)?.clone();
        let (mut head, body) = request.into_parts();
        head.uri = shared.origin.address(head.uri)?;
        head.headers.insert(http::header::USER_AGENT, USER_AGENT);
        // A closed connection is reported here, or when the head is sent.
        let ready = poll_fn(|context| requests.poll_ready(context)).await;
        if ready.is_err() {
            return Err(shared.closed());
        }
        match requests.send_request(Request::from_parts(head, ()), false) {
            Ok((response, stream)) => Exchange::new(response, stream, body).await,
            Err(error) if error.is_io() || error.is_go_away() => Err(shared.closed()),
            // The head is invalid, and no server is to blame.
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

impl ChannelState {
    /// Opens the connection. A task serves it as long as it or one of its calls lives.
    async fn open(&self) -> Result<SendRequest<Bytes>, DialError> {
        let connection = self.connector.connect().await?;
        let handshake = h2::client::Builder::new()
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_ANSWER_HEADER_BYTES)
            .max_local_error_reset_streams(Some(MAX_RESET_STREAMS))
            .enable_push(false)
            .handshake(connection);
        let shaken = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await;
        let (requests, connection) = shaken
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = error.to_string(), "connection to a backend failed");
            }
        });
        Ok(requests)
    }

    /// The connection accepts no more calls, and this call was not sent.
    fn closed(&self) -> Status {
        // Recorded before the connection is dropped, because calls may still use it.
        self.connector.state.mark_lost();
        not_sent_status(DialError::Closed)
    }
}

impl Service<Request<Body>> for Http2Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// There was no connection.
fn not_sent_status(error: DialError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// The connection or the stream failed. The source of the status tells which.
fn connection_error(error: h2::Error) -> Status {
    let mut status = Status::unknown(error.to_string());
    status.set_source(Arc::new(error));
    status
}

// One call over a connection: the request is sent while the response is awaited. Dropping an
// unfinished call resets its stream.

/// A chunk up to this size is sent without waiting for the server's window. The connection queues
/// it. Longer chunks wait, so that a blocked stream does not reserve window that other streams
/// could use.
const MAX_UNRESERVED_CHUNK_BYTES: usize = 16 << 10;

/// A call whose response has not started.
#[derive(Debug)]
struct Exchange {
    response: ResponseFuture,
    sending: Option<RequestBody>,
}

impl Exchange {
    /// A call whose head was sent.
    const fn new(response: ResponseFuture, stream: SendStream<Bytes>, body: Body) -> Self {
        let sending = Some(RequestBody {
            stream,
            body,
            next: None,
        });
        Self { response, sending }
    }
}

impl Future for Exchange {
    type Output = Result<Response<Incoming>, Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        send(&mut self.sending, context)?;
        let response =
            ready!(Pin::new(&mut self.response).poll(context)).map_err(connection_error)?;
        let sending = self.sending.take();
        Poll::Ready(Ok(response.map(|stream| Incoming {
            stream,
            sending,
            data_finished: false,
        })))
    }
}

/// The body of a request that is being sent.
#[derive(Debug)]
struct RequestBody {
    stream: SendStream<Bytes>,
    body: Body,
    /// The next chunk, if it is available already.
    next: Option<Bytes>,
}

/// Sends what is available and fits in the window. Sending ends after the last chunk, or when the
/// server stops reading. In that case its response has the reason.
///
/// # Errors
/// Returns an error if the body fails.
fn send(sending: &mut Option<RequestBody>, context: &mut Context<'_>) -> Result<(), Status> {
    while let Some(left) = sending {
        match left.send_chunk(context) {
            Poll::Ready(Ok(SendState::More)) => {}
            Poll::Ready(Ok(SendState::Last)) => *sending = None,
            Poll::Ready(Err(status)) => {
                left.stream.send_reset(Reason::CANCEL);
                return Err(status);
            }
            Poll::Pending => return Ok(()),
        }
    }
    Ok(())
}

/// Whether more data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    More,
    Last,
}

impl RequestBody {
    /// Sends one chunk.
    fn send_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<SendState, Status>> {
        let piece = match self.next.take() {
            Some(piece) => piece,
            None => match ready!(self.next_chunk(context)?) {
                Some(piece) => piece,
                None => {
                    // An error here is ignored. The response reports it.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(SendState::Last));
                }
            },
        };
        if piece.len() > MAX_UNRESERVED_CHUNK_BYTES && self.stream.capacity() == 0 {
            self.stream.reserve_capacity(1);
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(1..))) => {}
                Poll::Ready(Some(Ok(0))) => {
                    self.next = Some(piece);
                    return Poll::Ready(Ok(SendState::More));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(SendState::Last)),
                Poll::Pending => {
                    self.next = Some(piece);
                    return Poll::Pending;
                }
            }
        }
        // Checks for the last chunk before sending, so that the end needs no frame of its own.
        let last = match self.next_chunk(context)? {
            Poll::Ready(next) => {
                self.next = next;
                self.next.is_none()
            }
            Poll::Pending => false,
        };
        let sent = match self.stream.send_data(piece, last) {
            Ok(()) if !last => SendState::More,
            Ok(()) | Err(_) => SendState::Last,
        };
        Poll::Ready(Ok(sent))
    }

    /// The next chunk of the body, `None` at its end. Requests have no trailers.
    fn next_chunk(&mut self, context: &mut Context<'_>) -> Result<Poll<Option<Bytes>>, Status> {
        Ok(match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(frame)) => Poll::Ready(frame?.into_data().ok()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }
}

/// A response body: data, then trailers. The rest of the request is sent meanwhile.
#[derive(Debug)]
pub(in crate::backends) struct Incoming {
    stream: RecvStream,
    sending: Option<RequestBody>,
    data_finished: bool,
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        send(&mut self.sending, context)?;
        if !self.data_finished {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // The data is counted elsewhere from here on. A finished stream has no window
                    // to release.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(stream_end(error)),
                None => self.data_finished = true,
            }
        }
        match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields)))),
            Err(error) => Poll::Ready(stream_end(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A stream that is reset without an error was answered before its request ended (RFC 9113, 8.1).
fn stream_end<T>(error: h2::Error) -> Option<Result<T, Status>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(connection_error(error)))
}

// An encoded inference message in chunks. Long chunks are the tensors' own bytes, which are not
// copied.

/// The field number of `raw_input_contents`.
const RAW_CONTENTS: u32 = 7;
/// Tensor data up to this size is copied, because a chunk of its own would cost more.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// The remaining chunks of a message. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct MessageChunks(VecDeque<Bytes>);

impl MessageChunks {
    /// Encodes a message with its gRPC prefix.
    ///
    /// # Errors
    /// Returns an error if the message is too long.
    pub fn encode(mut message: ModelInferRequest) -> Result<Self, BackendError> {
        let raw = std::mem::take(&mut message.raw_input_contents);
        let described = message.encoded_len();
        let bytes = raw.iter().fold(described, |sum, raw| {
            sum.saturating_add(field_header_bytes(raw))
                .saturating_add(raw.len())
        });
        let length = u32::try_from(bytes)
            .map_err(|_| BackendError::Fault(format!("a message of {bytes} bytes")))?;
        let copied = raw.iter().filter(|raw| raw.len() <= MAX_COPIED_BYTES);
        let copied = copied.fold(described, |sum, raw| sum.saturating_add(raw.len()));
        let heads = raw.iter().fold(PREFIX_BYTES, |sum, raw| {
            sum.saturating_add(field_header_bytes(raw))
        });
        let mut piece = BytesMut::with_capacity(copied.saturating_add(heads));
        piece.put_u8(0);
        piece.put_u32(length);
        message.encode_raw(&mut piece);
        let mut pieces = VecDeque::new();
        for raw in raw {
            encode_key(RAW_CONTENTS, WireType::LengthDelimited, &mut piece);
            encode_varint(to_u64(raw.len()), &mut piece);
            if raw.len() <= MAX_COPIED_BYTES {
                piece.put(raw);
            } else {
                pieces.push_back(piece.split().freeze());
                pieces.push_back(raw);
            }
        }
        if !piece.is_empty() {
            pieces.push_back(piece.freeze());
        }
        Ok(Self(pieces))
    }
}

/// The prefix of a gRPC message: a flag and a length.
const PREFIX_BYTES: usize = 5;

/// The bytes before a tensor's data.
fn field_header_bytes(raw: &Bytes) -> usize {
    key_len(RAW_CONTENTS).saturating_add(encoded_len_varint(to_u64(raw.len())))
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl hyper::body::Body for MessageChunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.0.iter().map(|piece| to_u64(piece.len()));
        SizeHint::with_exact(bytes.fold(0, u64::saturating_add))
    }
}

// gRPC calls without a generated client: raw bytes in both directions, or messages whose decoded
// size is checked before decoding.

/// A codec for raw bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        // The buffer has exactly one message, because its length comes before it.
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Computes the decoded size of a message in bytes, or why it must not be decoded.
pub(super) type DecodedSize = fn(&[u8]) -> Result<usize, String>;

/// The initial buffer for a response in bytes. Most are shorter, and longer ones announce their
/// length.
const FIRST_BYTES: usize = 512;
/// The buffer for streamed request messages. The host sends none.
const YIELD_THRESHOLD_BYTES: usize = 32 << 10;

/// The most that a decoded response may exceed its largest message. An item of one byte takes seven
/// bytes encoded and 33 decoded.
const MAX_DECODED_FACTOR: usize = 5;

/// A codec for generated messages. A response whose decoded size exceeds the limit is not decoded.
#[derive(Debug)]
pub(super) struct SizeCheckedCodec<Q, A> {
    decoded_size: DecodedSize,
    max_bytes: usize,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> SizeCheckedCodec<Q, A> {
    /// Creates a codec for response messages of at most `max_answer_bytes`.
    pub(super) const fn new(weigh: DecodedSize, max_answer_bytes: usize) -> Self {
        Self {
            decoded_size: weigh,
            max_bytes: max_answer_bytes.saturating_mul(MAX_DECODED_FACTOR),
            messages: PhantomData,
        }
    }
}

impl<A> SizeCheckedCodec<(), A> {
    /// Creates the decoder only.
    pub(super) const fn reader(weigh: DecodedSize, max_answer_bytes: usize) -> Self {
        Self::new(weigh, max_answer_bytes)
    }
}

impl<Q, A> Codec for SizeCheckedCodec<Q, A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self { ..*self }
    }

    fn decoder(&mut self) -> Self {
        Self { ..*self }
    }
}

impl<Q: prost::Message, A> Encoder for SizeCheckedCodec<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, message: Q, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = message.encode(into);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: prost::Message + Default> Decoder for SizeCheckedCodec<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        let takes = (self.decoded_size)(&message).map_err(Status::out_of_range)?;
        if takes > self.max_bytes {
            let most = self.max_bytes;
            return Err(Status::out_of_range(format!(
                "an answer of {takes} bytes once it is decoded, of {most} at most"
            )));
        }
        let decoded = A::decode(message);
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FIRST_BYTES, YIELD_THRESHOLD_BYTES)
    }
}

impl Channel {
    /// A gRPC client for responses of at most `max_answer_bytes`.
    pub(super) async fn grpc_client(
        &self,
        max_answer_bytes: usize,
    ) -> Result<Grpc<Http2Channel>, Status> {
        let mut caller = Grpc::new(self.http2())
            .max_decoding_message_size(max_answer_bytes)
            // Requests were bounded when they were read.
            .max_encoding_message_size(usize::MAX);
        let ready = caller.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        Ok(caller)
    }

    /// Calls a method. The response has at most `max_answer_bytes`. `claims` are sent as metadata.
    pub(super) async fn unary(
        &self,
        method: &'static str,
        message: Bytes,
        claims: Option<&HeaderMap>,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let mut request = with_deadline(message, deadline);
        if let Some(claims) = claims {
            request.metadata_mut().as_mut().extend(claims.clone());
        }
        let answer = async {
            let mut caller = self.grpc_client(max_answer_bytes).await?;
            let method = PathAndQuery::from_static(method);
            caller.unary(request, method, RawCodec).await
        };
        within(deadline, answer).await
    }

    /// TF Serving's status of a model's version.
    pub async fn status(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::status_request(model, version).into();
        self.unary(
            tf_serving::STATUS,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }

    /// TF Serving's description of a model's version.
    pub async fn signature(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::metadata_request(model, version).into();
        self.unary(
            tf_serving::METADATA,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }

    /// TorchServe's health status.
    pub async fn ping(&self, deadline: Instant) -> Result<Bytes, BackendError> {
        let message = Bytes::new();
        self.unary(
            torchserve::PING,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod encoded_tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_message_in_pieces_is_the_message_and_long_tensors_are_not_copied() {
        let long = Bytes::from(vec![1; MAX_COPIED_BYTES + 1]);
        let short = Bytes::from_static(b"short");
        for raw in [
            vec![],
            vec![short.clone()],
            vec![Bytes::new(), short.clone()],
            vec![long.clone()],
            vec![long.clone(), short.clone(), long.clone()],
            vec![short, long.clone(), long.clone()],
        ] {
            let message = ModelInferRequest {
                model_name: "m".into(),
                id: "1".into(),
                raw_input_contents: raw,
                ..ModelInferRequest::default()
            };
            let pieces = MessageChunks::encode(message.clone()).unwrap();
            let kept = pieces.0.iter().filter(|it| it.as_ptr() == long.as_ptr());
            let longs = message
                .raw_input_contents
                .iter()
                .filter(|it| it.len() > MAX_COPIED_BYTES);
            assert_eq!(kept.count(), longs.count());
            let sent = pieces.collect().await.unwrap().to_bytes();
            let (prefix, text) = sent.split_at(PREFIX_BYTES);
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            assert_eq!(prefix, [&[0], &length[..]].concat());
            assert_eq!(ModelInferRequest::decode(text).unwrap(), message);
        }
    }
}

//! A line's one HTTP/2 connection, as the channel that gRPC calls go over. A call puts its frames into the connection's own queues and is woken by what
//! comes back for its stream: between the two stands no task and no queue of anybody else's, of which each would be a hop a request.
//!
//! There is one connection, made when first used. Whoever finds it closed to further calls is told that nothing was sent ([`DialError::Spent`]).

mod exchange;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use tokio::sync::OnceCell;
use tonic::body::Body;
use tonic::codec::Decoder;
use tonic::codegen::Service;
use tonic::{Code, Status, Streaming};

use super::link::{CONNECT_TIMEOUT, Connector, DialError};
use exchange::Exchange;
pub(super) use exchange::Incoming;

/// What we call ourselves.
const USER_AGENT: HeaderValue = HeaderValue::from_static("tensorgate");
/// Header fields of an answer, bytes; a gRPC server sends a handful.
const MAX_ANSWER_HEADER_BYTES: u32 = 16 << 10;
/// What a server may send us unread, bytes: of one answer, and of all together.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 5 << 20;
/// Calls that may be open before the server has said how many it takes.
const FIRST_STREAMS: usize = 100;
/// Streams that we may reset for a server's faults; beyond, the connection is closed (CVE-2025-8671).
const MAX_RESET_STREAMS: usize = 1_024;
/// Fields that gRPC has for answers, and that no claim of a caller's can stand for.
const OWN_FIELDS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-message-type"];
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// How messages are compressed. We say of none that we read it.
const ENCODING: &str = "grpc-encoding";
/// What a server behind a Unix socket is called.
const LOCAL: &str = "localhost";

/// To whom calls are addressed.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    scheme: Scheme,
    authority: Authority,
}

impl Origin {
    /// Of `http://host:port`, `https://host:port` or `unix:/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(uri: &str) -> Result<Self, String> {
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

    /// A method's path as a whole address.
    fn address(&self, method: Uri) -> Result<Uri, Status> {
        let mut parts = method.into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))
    }
}

/// What calls go over.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    origin: Origin,
    connector: Connector,
    requests: OnceCell<SendRequest<Bytes>>,
}

impl Channel {
    /// Over a connection that is made when first used.
    pub(super) fn new(origin: Origin, connector: Connector) -> Self {
        Self {
            shared: Arc::new(Shared {
                origin,
                connector,
                requests: OnceCell::new(),
            }),
        }
    }

    /// Calls a method by its path with a message that is written already, under these fields; what comes back has at most `max_answer_bytes`.
    ///
    /// # Errors
    /// What the server says, or why nothing came of it.
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
        // Whether it is one stands behind it.
        answers.trailers().await?;
        Ok(tonic::Response::new(answer))
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let shared = &*self.shared;
        let requests = shared.requests.get_or_try_init(|| shared.open()).await;
        let mut requests = requests.map_err(not_sent)?.clone();
        let (mut head, body) = request.into_parts();
        head.uri = shared.origin.address(head.uri)?;
        head.headers.insert(http::header::USER_AGENT, USER_AGENT);
        // A connection that takes no more says so here, or as the head is handed over.
        let ready = poll_fn(|context| requests.poll_ready(context)).await;
        if ready.is_err() {
            return Err(shared.spent());
        }
        match requests.send_request(Request::from_parts(head, ()), false) {
            Ok((response, stream)) => Exchange::new(response, stream, body).await,
            Err(error) if error.is_io() || error.is_go_away() => Err(shared.spent()),
            // The head is none, and no server is to blame.
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

impl Shared {
    /// Makes the connection, and has it served by a task for as long as it or a call over it lives.
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
                tracing::debug!(cause = error.to_string(), "a connection to a backend broke");
            }
        });
        Ok(requests)
    }

    /// The connection takes no more calls, and this one was not sent.
    fn spent(&self) -> Status {
        // Known before the connection is dropped: calls may still run over it.
        self.connector.fate.lose();
        not_sent(DialError::Spent)
    }
}

impl Service<Request<Body>> for Channel {
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

/// There was no connection to send anything over.
fn not_sent(error: DialError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// The connection broke, or this stream of it was reset: which, is its source.
fn broken(error: h2::Error) -> Status {
    let mut status = Status::unknown(error.to_string());
    status.set_source(Arc::new(error));
    status
}

#[cfg(test)]
mod tests;
